//! A real `PostgreSQL` in a StatefulSet of the release: its rows outlive the replacement of the StatefulSet, and a reinstall.

use coder_upgrade_operator::api::{Phase, Remedy};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use testbed::real_node::postgres_image;
use testbed::supervisor::state::NodeKind;

use crate::common::World;
use crate::common::node::{leave_out, left_out_on};

const POD: &str = "ledger-0";
/// What is in the table, in one line: `sum` finds other rows, too.
const CONTENT: &str = "SELECT count(*), sum(number), md5(string_agg(text, ',' ORDER BY number)) FROM rows";

/// The database as a template of the release, with a field that no StatefulSet lets change.
fn ledger(image: &str, service: &str) -> Value {
    let labels = json!({"app": "ledger"});
    let container = json!({"name": "postgres", "image": image, "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"exec": {"command": ["psql", "-c", "SELECT 1"]}, "periodSeconds": 1}});
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "256Mi"}}}});
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "ledger"}, "spec": {
        "serviceName": service, "selector": {"matchLabels": labels}, "volumeClaimTemplates": [claim],
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}})
}

async fn declare(world: &World, version: &str, image: &str, service: &str, recovery: &str) {
    let values = json!({"extraTemplates": [ledger(image, service)]});
    let chart = json!({"repository": world.repositories().v2});
    world.declare("coder", json!({"version": version, "chart": chart, "values": values, "recovery": recovery})).await;
}

async fn sql(world: &World, statement: &str) -> String {
    let psql = ["psql", "-At", "-v", "ON_ERROR_STOP=1", "-c", statement];
    let exec = ["exec", POD, "--namespace", &world.namespace, "--"];
    world.cluster.kubectl(&[&exec[..], &psql].concat()).await.unwrap()
}

async fn uid(world: &World) -> String {
    world.api::<Pod>().get(POD).await.unwrap().uid().unwrap()
}

#[tokio::test]
async fn rows_survive_a_replaced_stateful_set_and_a_reinstall() {
    if left_out_on(NodeKind::Process, "it runs no images").await {
        return;
    }
    let Some(image) = postgres_image() else {
        return leave_out("machine without PostgreSQL", "install it: apt-get install -y postgresql");
    };
    let world = World::with_v2("ledger", "2.31.6", &[]).await;
    declare(&world, "2.31.6", image, "first", "Repair").await;
    world.ready("coder").await;
    world.kubectl(&["rollout", "status", "statefulset/ledger", "--timeout=120s"]).await;
    sql(&world, "CREATE TABLE rows AS SELECT number, md5(number::text) AS text FROM generate_series(1, 100000) number")
        .await;
    let (written, pod, claims) = (sql(&world, CONTENT).await, uid(&world).await, world.claims().await);
    assert!(written.starts_with("100000|5000050000|"), "{written}");

    declare(&world, "2.31.7", image, "second", "Repair").await;
    let object = world.ready("coder").await;
    let replaced = |remedy: Remedy, object: &str| remedy == Remedy::Replace && object == "StatefulSet/ledger";
    assert!(object.status.unwrap().repairs.iter().any(|repair| replaced(repair.remedy, &repair.object)));
    assert_eq!(uid(&world).await, pod, "the database has worked on");
    assert_eq!(sql(&world, CONTENT).await, written);

    sql(&world, "INSERT INTO rows VALUES (0, 'written between the two')").await;
    let written = sql(&world, CONTENT).await;
    declare(&world, "2.31.7", image, "third", "Stop").await;
    world.phase("coder", Phase::AwaitingApproval).await;
    world.approve("reinstall").await;
    world.ready("coder").await;
    world.kubectl(&["rollout", "status", "statefulset/ledger", "--timeout=120s"]).await;
    assert_ne!(uid(&world).await, pod, "it was installed again");
    assert_eq!(sql(&world, CONTENT).await, written);
    assert_eq!(world.claims().await, claims);
    world.finish().await;
}
