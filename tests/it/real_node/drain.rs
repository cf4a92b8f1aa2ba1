//! The only node is drained while helm works: runner, controller, Coder and its database are evicted.

use serde_json::Value;
use testbed::supervisor::state::NodeKind;

use super::{own_cluster, upgrading};
use crate::common::World;
use crate::common::node::left_out_on;

#[tokio::test]
async fn a_node_that_is_drained_while_helm_works_and_comes_back_has_the_new_version() {
    if left_out_on(
        NodeKind::Process,
        "upgrade::interruptions shows an eviction there, and all other tests share its node",
    )
    .await
    {
        return;
    }
    let cluster = own_cluster().await;
    let world = World::on(cluster, "drained").await;
    upgrading(&world, "20s").await;
    let claims = world.claims().await;
    let drain = ["drain", "node-1", "--force", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=150s"];
    cluster.kubectl(&drain).await.unwrap();
    let history: Value = serde_json::from_str(&world.helm(&["history", "coder", "-o", "json"]).await).unwrap();
    assert_eq!(history[1]["status"], "failed", "helm was asked to end, and has said so: {history}");
    cluster.kubectl(&["uncordon", "node-1"]).await.unwrap();
    world.ready("coder").await;
    assert_eq!(world.release().await, (3, "deployed".into()));
    assert_eq!(world.claims().await, claims);
    cluster.down().await.unwrap();
}
