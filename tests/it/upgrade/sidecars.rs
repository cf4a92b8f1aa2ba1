//! Pods as admission webhooks leave them: with other images, and with containers that no chart and no Job has.

use crate::common::World;
use coder_upgrade_operator::api::{CoderUpgrade, Phase, StepName, StepState};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::ListParams};
use rstest::rstest;
use serde_json::{Value, json};
use testbed::webhook::PodWebhook;

/// The label of Coder's pods.
const CODER: (&str, &str) = ("app.kubernetes.io/name", "coder");
/// The label of the runner's.
const RUNNER: (&str, &str) = ("app.kubernetes.io/name", "coder-upgrade-runner");

/// The image of the first container of the Deployment.
const IMAGE: [&str; 5] = ["get", "deployment", "coder", "-o", "jsonpath={.spec.template.spec.containers[0].image}"];

/// A native sidecar: an init container that goes on beside the containers.
fn lasting() -> Value {
    let command = ["sleep", "1d"];
    let container =
        json!({"name": "proxy", "image": "mesh/testbed-host:1", "restartPolicy": "Always", "command": command});
    json!({"op": "add", "path": "/spec/initContainers", "value": [container]})
}

/// A container of a mesh.
fn added(section: &str) -> Value {
    let name = "proxy";
    if section == "containers" {
        let container = json!({"name": name, "image": "mesh/proxy:1"});
        return json!({"op": "add", "path": "/spec/containers/-", "value": container});
    }
    // It ends at once, as one does that sets up the network.
    let container = json!({"name": name, "image": "mesh/testbed-host:1", "command": ["true"]});
    json!({"op": "add", "path": format!("/spec/{section}"), "value": [container]})
}

/// The image from a mirror.
fn mirrored(pod: &Value) -> Value {
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
    json!({"op": "replace", "path": "/spec/containers/0/image", "value": format!("mirror.local:5000/{image}")})
}

/// Keeps the new version's own container from starting: an injector names a Secret that is not there.
fn broken(pod: &Value) -> Option<Value> {
    let image = pod["spec"]["containers"][0]["image"].as_str()?;
    let secret = json!({"name": "INJECTED", "valueFrom": {"secretKeyRef": {"name": "missing", "key": "key"}}});
    let operation = json!({"op": "add", "path": "/spec/containers/0/env/-", "value": secret});
    image.contains("2.31.7").then_some(operation)
}

async fn world(name: &str, label: (&str, &str), mutate: fn(&Value) -> Vec<Value>) -> (World, PodWebhook) {
    let world = World::new(name).await;
    let webhook = PodWebhook::serve(mutate).await.unwrap();
    world.apply(&webhook.configuration(&world.namespace, label)).await;
    world.database().await;
    world.install("coder", &world.repositories().v2, "2.30.0", "coder-v2-values.yaml", &[]).await;
    (world, webhook)
}

async fn finish(world: World) {
    world.kubectl(&["delete", "mutatingwebhookconfiguration", &world.namespace]).await;
    world.finish().await;
}

#[tokio::test]
async fn an_image_from_a_mirror_is_a_remark() {
    let (world, _webhook) = world("mirror", CODER, |pod| vec![mirrored(pod), added("containers")]).await;
    world.upgrade_to("2.31.7").await;
    let object = world.ready("coder").await;
    let message = object.status.unwrap().message;
    let remark = "container coder runs mirror.local:5000/ghcr.io/coder/coder:v2.31.7, where the chart names \
                  ghcr.io/coder/coder:v2.31.7";
    assert!(message.contains("1 pod answers 2.31.7, same deployment") && message.contains(remark), "{message}");
    finish(world).await;
}

fn with_a_container(pod: &Value) -> Vec<Value> {
    broken(pod).into_iter().chain([added("containers")]).collect()
}

fn with_an_init_container(pod: &Value) -> Vec<Value> {
    broken(pod).into_iter().chain([added("initContainers")]).collect()
}

fn with_a_native_sidecar(pod: &Value) -> Vec<Value> {
    broken(pod).into_iter().chain([lasting()]).collect()
}

fn from_a_mirror(pod: &Value) -> Vec<Value> {
    broken(pod).into_iter().chain([mirrored(pod)]).collect()
}

