//! Strategy Recreate: old and new never run side by side, and Coder's replicas come back whatever happens.

use std::sync::{Arc, Mutex};

use crate::common::{
    World,
    api_server::FailingWatches,
    steps::{HelmMajor, Steps},
};
use coder_upgrade_operator::api::{CoderUpgrade, FailureClass};
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::DeleteParams,
    runtime::{WatchStreamExt, reflector, watcher},
};
use rstest::rstest;
use serde_json::{Value, json};

/// A Deployment that works with Coder, such as its provisioners. Its pods take as long to end as they are allowed to if
/// they are stubborn.
async fn companion(world: &World, replicas: i32, stubborn: bool) {
    let script = if stubborn { "trap '' TERM; while :; do sleep 1; done" } else { "exec sleep 1000" };
    let container = json!({"name": "provisioner", "image": "testbed-host:1", "command": ["sh", "-c", script]});
    let pod = json!({"terminationGracePeriodSeconds": 25, "containers": [container]});
    world
        .apply(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "provisioner"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "provisioner"}},
                "template": {"metadata": {"labels": {"app": "provisioner"}}, "spec": pod}}
        }))
        .await;
    world.kubectl(&["rollout", "status", "deployment/provisioner", "--timeout=60s"]).await;
}

async fn deployment(world: &World, name: &str) -> Deployment {
    world.api::<Deployment>().get(name).await.unwrap()
}

/// Wanted and ready replicas.
async fn replicas(world: &World, name: &str) -> (i32, i32) {
    let deployment = deployment(world, name).await;
    (deployment.spec.unwrap().replicas.unwrap(), deployment.status.unwrap().ready_replicas.unwrap_or_default())
}

async fn back(world: &World, name: &str, count: i32) {
    let what = format!("{count} replicas of {name}");
    world.eventually(&what, || async { (replicas(world, name).await == (count, count)).then_some(()) }).await;
}

/// Nobody but helm and Kubernetes claims the number of replicas.
async fn unclaimed(world: &World, name: &str) {
    let fields = deployment(world, name).await.metadata.managed_fields.unwrap_or_default();
    assert!(fields.iter().all(|owner| owner.manager.as_deref() != Some("coder-upgrade-runner")), "{fields:?}");
}

