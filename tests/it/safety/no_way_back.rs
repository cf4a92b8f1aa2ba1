//! P5: an older version never starts on a database that a newer one may have migrated: not after hooks, not when nothing
//! runs any more, not for another `CoderUpgrade`, and not when a pod starts at the last moment.

use crate::common::World;
use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::api::{CheckName, FailureClass, Phase, Severity, StepName};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use rstest::rstest;
use serde_json::{Value, json};

/// A hook that migrates the database with the new version, does not end, and is deleted as soon as it has failed.
fn migration(events: &str) -> Value {
    let url = json!({"name": "CODER_PG_CONNECTION_URL",
        "valueFrom": {"secretKeyRef": {"name": "coder-db-url", "key": "url"}}});
    let container = json!({"name": "coder", "image": "ghcr.io/coder/coder:v2.31.7", "env": [url]});
    let policy = "before-hook-creation,hook-succeeded,hook-failed";
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "migration", "annotations": {"helm.sh/hook": events, "helm.sh/hook-delete-policy": policy}},
        "spec": {"backoffLimit": 0, "activeDeadlineSeconds": 8, "template": {"spec": {
            "restartPolicy": "Never", "containers": [container]}}},
    })
}

/// The runner may make and delete the Jobs of hooks.
async fn allow_hooks(world: &World) {
    world.kubectl(&["create", "role", "hooks", "--verb=*", "--resource=jobs.batch"]).await;
    let runner = format!("--serviceaccount={}:coder-upgrade-runner", world.namespace);
    world.kubectl(&["create", "rolebinding", "hooks", "--role=hooks", &runner]).await;
}

#[tokio::test]
async fn a_hook_of_the_new_version_counts_as_started_though_it_is_gone() {
    let world = World::with_v2("back-hook", "2.30.0", &[]).await;
    allow_hooks(&world).await;
    let chart = json!({"repository": world.repositories().v2});
    let values = json!({"extraTemplates": [migration("pre-upgrade")]});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "values": values})).await;
    let status = world.stalled("coder").await.status.unwrap();
    assert_eq!(status.failure.as_ref().unwrap().class, FailureClass::HookFailed, "{:?}", status.failure);
    let jobs = world.kubectl(&["get", "job", "migration", "--ignore-not-found"]).await;
    assert!(jobs.is_empty(), "helm has deleted the hook: {jobs}");
    assert!(status.new_version_started, "{status:?}");
    assert_eq!(status.highest_started_version.as_deref(), Some("2.31.7"));
    assert!(!status.steps.iter().any(|step| step.name == StepName::Restore), "{:?}", status.steps);
    world.finish().await;
}

#[tokio::test]
async fn what_has_started_is_known_when_nothing_runs_and_to_another_object_too() {
    let world = World::with_v2("back-scaled", "2.30.0", &[]).await;
    let chart = json!({"repository": world.repositories().faults});
    let spec = |version: &str| json!({"version": version, "chart": chart, "helm": {"timeout": "15s"}, "verify": {"timeout": "10s"}});
    world.declare("coder", spec("2.31.10")).await;
    let status = world.stalled("coder").await.status.unwrap();
    assert_eq!(status.failure.as_ref().unwrap().class, FailureClass::RolloutTimedOut, "{:?}", status.failure);
    assert_eq!(status.highest_started_version.as_deref(), Some("2.31.10"));

    // Nobody can be asked any more.
    world.kubectl(&["scale", "deployment/coder", "--replicas=0"]).await;
    let gone = world.eventually("end of the pods", || async {
        let pods = ListParams::default().labels("app.kubernetes.io/name=coder");
        world.api::<Pod>().list(&pods).await.unwrap().items.is_empty().then_some(())
    });
    gone.await;
    let repository = json!({"repository": world.repositories().v2});
    let older = |name: &'static str, overrides: &'static [&'static str]| {
        let spec = json!({"version": "2.31.6", "chart": repository, "approval": "Manual", "overrides": overrides});
        let world = &world;
        async move { world.declare(name, spec).await }
    };
    older("coder", &[]).await;
    let refused = world.until("coder", "refused", |object| {
        let status = object.status.as_ref().unwrap();
        status.failure.as_ref().is_some_and(|failure| failure.class == FailureClass::Downgrade)
    });
    let status = refused.await.status.unwrap();
    assert!(status.failure.unwrap().message.contains("2.31.10 may have started"), "{:?}", status.checks);
    assert_eq!(status.highest_started_version.as_deref(), Some("2.31.10"), "a plan forgets nothing");

    world.kubectl(&["delete", "cu", "coder"]).await;
    older("another", &[]).await;
    let status = world.stalled("another").await.status.unwrap();
    assert_eq!(status.failure.unwrap().class, FailureClass::Downgrade);
    let newest = world.release().await;

    // A person who has restored the database says so.
    older("another", &["Downgrade"]).await;
    let status = world.phase("another", Phase::AwaitingApproval).await.status.unwrap();
    let finding = status.checks.iter().find(|finding| finding.check == CheckName::Downgrade).unwrap();
    assert_eq!(finding.severity, Severity::Overridden);
    assert_eq!(world.release().await, newest, "nothing was changed");
    world.finish().await;
}