#[rstest]
#[case::a_container("added", with_a_container)]
#[case::an_init_container("added-init", with_an_init_container)]
#[case::a_native_sidecar("added-native", with_a_native_sidecar)]
#[case::a_mirror("added-mirror", from_a_mirror)]
#[tokio::test]
async fn what_a_webhook_adds_is_no_start_of_the_new_version(
    #[case] name: &str,
    #[case] mutate: fn(&Value) -> Vec<Value>,
) {
    let (world, _webhook) = world(name, CODER, mutate).await;
    let chart = json!({"repository": world.repositories().v2});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "helm": {"timeout": "20s"}})).await;
    let status = world.stalled("coder").await.status.unwrap();
    assert!(!status.new_version_started, "{status:?}");
    assert_eq!(
        status.steps.last().map(|step| (step.name, step.state)),
        Some((StepName::Restore, StepState::Succeeded))
    );
    assert_eq!(world.release().await, (3, "deployed".into()));
    assert!(world.kubectl(&IMAGE).await.ends_with("coder:v2.30.0"));
    finish(world).await;
}

fn beside(_: &Value) -> Vec<Value> {
    vec![added("containers")]
}

fn beside_natively(_: &Value) -> Vec<Value> {
    vec![lasting()]
}

/// A container before Coder's own that keeps ending, in pods of the version that crashes.
fn with_a_broken_one_before(pod: &Value) -> Vec<Value> {
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
    let container = json!({"name": "proxy", "image": "mesh/testbed-host:1", "command": ["false"]});
    let add = json!({"op": "add", "path": "/spec/containers/0", "value": container});
    image.contains("2.31.8").then_some(add).into_iter().collect()
}

#[tokio::test]
async fn a_coder_that_crashes_is_the_cause_and_not_a_container_beside_it() {
    let (world, _webhook) = world("broken-beside", CODER, with_a_broken_one_before).await;
    let chart = json!({"repository": world.repositories().faults});
    world.declare("coder", json!({"version": "2.31.8", "chart": chart, "helm": {"timeout": "20s"}})).await;
    let failure = world.stalled("coder").await.status.unwrap().failure.unwrap();
    assert!(failure.message.contains("container coder keeps ending"), "{}", failure.message);
    assert!(failure.message.contains("workspace-scheduler"), "it is Coder's log: {}", failure.message);
    finish(world).await;
}

/// Pods of Jobs in which something still runs.
async fn working(world: &World) -> Vec<String> {
    let pods = world.api::<Pod>().list(&ListParams::default().labels(&format!("{}={}", RUNNER.0, RUNNER.1))).await;
    let runs = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    pods.unwrap().items.iter().filter(|pod| runs(pod)).map(ResourceExt::name_any).collect()
}

#[rstest]
#[case::a_container("outlived", beside)]
#[case::a_native_sidecar("outlived-native", beside_natively)]
#[tokio::test]
async fn a_step_ends_with_its_runner_and_its_job_soon_after(
    #[case] name: &str,
    #[case] mutate: fn(&Value) -> Vec<Value>,
) {
    let (world, _webhook) = world(name, RUNNER, mutate).await;
    world.upgrade_to("2.31.7").await;
    world.ready("coder").await;
    let ended = || async { working(&world).await.is_empty().then_some(()) };
    world.eventually("end of the runners' pods", ended).await;
    assert_eq!(world.jobs().await.len(), 2, "the Jobs stay to be looked at");
    world.kubectl(&["delete", "cu", "coder", "--timeout=60s"]).await;
    finish(world).await;
}

#[rstest]
#[case::a_container("killed", beside, "container runner of Pod/")]
// This one ends with the container, and so do pod and Job.
#[case::a_native_sidecar("killed-native", beside_natively, "BackoffLimitExceeded")]
#[tokio::test]
async fn a_runner_that_is_killed_beside_another_container_is_followed_by_one_that_ends_right(
    #[case] name: &str,
    #[case] mutate: fn(&Value) -> Vec<Value>,
    #[case] words: &str,
) {
    let (world, _webhook) = world(name, RUNNER, mutate).await;
    let chart = json!({"repository": world.repositories().v2});
    let spec = json!({"version": "2.31.7", "chart": chart, "verify": {"soak": "10s", "timeout": "60s"}});
    world.declare("coder", spec).await;
    world.phase("coder", Phase::Verifying).await;
    world.kill_runner("upgrade").await;
    let status = world.ready("coder").await.status.unwrap();
    let ended: Vec<_> = status.steps.iter().map(|step| step.state).collect();
    assert_eq!(ended, [StepState::Succeeded, StepState::Interrupted, StepState::Succeeded]);
    let interrupted = &status.steps[1].message;
    assert!(interrupted.contains(words), "{interrupted}");
    finish(world).await;
}

