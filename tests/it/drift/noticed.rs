//! What somebody else changes after Coder was verified is noticed by watches alone, told, and planned; what an autoscaler does
//! is no change.

use std::time::Duration;

use crate::common::drift::{noticed, upgrade_by_hand, verified, verified_again};
use crate::common::{World, audit, observed, reason};
use coder_upgrade_operator::api::{FailureClass, Phase};
use kube::ResourceExt;
use serde_json::{Value, json};

/// What the controller has asked for about this namespace, as verb and resource.
fn requests(world: &World) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let words = |entry: &Value| format!("{} {}", text(&entry["verb"]), text(&entry["objectRef"]["resource"]));
    audit::of_controller(world).iter().map(words).collect()
}

#[tokio::test]
async fn values_given_by_hand_are_planned_and_kept() {
    let world = verified("drift-values", json!({})).await;
    upgrade_by_hand(&world, "2.31.6", &["--set", "coder.podAnnotations.team=platform"]).await;
    let (object, lines) = noticed(&world, 1).await;
    assert!(lines.contains("Deployment/coder was changed by helm: the annotations of its pods differ"), "{lines}");
    assert_eq!(reason(&object, "Ready"), Some(("False".into(), "Drifted".into())));
    let object = verified_again(&world, 1).await;
    assert!(object.status.unwrap().drift.is_empty());
    assert_eq!(world.release().await.0, 2, "what was given by hand counts as kept values: nothing is to be done");
    assert_eq!(world.job_counts().await, (2, 0));
    world.finish().await;
}

#[tokio::test]
async fn an_older_version_that_was_installed_by_hand_is_brought_back() {
    let world = World::with_v2("drift-rollback", "2.31.6", &[]).await;
    upgrade_by_hand(&world, "2.31.6", &["--set", "coder.podAnnotations.team=platform", "--wait"]).await;
    world.upgrade_to("2.31.7").await;
    let attempt = world.ready("coder").await.status.unwrap().attempt;
    // The database is of 2.31.7 by now: the pods of 2.31.6 cannot start on it.
    world.helm(&["rollback", "coder", "1"]).await;
    let (_, lines) = noticed(&world, attempt).await;
    assert!(lines.contains("Deployment/coder"), "{lines}");
    let object = verified_again(&world, attempt).await;
    assert_eq!(object.status.unwrap().current.unwrap().version, "2.31.7");
    assert_eq!(world.values().await["coder"].get("podAnnotations"), None, "rolled back values stay");
    world.finish().await;
}

#[tokio::test]
async fn a_newer_version_that_was_installed_by_hand_is_refused_once() {
    let world = verified("drift-newer", json!({})).await;
    upgrade_by_hand(&world, "2.31.7", &["--wait"]).await;
    let object = world.stalled("coder").await;
    let status = object.status.clone().unwrap();
    assert_eq!(status.failure.unwrap().class, FailureClass::Downgrade);
    assert_eq!(reason(&object, "Ready"), Some(("False".into(), "Downgrade".into())));
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert!(ready.message.contains("Drift detected: Deployment/coder was changed by helm"), "{}", ready.message);
    let attempts = status.attempt;
    // The declaration follows what was done by hand.
    world.upgrade_to("2.31.7").await;
    let object = verified_again(&world, attempts).await;
    assert!(object.status.unwrap().drift.is_empty());
    world.finish().await;
}