/// Watches Coder's pods, and writes down whenever those of two images exist at once.
fn side_by_side(world: &World) -> Arc<Mutex<Vec<String>>> {
    let met = Arc::new(Mutex::new(Vec::new()));
    let (seen, pods) = (Arc::clone(&met), world.api::<Pod>());
    tokio::spawn(async move {
        let (store, writer) = reflector::store::<Pod>();
        let ours = watcher::Config::default().labels("app.kubernetes.io/name=coder");
        let events = reflector::reflector(writer, watcher(pods, ours).default_backoff());
        pin_mut!(events);
        while events.next().await.is_some() {
            let mut images: Vec<String> = store
                .state()
                .iter()
                .map(|pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap())
                .collect();
            images.sort();
            images.dedup();
            if images.len() > 1 {
                seen.lock().unwrap().push(images.join(" and "));
            }
        }
    });
    met
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn old_and_new_never_meet_and_the_replicas_come_back(#[case] helm: HelmMajor) {
    let steps = Steps::with("recreate", helm, |r| &r.v2, "2.30.0", &["coder.replicaCount=2"]).await;
    let world = &steps.world;
    companion(world, 2, false).await;
    let planned =
        steps.plan(json!({"version": "2.31.7", "strategy": "Recreate", "companions": ["provisioner", "none"]}));
    planned.await;
    let met = side_by_side(world);
    steps.upgrade().await;
    assert_eq!(*met.lock().unwrap(), [] as [String; 0], "pods of two versions existed at once");
    assert_eq!(replicas(world, "coder").await, (2, 2));
    back(world, "provisioner", 2).await;
    unclaimed(world, "coder").await;
    unclaimed(world, "provisioner").await;
    let log = steps.log.borrow().clone();
    let at = |text: &str| log.rfind(text).unwrap_or_else(|| panic!("{text} is not in the log"));
    assert!(at("scaling Deployment/provisioner to 0") < at("scaling Deployment/coder to 0"));
    assert!(at("scaling Deployment/coder to 0") < at("helm upgrade"));
    assert!(at("helm upgrade") < at("scaling Deployment/provisioner to 2"));
    steps.world.finish().await;
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn a_number_that_the_chart_leaves_open_comes_back(#[case] helm: HelmMajor) {
    let steps = Steps::with("recreate-open", helm, |r| &r.v2, "2.30.0", &["coder.replicaCount=null"]).await;
    let world = &steps.world;
    world.kubectl(&["scale", "deployment/coder", "--replicas=3"]).await;
    back(world, "coder", 3).await;
    // An autoscaler or a person would own the number, and helm 4 does not take it from them.
    let mut owners = deployment(world, "coder").await.metadata.managed_fields.unwrap();
    owners.retain(|owner| owner.subresource.as_deref() != Some("scale"));
    let patch = json!({"metadata": {"managedFields": owners}}).to_string();
    world.kubectl(&["patch", "deployment", "coder", "--type", "merge", "--patch", &patch]).await;
    steps.plan(json!({"version": "2.31.7", "strategy": "Recreate"})).await;
    let upgraded = steps.upgrade().await;
    assert!(upgraded.verified.starts_with("3 pods answer 2.31.7"), "{}", upgraded.verified);
    assert_eq!(replicas(world, "coder").await, (3, 3));
    unclaimed(world, "coder").await;
    steps.world.finish().await;
}

/// A hook that fails before helm changes anything, which no rehearsal sees.
fn failing_hook() -> Value {
    let container = json!({"name": "hook", "image": "testbed-host:1", "command": ["sh", "-c", "exit 1"]});
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "hook", "annotations": {"helm.sh/hook": "pre-upgrade"}},
        "spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    })
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn after_a_failure_before_the_new_version_the_old_one_is_back(#[case] helm: HelmMajor) {
    let steps = Steps::with("recreate-hook", helm, |r| &r.v2, "2.30.0", &["coder.replicaCount=2"]).await;
    let world = &steps.world;
    companion(world, 2, false).await;
    world.kubectl(&["create", "role", "hooks", "--verb=*", "--resource=jobs.batch"]).await;
    let runner = format!("--serviceaccount={}:coder-upgrade-runner", world.namespace);
    world.kubectl(&["create", "rolebinding", "hooks", "--role=hooks", &runner]).await;
    let values = json!({"extraTemplates": [failing_hook()]});
    let spec = json!({"version": "2.31.7", "strategy": "Recreate", "companions": ["provisioner"], "values": values});
    steps.plan(spec).await;
    let problem = steps.fails("upgrade", &[]).await;
    assert_eq!(problem.class, FailureClass::HookFailed, "{}", problem.message);
    assert!(steps.log.borrow().contains("scaling Deployment/coder to 0"));
    back(world, "coder", 2).await;
    back(world, "provisioner", 2).await;
    let image = ["get", "deployment/coder", "-o", "jsonpath={.spec.template.spec.containers[0].image}"];
    assert!(world.kubectl(&image).await.ends_with(":v2.30.0"));
    steps.world.finish().await;
}

#[tokio::test]
async fn what_needs_leave_is_refused_before_coder_is_stopped() {
    let steps = Steps::with("recreate-refused", HelmMajor::Four, |r| &r.faults, "2.31.7", &[]).await;
    steps.plan(json!({"version": "2.31.14", "strategy": "Recreate"})).await;
    let problem = steps.fails("upgrade", &["--recovery", "stop"]).await;
    assert_eq!(problem.class, FailureClass::Immutable, "{}", problem.message);
    assert!(!steps.log.borrow().contains("scaling Deployment/coder"));
    steps.world.finish().await;
}

#[tokio::test]
async fn pods_that_do_not_end_stop_it_before_helm() {
    let steps = Steps::with("recreate-slow", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    let world = &steps.world;
    companion(world, 1, true).await;
    steps.plan(json!({"version": "2.31.7", "strategy": "Recreate", "companions": ["provisioner"]})).await;
    let problem = steps.fails("upgrade", &["--helm-timeout", "4s"]).await;
    assert_eq!((problem.class, problem.changed), (FailureClass::StillDeleting, false), "{}", problem.message);
    assert_eq!(problem.object.as_deref(), Some("Deployment/provisioner"));
    assert_eq!(replicas(world, "provisioner").await.0, 1);
    assert_eq!((replicas(world, "coder").await, world.release().await.0), ((1, 1), 1), "Coder was not touched");
    steps.world.finish().await;
}

/// A world whose upgrade is at the point where its companion does not want to end.
async fn paused(name: &str) -> World {
    let world = World::with_v2(name, "2.30.0", &["coder.replicaCount=2"]).await;
    companion(&world, 2, true).await;
    world.declare("coder", spec(&world, "2.31.7")).await;
    let object = world.until("coder", "paused", |o| !down(o).is_empty()).await;
    assert_eq!(down(&object), ["Deployment/provisioner=2"]);
    assert!(object.status.unwrap().recovery_required, "nothing but Coder's return ends it");
    world.eventually("zero", || async { (replicas(&world, "provisioner").await.0 == 0).then_some(()) }).await;
    world
}

fn spec(world: &World, version: &str) -> Value {
    json!({
        "version": version, "chart": {"repository": world.repositories().v2},
        "strategy": "Recreate", "companions": ["provisioner"]
    })
}

fn down(object: &CoderUpgrade) -> Vec<String> {
    object.status.as_ref().map(|s| s.scaled_down.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

#[tokio::test]
async fn a_runner_killed_at_zero_is_followed_by_one_that_remembers() {
    let world = paused("recreate-killed").await;
    world.kill_runner("upgrade").await;
    let object = world.ready("coder").await;
    assert_eq!((down(&object), object.status.unwrap().recovery_required), (vec![], false));
    assert_eq!(replicas(&world, "coder").await, (2, 2));
    back(&world, "provisioner", 2).await;
    world.finish().await;
}

#[tokio::test]
async fn a_runner_that_is_evicted_brings_the_replicas_back_and_another_goes_on() {
    let world = paused("recreate-evicted").await;
    let pod = world.runner_pod("upgrade").await;
    world.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    world.ready("coder").await;
    assert_eq!(replicas(&world, "coder").await, (2, 2));
    back(&world, "provisioner", 2).await;
    world.finish().await;
}

#[tokio::test]
async fn a_deleted_object_does_not_leave_coder_at_zero() {
    let world = paused("recreate-deleted").await;
    world.kubectl(&["delete", "cu", "coder", "--wait=false"]).await;
    world.kill_runner("upgrade").await;
    world.restart_controller().await;
    world.gone("coder").await;
    assert_eq!(replicas(&world, "coder").await, (2, 2));
    back(&world, "provisioner", 2).await;
    world.finish().await;
}

#[tokio::test]
async fn a_watch_that_breaks_begins_again() {
    let steps = Steps::with("recreate-watch", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    companion(&steps.world, 1, false).await;
    steps.plan(json!({"version": "2.31.7", "strategy": "Recreate", "companions": ["provisioner"]})).await;
    let front = FailingWatches::start(steps.world.client.clone(), "deployments/provisioner", 2).await;
    steps.reach_api_server_at(&front.url);
    steps.upgrade().await;
    assert_eq!(front.left(), 0, "the watches have failed");
    back(&steps.world, "provisioner", 1).await;
    steps.world.finish().await;
}
