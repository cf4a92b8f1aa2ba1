//! P8 and the promise of rest: what the controller asks the API server for, as the server's own audit log tells it.
#![allow(clippy::unwrap_used)] // a test may; clippy does not see helper functions as tests

mod common;

use std::time::Duration;

use common::{
    World,
    audit::{requests, runner},
};
use serde_json::Value;

const CONTROLLER: &str = "system:serviceaccount:coder-upgrade-operator:coder-upgrade-operator";

/// Whether a right was missing. Quotas and namespaces that are being deleted refuse with 403, too, but are no authorizer.
fn lacks_right(entry: &Value) -> bool {
    entry["annotations"]["authorization.k8s.io/decision"] == "forbid"
}

fn in_namespace(entries: Vec<Value>, namespace: &str) -> Vec<String> {
    let here = entries.into_iter().filter(|entry| entry["objectRef"]["namespace"] == namespace);
    here.map(|entry| format!("{} {}", entry["verb"], entry["objectRef"])).collect()
}

#[tokio::test]
async fn an_unchanged_object_costs_the_controller_no_request() {
    let world = World::with_v2("rest", "2.30.0", &[]).await;
    world.upgrade_to("2.31.7").await;
    world.ready("coder").await;
    world.until("coder", "released", |o| o.metadata.finalizers.as_ref().is_none_or(Vec::is_empty)).await;
    let job = world
        .jobs()
        .await
        .into_iter()
        .find(|job| job.metadata.labels.as_ref().unwrap()["coderupgrade.dev/step"] == "upgrade");
    let name = job.unwrap().metadata.name.unwrap();
    world.kubectl(&["wait", "--for=condition=Complete", &format!("job/{name}"), "--timeout=60s"]).await;
    // What is on its way by now (events, the last look at the Job) gets the time to arrive; then nothing may follow.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = in_namespace(requests(&world, CONTROLLER), &world.namespace);
    assert!(before.len() > 5, "the log shows the upgrade itself: {before:?}");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let after = in_namespace(requests(&world, CONTROLLER), &world.namespace);
    assert_eq!(after[before.len()..], [] as [String; 0]);
    world.finish().await;
}

#[tokio::test]
async fn the_controller_reads_no_secret_and_needs_no_right_that_it_lacks() {
    let world = World::with_v2("least", "2.30.0", &[]).await;
    world.upgrade_to("2.31.7").await;
    world.ready("coder").await;
    let controller = requests(&world, CONTROLLER);
    assert!(controller.iter().any(|entry| entry["objectRef"]["resource"] == "jobs" && entry["verb"] == "create"));
    for entry in &controller {
        assert_ne!(entry["objectRef"]["resource"], "secrets", "{entry}");
        assert!(!lacks_right(entry), "{entry}");
    }
    let runner = requests(&world, &runner(&world));
    assert!(
        runner.iter().any(|entry| entry["objectRef"]["resource"] == "secrets"),
        "the runner works under its own name"
    );
    for entry in &runner {
        assert!(!lacks_right(entry), "{entry}");
    }
    world.finish().await;
}