#[tokio::test]
async fn a_release_that_was_uninstalled_with_its_records_is_not_made_up() {
    let world = verified("drift-uninstall", json!({})).await;
    world.helm(&["uninstall", "coder", "--wait"]).await;
    let object = world.stalled("coder").await;
    let status = object.status.unwrap();
    let failure = status.failure.unwrap();
    assert_eq!(failure.class, FailureClass::ReleaseMissing, "{failure:?}");
    assert_eq!(status.drift, ["Deployment/coder is gone"]);
    assert_eq!(world.job_counts().await.1, 0);
    // A person gives the values again, and asks for it.
    let values = std::fs::read_to_string(testbed::charts::charts_dir().join("coder-v2-values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    let chart = json!({"repository": world.repositories().v2});
    world.declare("coder", json!({"version": "2.31.6", "chart": chart, "values": values})).await;
    verified_again(&world, status.attempt).await;
    world.finish().await;
}

#[tokio::test]
async fn suspended_a_change_is_told_and_nothing_is_begun() {
    let world = verified("drift-suspended", json!({})).await;
    world.kubectl(&["patch", "cu", "coder", "--type=merge", "--patch", r#"{"spec": {"suspend": true}}"#]).await;
    world.until("coder", "suspended", observed).await;
    upgrade_by_hand(&world, "2.31.6", &["--set", "coder.podAnnotations.team=platform"]).await;
    let (object, _) = noticed(&world, 1).await;
    assert_eq!(object.status.as_ref().unwrap().phase, Phase::Suspended);
    assert_eq!(reason(&object, "Ready"), Some(("False".into(), "Drifted".into())));
    assert_eq!(world.job_counts().await, (1, 0));
    world.kubectl(&["patch", "cu", "coder", "--type=merge", "--patch", r#"{"spec": {"suspend": false}}"#]).await;
    verified_again(&world, 1).await;
    world.finish().await;
}

#[tokio::test]
async fn scaling_and_restarting_is_no_change_and_costs_one_look() {
    let world = verified("drift-scale", json!({})).await;
    let _undisturbed = world.undisturbed().await;
    world.until("coder", "released", |o| o.finalizers().is_empty()).await;
    // What is on its way by now (events, the last look at the Job) gets the time to arrive.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (before, asked) = (world.get("coder").await, requests(&world).len());
    let rolled_out = ["rollout", "status", "deployment/coder", "--timeout=60s"];
    let changes = [
        (["scale", "deployment/coder", "--replicas=2"], "scaled"),
        (["rollout", "restart", "deployment/coder"], "restarted"),
    ];
    for (looks, (change, verb)) in changes.into_iter().enumerate() {
        world.kubectl(&change).await;
        world.kubectl(&rolled_out).await;
        let looked = |seen: Vec<String>| (seen.len() > asked + looks).then_some(seen);
        let seen = world.eventually(verb, || async { looked(requests(&world)) }).await;
        assert!(seen[asked..].iter().all(|request| request == "get deployments"), "{:?}", &seen[asked..]);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(requests(&world)[asked..], ["get deployments", "get deployments"], "one look for each change");
    assert_eq!(world.get("coder").await.resource_version(), before.resource_version(), "nothing is written");
    assert_eq!(world.job_counts().await, (1, 0));
    world.finish().await;
}

#[tokio::test]
async fn a_deleted_workload_is_brought_back() {
    let world = verified("drift-deleted", json!({})).await;
    world.kubectl(&["delete", "deployment", "coder"]).await;
    let (_, lines) = noticed(&world, 1).await;
    assert!(lines.contains("Deployment/coder is gone"), "{lines}");
    verified_again(&world, 1).await;
    assert_eq!(world.release().await, (2, "deployed".into()));
    world.finish().await;
}

/// helm 4 does not take a field from whoever has set it, and neither does the operator: it names them.
#[tokio::test]
async fn another_image_is_told_with_whoever_has_set_it() {
    let world = verified("drift-image", json!({})).await;
    let set = async |tag: &str| {
        let image = format!("coder=ghcr.io/coder/coder:{tag}");
        world.kubectl(&["set", "image", "deployment/coder", &image]).await;
    };
    set("v2.30.0").await;
    let object = world.stalled("coder").await;
    let status = object.status.unwrap();
    let failure = status.failure.unwrap();
    assert_eq!((failure.class, failure.object.as_deref()), (FailureClass::FieldConflict, Some("Deployment/coder")));
    assert!(failure.message.contains("kubectl-set"), "{}", failure.message);
    let lines = status.drift.join("\n");
    assert!(lines.contains("Deployment/coder was changed by kubectl-set"), "{lines}");

    set("v2.31.6").await;
    verified_again(&world, status.attempt).await;
    assert_eq!(world.release().await.0, 1, "nothing was to be done");
    world.finish().await;
}

#[tokio::test]
async fn what_brings_it_back_waits_for_its_approval() {
    let world = verified("drift-manual", json!({"approval": "Manual"})).await;
    world.kubectl(&["delete", "deployment", "coder"]).await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;
    assert_eq!(reason(&object, "Ready").unwrap().0, "False");
    let status = object.status.unwrap();
    assert_eq!(status.drift, ["Deployment/coder is gone"]);
    assert_eq!(world.job_counts().await, (2, 0));
    let annotation = format!("coderupgrade.dev/approve={}", status.plan.unwrap().id);
    world.kubectl(&["annotate", "coderupgrade", "coder", &annotation]).await;
    verified_again(&world, 1).await;
    world.finish().await;
}
