//! P2, P3 and P9: whatever is killed, edited or deleted in the middle, the end is the right one.

use crate::common::{World, observed, reason};
use coder_upgrade_operator::api::{CoderUpgrade, FailureClass, Phase, StepName, StepState, label};
use futures::future::try_join_all;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use rstest::rstest;
use serde_json::{Value, json};
use testbed::process::{Identity, Signal};
use tokio::net::TcpListener;

/// An upgrade in the middle of helm's wait: the new pods start slowly.
async fn upgrading(name: &str) -> World {
    let world = World::with_v2(name, "2.30.0", &[]).await;
    world.declare("coder", slow(&world, "2.31.7")).await;
    world.phase("coder", Phase::Upgrading).await;
    world.runner_pod("upgrade").await;
    world.eventually("second revision", || async { (world.release().await.0 == 2).then_some(()) }).await;
    world
}

fn slow(world: &World, version: &str) -> serde_json::Value {
    let annotations = json!({"testbed.coderupgrade.dev/start-delay": "8s"});
    json!({"version": version, "chart": {"repository": world.repositories().v2}, "values": {"coder": {"podAnnotations": annotations}}})
}

fn version(object: &CoderUpgrade) -> String {
    object.status.as_ref().and_then(|s| s.current.as_ref()).map(|c| c.version.clone()).unwrap_or_default()
}

#[tokio::test]
async fn a_spec_changed_while_an_upgrade_runs_takes_effect_after_it() {
    let world = upgrading("edited").await;
    world.declare("coder", json!({"version": "2.32.0", "chart": {"repository": world.repositories().v2}})).await;
    let object = world.get("coder").await;
    assert!(!observed(&object), "the running step is not disturbed");
    let object =
        world.until("coder", "at 2.32.0", |o| version(o) == "2.32.0" && crate::common::is(o, "Ready", "True")).await;
    let history = object.status.unwrap().history;
    let ends: Vec<_> = history.iter().map(|h| (h.to.as_deref().unwrap(), h.outcome)).collect();
    assert_eq!(ends, [("2.32.0", Phase::Succeeded), ("2.31.7", Phase::Succeeded)]);
    assert_eq!(world.release().await, (3, "deployed".into()));
    world.finish().await;
}

#[tokio::test]
async fn a_deleted_object_lets_the_running_upgrade_finish_and_the_release_stays() {
    let world = upgrading("deleted").await;
    world.kubectl(&["delete", "cu", "coder", "--wait=false"]).await;
    assert!(world.get("coder").await.metadata.deletion_timestamp.is_some(), "held while the change is under way");
    world.gone("coder").await;
    assert_eq!(world.release().await, (2, "deployed".into()));
    world.finish().await;
}

