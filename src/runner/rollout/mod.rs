//! Watching a rollout: workloads, pods, and what new servers say.

pub mod diagnosis;
pub mod goal;
pub mod health;
pub mod observer;
pub mod pod_log;
pub mod starts;
pub mod startup;
pub mod verify;
pub mod waits;
