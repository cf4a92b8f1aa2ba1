//! P9 and P7: what only a kubelet with containerd shows.

mod kubelet;
mod leader;
mod memory;
mod outage;
mod runner_image;

use testbed::{Cluster, ClusterOptions, cluster::NodeChoice};

/// A cluster of a test's own, with the operator in it: what happens to its node must not happen to the other tests.
async fn own_cluster() -> &'static Cluster {
    let options = ClusterOptions {
        node: NodeChoice::Real,
        load_operator: true,
        owner_pid: Some(std::process::id()),
        ..ClusterOptions::default()
    };
    Box::leak(Box::new(Cluster::up(options).await.expect("a cluster with a real node")))
}
