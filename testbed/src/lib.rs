//! A real Kubernetes control plane for tests and demonstrations, as an ordinary user, on loopback.

pub mod address_range;
pub mod charts;
pub mod cluster;
pub mod components;
pub mod control_plane;
pub mod duration;
pub mod load_balancer;
pub mod node;
pub mod pki;
mod private_file;
mod ports;
pub mod process;
mod secret;
pub mod sim;
pub mod supervisor;
mod tail;

pub use cluster::{Cluster, ClusterOptions};
