//! P2 and P9: after an upgrade that failed and another one with corrected values, what runs is what the chart renders, and
//! nothing of the failed one is left.

use crate::common::World;
use crate::common::steps::{HelmMajor, Steps};
use k8s_openapi::api::core::v1::Secret;
use rstest::rstest;
use serde_json::{Value, json};

/// Values with which no new pod starts: an annotation, a variable, and an object of their own.
fn wrong() -> Value {
    let left = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "wrong"}});
    json!({
        "coder": {"podAnnotations": {"testbed.coderupgrade.dev/pull-error": "manifest unknown"}},
        "testbed": {"env": [{"name": "WRONG", "value": "yes"}]},
        "extraTemplates": [left],
    })
}

/// What the wrong values have brought into the cluster.
async fn traces(world: &World) -> (bool, bool, bool) {
    let deployment = world.kubectl(&["get", "deployment/coder", "-o", "yaml"]).await;
    let map = world.kubectl(&["get", "configmap/wrong", "-o", "name", "--ignore-not-found"]).await;
    (deployment.contains("pull-error"), deployment.contains("WRONG"), !map.is_empty())
}

const ALL: (bool, bool, bool) = (true, true, true);
const NONE: (bool, bool, bool) = (false, false, false);

/// helm's record of the first revision is what it was.
async fn unchanged(world: &World, before: &str) {
    assert_eq!(world.helm(&["get", "manifest", "coder", "--revision", "1"]).await, before);
    let record = world.api::<Secret>().get("sh.helm.release.v1.coder.v1").await.unwrap();
    assert_eq!(record.data.unwrap().into_keys().collect::<Vec<_>>(), ["release"]);
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn nothing_of_a_failed_upgrade_is_left_after_a_corrected_one(#[case] helm: HelmMajor) {
    let steps = Steps::with("corrected", helm, |r| &r.v2, "2.30.0", &[]).await;
    let manifest = steps.world.helm(&["get", "manifest", "coder"]).await;
    steps.plan(json!({"version": "2.31.7", "values": wrong()})).await;
    for _ in 0..2 {
        steps.fails("upgrade", &["--helm-timeout", "5s"]).await;
        assert_eq!(traces(&steps.world).await, ALL);
        unchanged(&steps.world, &manifest).await;
    }
    steps.plan(json!({"version": "2.31.7", "values": {"coder": {"podAnnotations": {"right": "yes"}}}})).await;
    assert_eq!(steps.upgrade().await.current.revision, 4);
    assert_eq!(traces(&steps.world).await, NONE);
    unchanged(&steps.world, &manifest).await;
    steps.world.finish().await;
}

#[tokio::test]
async fn a_runner_killed_in_the_corrected_upgrade_leaves_nothing_either() {
    let world = World::with_v2("corrected-killed", "2.30.0", &[]).await;
    let manifest = world.helm(&["get", "manifest", "coder"]).await;
    let spec = |values: Value, timeout: &str| {
        json!({
            "version": "2.31.7", "chart": {"repository": world.repositories().v2}, "values": values,
            "helm": {"timeout": timeout}, "recovery": "Stop", "job": {"image": "coder-upgrade-operator:v0.1.0-helm3"},
        })
    };
    world.declare("coder", spec(wrong(), "10s")).await;
    world.stalled("coder").await;
    assert_eq!(traces(&world).await, ALL);
    let slow = json!({"coder": {"podAnnotations": {"testbed.coderupgrade.dev/start-delay": "8s"}}});
    let failed = world.release().await.0;
    world.declare("coder", spec(slow, "2m")).await;
    world
        .eventually("corrected revision", || async {
            (world.release().await == (failed + 1, "pending-upgrade".into())).then_some(())
        })
        .await;
    world.kill_runner("upgrade").await;
    world.ready("coder").await;
    assert_eq!(traces(&world).await, NONE);
    assert_eq!(world.release().await.0, failed + 2);
    unchanged(&world, &manifest).await;
    world.finish().await;
}
