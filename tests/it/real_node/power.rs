//! The node's power is cut in each step, and it starts again: runner and helm, controller, Coder and its database are gone at
//! once, and nobody could say so.

use coder_upgrade_operator::api::Phase;
use serde_json::json;
use testbed::Cluster;
use testbed::supervisor::state::NodeKind;

use super::{own_cluster, upgrading};
use crate::common::World;
use crate::common::node::left_out_on;

/// Name, UID and volume of each claim.
type Claims = Vec<(String, String, String)>;

/// Cuts the power in a step, and sees that the upgrade is verified in the end, on the same volumes.
async fn survives(cluster: &'static Cluster, world: World, before: Claims) {
    cluster.cut_power().await.unwrap();
    world.ready("coder").await;
    assert_eq!(world.claims().await, before);
    assert_eq!(world.release().await.1, "deployed");
    world.finish().await;
}

#[tokio::test]
async fn an_upgrade_is_verified_after_a_power_cut_in_any_step() {
    if left_out_on(NodeKind::Process, "safety::never_forgotten kills its containers one by one").await {
        return;
    }
    let cluster = own_cluster().await;

    let world = World::on(cluster, "dark-helm").await;
    upgrading(&world, "20s").await;
    let before = world.claims().await;
    survives(cluster, world, before).await;

    let world = World::on(cluster, "dark-plan").await;
    let before = declared(&world, "0s").await;
    world.phase("coder", Phase::Planning).await;
    world.runner_pod("plan").await;
    survives(cluster, world, before).await;

    let world = World::on(cluster, "dark-verify").await;
    let before = declared(&world, "30s").await;
    world.phase("coder", Phase::Verifying).await;
    survives(cluster, world, before).await;
    cluster.down().await.unwrap();
}

/// An upgrade that is asked for, with this soak; returns what must be kept.
async fn declared(world: &World, soak: &str) -> Claims {
    world.database().await;
    world.install("coder", &world.repositories().v2, "2.30.0", "coder-v2-values.yaml", &[]).await;
    let before = world.claims().await;
    let chart = json!({"repository": world.repositories().v2});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "verify": {"soak": soak}})).await;
    before
}
