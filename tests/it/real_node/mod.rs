//! P9 and P7: what only a kubelet with containerd shows.

mod drain;
mod kubelet;
mod leader;
mod memory;
mod outage;
mod postgres;
mod power;
mod runner_image;

use coder_upgrade_operator::api::Phase;
use serde_json::json;
use testbed::{Cluster, ClusterOptions, cluster::NodeChoice};

use crate::common::World;

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

/// An upgrade in the middle of helm's wait: the new pods take that long to start.
async fn upgrading(world: &World, delay: &str) {
    world.database().await;
    world.install("coder", &world.repositories().v2, "2.30.0", "coder-v2-values.yaml", &[]).await;
    let annotations = json!({"testbed.coderupgrade.dev/start-delay": delay});
    let values = json!({"coder": {"podAnnotations": annotations}});
    let spec = json!({"version": "2.31.7", "chart": {"repository": world.repositories().v2}, "values": values});
    world.declare("coder", spec).await;
    world.phase("coder", Phase::Upgrading).await;
    world.eventually("second revision", || async { (world.release().await.0 == 2).then_some(()) }).await;
}
