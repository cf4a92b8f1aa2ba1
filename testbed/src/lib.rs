//! A real Kubernetes control plane for tests and demonstrations, as an ordinary user, on loopback; for root with a real node.
//!
//! From the outside in:
//! - [`cluster`]: start a cluster, find it again, use it, stop it; what tests and `cargo xtask` call;
//! - [`components`]: the programs it consists of, built once from pinned Go modules;
//! - [`supervisor`]: the process that holds one cluster together, and ends all of it;
//! - `control_plane`: etcd, API server, controller-manager, scheduler, with keys from [`pki`];
//! - [`node`]: runs pods as local processes; [`real_node`]: a kubelet that runs them as containers; [`sim`]: what stands for
//!   Coder in them;
//! - `load_balancer`, [`charts`]: what a cloud and the internet would bring;
//! - [`webhook`]: what admission webhooks do to pods; `pod_faults`: what pods ask a node for;
//! - [`servers`]: real servers of Coder, for those who have the programs;
//! - [`process`], [`address_range`]: small tools.
//!
//! Nothing of the operator depends on this crate.

pub mod address_range;
pub mod charts;
pub mod cluster;
pub mod components;
pub(crate) mod control_plane;
pub(crate) mod load_balancer;
pub mod node;
pub mod pki;
mod pod_faults;
pub mod ports;
mod private_file;
pub mod process;
pub mod real_node;
pub mod secret;
pub mod servers;
pub mod sim;
pub mod supervisor;
mod tail;
pub mod webhook;

pub use cluster::{Cluster, ClusterOptions};
