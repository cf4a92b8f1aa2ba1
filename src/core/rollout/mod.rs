//! What runs: workloads, pods and servers, and whether they are what was wanted.

pub mod addresses;
pub mod drift;
pub mod endpoint;
pub mod exposure;
pub mod health;
pub mod image;
pub mod inventory;
pub mod migration;
pub mod progress;
pub mod readiness;
pub mod refusal;
pub mod started;
pub mod verify;
pub mod workload;