/// Settings with which the installed release has a hook that takes its time, longer than a kubelet's first back-offs.
const SLOW_HOOK: [&str; 11] = [
    "extraTemplates[0].apiVersion=batch/v1",
    "extraTemplates[0].kind=Job",
    "extraTemplates[0].metadata.name=slow",
    "extraTemplates[0].metadata.annotations.helm\\.sh/hook=pre-upgrade",
    "extraTemplates[0].spec.backoffLimit=0",
    "extraTemplates[0].spec.template.spec.restartPolicy=Never",
    "extraTemplates[0].spec.template.spec.containers[0].name=hook",
    "extraTemplates[0].spec.template.spec.containers[0].image=testbed-host:1",
    "extraTemplates[0].spec.template.spec.containers[0].command[0]=sh",
    "extraTemplates[0].spec.template.spec.containers[0].command[1]=-c",
    "extraTemplates[0].spec.template.spec.containers[0].command[2]=sleep 50",
];

/// Asks for the image of Coder that is wanted.
const IMAGE: [&str; 4] = ["get", "deployment/coder", "-o", "jsonpath={.spec.template.spec.containers[0].image}"];

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn a_pod_that_starts_while_the_old_release_is_restored_keeps_the_new_one(#[case] helm: HelmMajor) {
    let steps = Steps::with("back-late", helm, |r| &r.v2, "2.30.0", &SLOW_HOOK).await;
    let world = &steps.world;
    allow_hooks(world).await;
    let late = "testbed.coderupgrade.dev/pull-error";
    let values = json!({"coder": {"podAnnotations": {late: "manifest unknown"}}, "extraTemplates": []});
    steps.plan(json!({"version": "2.31.7", "values": values})).await;
    let problem = steps.fails("upgrade", &["--helm-timeout", "5s"]).await;
    assert_eq!(problem.class, FailureClass::RolloutTimedOut, "{}", problem.message);

    let meanwhile = async {
        // The saved release is being restored: helm runs its hook.
        world.eventually("hook", || async { (!steps.uid("job/slow").await.is_empty()).then_some(()) }).await;
        let pods =
            world.api::<Pod>().list(&ListParams::default().labels("app.kubernetes.io/name=coder")).await.unwrap();
        let new = pods.items.iter().find(|pod| pod.annotations().contains_key(late)).expect("the new pod");
        world.kubectl(&["annotate", "pod", &new.name_any(), &format!("{late}-")]).await;
        // A real node has no such annotation: there the pod has an image that cannot be pulled.
        let image = world.kubectl(&IMAGE).await;
        world.kubectl(&["set", "image", &format!("pod/{}", new.name_any()), &format!("coder={image}")]).await;
    };
    let (problem, ()) = tokio::join!(steps.fails("restore", &[]), meanwhile);
    assert_eq!(problem.class, FailureClass::Downgrade, "{}", problem.message);
    assert!(world.kubectl(&IMAGE).await.ends_with(":v2.31.7"), "the old release was not put over it");
    let lease = ["get", "lease", "coder-upgrade-coder", "-o", "jsonpath={.metadata.annotations}"];
    assert!(world.kubectl(&lease).await.contains("2.31.7"));

    // What the controller does next: the upgrade goes on.
    let upgraded = match steps.step("upgrade", &["--new-version-started", "true"]).await {
        coder_upgrade_operator::core::report::Outcome::Upgraded(upgraded) => upgraded,
        other => panic!("not upgraded: {other:?}"),
    };
    assert_eq!(upgraded.current.version, "2.31.7");
    steps.world.finish().await;
}
