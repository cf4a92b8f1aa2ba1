//! A real Kubernetes control plane for tests and demonstrations, as an ordinary user, on loopback.

pub mod charts;
pub mod components;
pub mod process;