#[tokio::test]
async fn a_change_that_is_deleted_beside_another_container_goes_when_it_has_ended() {
    let (world, _webhook) = world("outlived-deleted", RUNNER, beside).await;
    world.upgrade_to("2.31.7").await;
    world.phase("coder", Phase::Verifying).await;
    world.kubectl(&["delete", "cu", "coder", "--wait=false"]).await;
    world.gone("coder").await;
    assert_eq!(world.release().await.1, "deployed");
    finish(world).await;
}

/// The settings of a chart that brings a native sidecar of its own.
const SIDECAR: [&str; 5] = [
    "coder.initContainers[0].name=proxy",
    "coder.initContainers[0].image=mesh/testbed-host:1",
    "coder.initContainers[0].restartPolicy=Always",
    "coder.initContainers[0].command[0]=sleep",
    "coder.initContainers[0].command[1]=1d",
];

#[tokio::test]
async fn a_chart_with_a_native_sidecar_is_upgraded_and_restored() {
    let world = World::with_v2("native", "2.30.0", &SIDECAR).await;
    world.upgrade_to("2.31.6").await;
    let message = world.ready("coder").await.status.unwrap().message;
    assert!(message.contains("1 pod answers 2.31.6, same deployment"), "{message}");

    // The new version's own container never starts, and its sidecar does.
    let missing = json!([{"secretRef": {"name": "missing"}}]);
    let chart = json!({"repository": world.repositories().v2});
    let values = json!({"coder": {"envFrom": missing}});
    world
        .declare("coder", json!({"version": "2.31.7", "chart": chart, "values": values, "helm": {"timeout": "20s"}}))
        .await;
    let status = world.stalled("coder").await.status.unwrap();
    assert!(!status.new_version_started, "{status:?}");
    let last = status.steps.last().map(|step| (step.name, step.state));
    assert_eq!(last, Some((StepName::Restore, StepState::Succeeded)));
    assert!(status.failure.unwrap().message.contains("container coder cannot start"), "{}", status.message);
    assert!(world.kubectl(&IMAGE).await.ends_with("coder:v2.31.6"));
    world.finish().await;
}

/// A mesh whose sidecar is not ready keeps the pod from being ready, as a container would.
#[tokio::test]
async fn a_native_sidecar_that_is_not_ready_is_named() {
    let world = World::with_v2("native-unready", "2.30.0", &SIDECAR).await;
    let probe = json!({"exec": {"command": ["false"]}, "periodSeconds": 1});
    let sidecar = json!({
        "name": "proxy", "image": "mesh/testbed-host:1", "restartPolicy": "Always", "command": ["sleep", "1d"],
        "readinessProbe": probe,
    });
    let chart = json!({"repository": world.repositories().v2});
    let values = json!({"coder": {"initContainers": [sidecar]}});
    world
        .declare("coder", json!({"version": "2.31.7", "chart": chart, "values": values, "helm": {"timeout": "20s"}}))
        .await;
    let failure = world.stalled("coder").await.status.unwrap().failure.unwrap();
    let first = failure.message.lines().next().unwrap_or_default();
    assert!(first.starts_with("Pod/coder-") && first.contains("container proxy is not ready"), "{failure:?}");
    world.finish().await;
}

fn never_started(_: &Value) -> Vec<Value> {
    let mut patch = vec![lasting()];
    patch[0]["value"][0]["startupProbe"] = json!({"exec": {"command": ["false"]}, "periodSeconds": 1});
    patch
}

/// The runner waits for what a webhook has put before it: that is told at once, not at the deadline of the step.
#[tokio::test]
async fn a_native_sidecar_that_keeps_the_runner_from_starting_is_named() {
    let (world, _webhook) = world("native-runner", RUNNER, never_started).await;
    world.upgrade_to("2.31.7").await;
    let told =
        |object: &CoderUpgrade| object.status.as_ref().is_some_and(|status| status.message.contains("container proxy"));
    world.until("coder", "one that names the sidecar", told).await;
    finish(world).await;
}
