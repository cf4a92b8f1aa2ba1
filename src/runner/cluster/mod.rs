//! Objects of the cluster, of any kind.

pub mod addresses;
pub mod highest_version;
pub mod inventory;
pub mod kinds;
pub mod lease;
pub mod leftovers;
pub mod objects;
pub mod owners;
pub mod pod_secrets;
pub mod watch;
