//! Watching a rollout: workloads, pods, and what new servers say.

pub mod diagnosis;
pub mod health;
pub mod observer;
pub mod starts;
pub mod startup;
pub mod verify;
pub mod waits;