/// As many megabytes of Jobs as a busy cluster has: a controller that comes lists the objects long before them.
async fn many_jobs(world: &World) {
    let job = |number: usize| -> Job {
        serde_json::from_value(json!({
            "metadata": {
                "name": format!("many-{number}"), "labels": {label::UPGRADE_UID: "of-nobody"},
                "annotations": {"example.com/text": "x".repeat(200_000)},
            },
            "spec": {"suspend": true, "template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}}},
        }))
        .unwrap()
    };
    let (jobs, parameters) = (world.api::<Job>(), PostParams::default());
    let created = (0..80).map(job).map(async |job| jobs.create(&parameters, &job).await);
    try_join_all(created).await.unwrap();
}

/// The status does not say that helm has begun, and the controller that comes lists the objects before it knows of any Job; or
/// there is no Job any more that could tell how far it came.
#[rstest]
#[case::alone("unwatched", false)]
#[case::after_its_job("unseen", true)]
#[tokio::test]
async fn an_object_deleted_while_no_controller_runs_is_held_until_the_upgrade_has_ended(
    #[case] name: &str,
    #[case] job_as_well: bool,
) {
    let world = World::with_v2(name, "2.30.0", &[]).await;
    many_jobs(&world).await;
    let mut spec = slow(&world, "2.31.7");
    spec["approval"] = json!("Manual");
    spec["job"] = json!({"nodeSelector": {name: "true"}});
    // Pods of the runner start only while the node has this label.
    world.kubectl(&["label", "node", "--all", &format!("{name}=true")]).await;
    world.declare("coder", spec).await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;
    world.kubectl(&["label", "node", "--all", &format!("{name}-")]).await;
    let approval = format!("coderupgrade.dev/approve={}", object.status.unwrap().plan.unwrap().id);
    world.kubectl(&["annotate", "cu", "coder", &approval]).await;
    let selector = ListParams::default().labels("coderupgrade.dev/step=upgrade");
    let pods = || async { world.api::<Pod>().list(&selector).await.unwrap().items.pop() };
    world.eventually("a pod that waits for a node", pods).await;
    let controller = world.without_controller().await;
    world.kubectl(&["label", "node", "--all", &format!("{name}=true")]).await;
    world.eventually("second revision", || async { (world.release().await.0 == 2).then_some(()) }).await;
    if job_as_well {
        world.kubectl(&["delete", "job", "--selector", "coderupgrade.dev/step=upgrade"]).await;
    }
    world.kubectl(&["delete", "cu", "coder", "--wait=false"]).await;
    world.with_controller(controller).await;
    world.gone("coder").await;
    // helm, killed with the first Job, left its revision pending, or failed.
    assert_eq!(world.release().await, (if job_as_well { 3 } else { 2 }, "deployed".into()));
    world.kubectl(&["label", "node", "--all", &format!("{name}-")]).await;
    world.finish().await;
}

#[tokio::test]
async fn a_runner_killed_in_the_middle_of_helm_is_followed_by_one_that_ends_right() {
    let world = upgrading("killed").await;
    world.kill_runner("upgrade").await;
    let object = world.ready("coder").await;
    let steps = object.status.unwrap().steps;
    let states: Vec<_> = steps.iter().map(|step| step.state).collect();
    assert_eq!(states, [StepState::Succeeded, StepState::Interrupted, StepState::Succeeded]);
    assert_eq!(world.release().await.1, "deployed");
    assert_eq!(world.values().await["coder"]["env"].as_array().unwrap().len(), 2, "the values are kept");
    world.finish().await;
}

/// Kills the helm process that upgrades a release of this namespace, and nothing else.
fn kill_helm(namespace: &str) {
    let is_helm = |pid: u32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split('\0').collect();
        words.iter().take(2).any(|word| *word == "upgrade") && words.contains(&namespace)
    };
    let pids =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let helm: Vec<_> = pids.filter(|pid| is_helm(*pid)).filter_map(Identity::of).collect();
    assert_eq!(helm.len(), 1, "{helm:?}");
    helm[0].open().unwrap().unwrap().signal(Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_helm_process_that_is_killed_alone_is_followed_by_another() {
    let world = upgrading("helm-killed").await;
    kill_helm(&world.namespace);
    let interrupted =
        |object: &CoderUpgrade| {
            object.status.as_ref().and_then(|status| status.failure.as_ref()).is_some_and(|failure| {
                failure.class == FailureClass::Interrupted && failure.message.contains("SIGKILL")
            })
        };
    world.until("coder", "interrupted", interrupted).await;
    let steps = world.ready("coder").await.status.unwrap().steps;
    let states: Vec<_> = steps.iter().map(|step| (step.name, step.state)).collect();
    let upgrade = |state| (StepName::Upgrade, state);
    assert_eq!(
        states,
        [(StepName::Plan, StepState::Succeeded), upgrade(StepState::Failed), upgrade(StepState::Succeeded)]
    );
    assert_eq!(world.release().await.1, "deployed");
    world.finish().await;
}

/// A kubelet sends SIGTERM to what is deleted by force, too, and SIGKILL after 2 seconds.
#[tokio::test]
async fn a_runner_that_is_deleted_by_force_lets_helm_end_and_is_followed_by_another() {
    let world = upgrading("forced").await;
    let pod = world.runner_pod("upgrade").await;
    world.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await.unwrap();
    world.ready("coder").await;
    let history: Value = serde_json::from_str(&world.helm(&["history", "coder", "-o", "json"]).await).unwrap();
    assert_eq!(history[1]["status"], "failed", "{history}");
    assert!(history[1]["description"].as_str().unwrap().contains("context canceled"), "helm said so itself: {history}");
    assert_eq!(world.release().await, (3, "deployed".into()));
    world.finish().await;
}

#[tokio::test]
async fn a_runner_that_is_evicted_lets_helm_end_and_is_followed_by_another() {
    let world = upgrading("evicted").await;
    let pod = world.runner_pod("upgrade").await;
    world.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    world.ready("coder").await;
    assert_eq!(world.release().await.1, "deployed");
    world.finish().await;
}

#[tokio::test]
async fn a_controller_that_is_restarted_in_the_middle_goes_on_where_it_was() {
    let world = upgrading("restarted").await;
    world.restart_controller().await;
    let object = world.ready("coder").await;
    assert_eq!(reason(&object, "Ready").unwrap().1, "Verified");
    assert_eq!(world.job_counts().await, (1, 1), "no step was done twice");
    assert_eq!(world.release().await, (2, "deployed".into()));
    world.finish().await;
}

/// Nobody listens, or somebody does and says nothing until the API server gives up.
#[rstest]
#[case::absent("webhook-absent", false)]
#[case::slow("webhook-slow", true)]
#[tokio::test]
async fn a_webhook_that_does_not_answer_is_asked_again_until_it_does(#[case] name: &str, #[case] listens: bool) {
    let world = World::with_v2(name, "2.30.0", &[]).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = if listens { silent.local_addr().unwrap().port() } else { 1 };
    let url = format!("https://127.0.0.1:{port}/nobody");
    let name = &world.namespace;
    let rule = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["*"]});
    let webhook = json!({
        "name": "deployments.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": [rule],
        "failurePolicy": "Fail", "timeoutSeconds": 1, "clientConfig": {"url": url},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
    });
    let kind = "ValidatingWebhookConfiguration";
    let metadata = json!({"name": name});
    let webhooks = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": metadata, "webhooks": [webhook]});
    world.apply(&webhooks).await;
    let touch = ["annotate", "deployment/coder", "seen=yes", "--dry-run=server", "--namespace", name];
    world.eventually("webhook that is asked", || async { world.cluster.kubectl(&touch).await.err() }).await;
    world.upgrade_to("2.31.7").await;
    let told = |o: &CoderUpgrade| {
        let failure = o.status.as_ref().and_then(|status| status.failure.as_ref());
        failure.is_some_and(|f| {
            f.class == FailureClass::WebhookUnavailable && f.retryable && f.message.contains("deployments.example.com")
        })
    };
    world.until("coder", "one that names the webhook", told).await;
    assert_eq!(world.release().await, (1, "deployed".into()), "nothing was changed");
    world.kubectl(&["delete", kind, name]).await;
    world.ready("coder").await;
    world.finish().await;
}
