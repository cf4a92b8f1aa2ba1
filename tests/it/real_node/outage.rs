//! What clients of Coder notice of a replaced Deployment, at the address of its Service: no more than of an ordinary upgrade.

use std::time::Duration;

use serde_json::json;
use testbed::{cluster::Availability, supervisor::state::NodeKind};

use crate::common::World;
use crate::common::node::left_out_on;

/// A refused selector: the Deployment is replaced over a bridge.
const ADDED: &str = "2.31.11";
/// kube-proxy hears of endpoints at most this much later: that is what two measurements may differ by.
const PERIOD: Duration = Duration::from_secs(1);

async fn upgraded(name: &str, version: &str, faults: bool) -> Availability {
    let world = World::with_v2(name, "2.30.0", &[]).await;
    let repositories = world.repositories();
    let repository = if faults { &repositories.faults } else { &repositories.v2 };
    let watch = world.cluster.watch_service_address(&world.namespace, "coder").await.unwrap();
    world.declare("coder", json!({"version": version, "chart": {"repository": repository}})).await;
    let object = world.ready("coder").await;
    let seen = watch.end().await;
    assert_eq!(object.status.unwrap().repairs.is_empty(), !faults);
    world.finish().await;
    println!("{version}: {seen:?}");
    seen
}

#[tokio::test]
async fn a_replaced_deployment_is_away_no_longer_than_one_in_an_ordinary_upgrade() {
    if left_out_on(NodeKind::Process, "its Services have no endpoints").await {
        return;
    }
    let ordinary = upgraded("outage-ordinary", "2.31.7", false).await;
    let replaced = upgraded("outage-replaced", ADDED, true).await;
    assert!(ordinary.rounds > 20 && replaced.rounds > 20, "{ordinary:?} {replaced:?}");
    assert!(replaced.longest <= ordinary.longest + PERIOD, "{replaced:?} instead of {ordinary:?}");
}
