//! Pods as admission webhooks leave them: with other images, and with containers that no chart and no Job has.

use crate::common::World;
use coder_upgrade_operator::api::{Phase, StepName, StepState};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::ListParams};
use rstest::rstest;
use serde_json::{Value, json};
use testbed::{node::Control, webhook::PodWebhook};

/// The label of Coder's pods.
const CODER: (&str, &str) = ("app.kubernetes.io/name", "coder");
/// The label of the runner's.
const RUNNER: (&str, &str) = ("app.kubernetes.io/name", "coder-upgrade-runner");

/// The image of the first container of the Deployment.
const IMAGE: [&str; 5] = ["get", "deployment", "coder", "-o", "jsonpath={.spec.template.spec.containers[0].image}"];

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

fn from_a_mirror(pod: &Value) -> Vec<Value> {
    broken(pod).into_iter().chain([mirrored(pod)]).collect()
}

#[rstest]
#[case::a_container("added", with_a_container)]
#[case::an_init_container("added-init", with_an_init_container)]
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

/// Pods of Jobs in which something still runs.
async fn working(world: &World) -> Vec<String> {
    let pods = world.api::<Pod>().list(&ListParams::default().labels(&format!("{}={}", RUNNER.0, RUNNER.1))).await;
    let runs = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    pods.unwrap().items.iter().filter(|pod| runs(pod)).map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn a_step_ends_with_its_runner_and_its_job_soon_after() {
    let (world, _webhook) = world("outlived", RUNNER, |_| vec![added("containers")]).await;
    world.upgrade_to("2.31.7").await;
    world.ready("coder").await;
    let ended = || async { working(&world).await.is_empty().then_some(()) };
    world.eventually("end of the runners' pods", ended).await;
    assert_eq!(world.jobs().await.len(), 2, "the Jobs stay to be looked at");
    world.kubectl(&["delete", "cu", "coder", "--timeout=60s"]).await;
    finish(world).await;
}

#[tokio::test]
async fn a_runner_that_is_killed_beside_another_container_is_followed_by_one_that_ends_right() {
    let (world, _webhook) = world("outlived-killed", RUNNER, |_| vec![added("containers")]).await;
    let chart = json!({"repository": world.repositories().v2});
    let spec = json!({"version": "2.31.7", "chart": chart, "verify": {"soak": "10s", "timeout": "60s"}});
    world.declare("coder", spec).await;
    world.phase("coder", Phase::Verifying).await;
    let pod = world.runner_pod("upgrade").await.name_any();
    let control = Control::of(&world.cluster.dir().join("node")).unwrap();
    control.kill(&world.namespace, &pod, "runner", None).await.unwrap();
    let status = world.ready("coder").await.status.unwrap();
    let ended: Vec<_> = status.steps.iter().map(|step| step.state).collect();
    assert_eq!(ended, [StepState::Succeeded, StepState::Interrupted, StepState::Succeeded]);
    let interrupted = &status.steps[1].message;
    assert!(interrupted.contains("container runner of Pod/"), "{interrupted}");
    finish(world).await;
}

#[tokio::test]
async fn a_change_that_is_deleted_beside_another_container_goes_when_it_has_ended() {
    let (world, _webhook) = world("outlived-deleted", RUNNER, |_| vec![added("containers")]).await;
    world.upgrade_to("2.31.7").await;
    world.phase("coder", Phase::Verifying).await;
    world.kubectl(&["delete", "cu", "coder", "--wait=false"]).await;
    world.gone("coder").await;
    assert_eq!(world.release().await.1, "deployed");
    finish(world).await;
}
