//! What clients of Coder notice of each repair, asked 20 times a second at the address of its Service: no more than of an ordinary
//! upgrade.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::{cluster::Availability, supervisor::state::NodeKind};

use crate::common::World;
use crate::common::node::left_out_on;

/// kube-proxy hears of endpoints at most this much later: that is what two measurements may differ by.
const PERIOD: Duration = Duration::from_secs(1);

/// What is seen of a Service while that is declared; the objects that had to be repaired.
async fn upgraded(world: World, service: &str, spec: Value) -> (Availability, Vec<String>) {
    let watch = world.cluster.watch_service_address(&world.namespace, service).await.unwrap();
    world.declare("coder", spec).await;
    let object = world.ready("coder").await;
    let seen = watch.end().await;
    let repairs: Vec<_> = object.status.unwrap().repairs.into_iter().map(|repair| repair.object).collect();
    println!("{}, {repairs:?}: {seen:?}", world.namespace);
    world.finish().await;
    assert!(seen.rounds > 20, "{seen:?}");
    (seen, repairs)
}

async fn v2(name: &str, version: &str) -> (Availability, Vec<String>) {
    let world = World::with_v2(name, "2.30.0", &[]).await;
    // It has the versions without a fault, too.
    let repository = world.repositories().faults.clone();
    upgraded(world, "coder", json!({"version": version, "chart": {"repository": repository}})).await
}

async fn classic(world: World, version: &str, values: Value) -> (Availability, Vec<String>) {
    let repository = world.repositories().v1.clone();
    let spec = json!({"version": version, "chart": {"repository": repository}, "values": values});
    upgraded(world, "cemanager", spec).await
}

#[tokio::test]
async fn a_repair_of_coder_v2_is_noticed_no_more_than_an_ordinary_upgrade() {
    if left_out_on(NodeKind::Process, "its Services have no endpoints").await {
        return;
    }
    let (ordinary, repairs) = v2("outage-ordinary", "2.31.7").await;
    assert!(repairs.is_empty(), "{repairs:?}");
    for (name, version, object) in [
        ("outage-added", "2.31.11", "Deployment/coder"),
        ("outage-removed", "2.31.12", "Deployment/coder"),
        ("outage-changed", "2.31.13", "Deployment/coder"),
        ("outage-binding", "2.31.14", "RoleBinding/coder"),
    ] {
        let (seen, repairs) = v2(name, version).await;
        assert_eq!(repairs, [object]);
        assert!(seen.longest <= ordinary.longest + PERIOD, "{name}: {seen:?} instead of {ordinary:?}");
    }
}

#[tokio::test]
async fn a_repair_of_coder_classic_is_noticed_no_more_than_an_ordinary_upgrade() {
    if left_out_on(NodeKind::Process, "its Services have no endpoints").await {
        return;
    }
    let (ordinary, repairs) = classic(World::with_v1("outage-classic", "1.16.1").await, "1.16.2", json!({})).await;
    assert!(repairs.is_empty(), "{repairs:?}");
    let within =
        |seen: Availability| assert!(seen.longest <= ordinary.longest + PERIOD, "{seen:?} instead of {ordinary:?}");

    let larger = json!({"timescale": {"resources": {"requests": {"storage": "96Mi"}}}});
    let (seen, repairs) = classic(World::with_v1("outage-volume", "1.16.1").await, "1.16.2", larger).await;
    assert_eq!(repairs, ["StatefulSet/timescale"]);
    within(seen);

    let world = World::with_v1("outage-adopted", "1.15.2").await;
    world.kubectl(&["create", "serviceaccount", "coder"]).await;
    let (seen, repairs) = classic(world, "1.16.1", json!({})).await;
    assert_eq!(repairs, ["ServiceAccount/coder"]);
    within(seen);

    let world = World::with_v1("outage-apis", "1.16.1").await;
    let removed =
        |manifest: &str| manifest.replace("networking.k8s.io/v1\nkind: Ingress", "extensions/v1beta1\nkind: Ingress");
    world.edit_manifest("sh.helm.release.v1.coder.v1", removed).await;
    let (seen, repairs) = classic(world, "1.16.2", json!({})).await;
    assert!(!repairs.is_empty() && repairs.iter().all(|object| object == "Ingress/web-ingress"), "{repairs:?}");
    within(seen);
}
