//! Pods that are long in ending: old ones, because people are connected to them, and new ones on a node that does not answer.

use std::time::{Duration, Instant};

use crate::common::World;
use coder_upgrade_operator::api::{CoderUpgrade, Phase};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::ListParams};
use rstest::rstest;
use serde_json::json;

/// The old pod goes on until its preStop hook is done, as with a load balancer that is given time.
const SETTINGS: [&str; 2] = ["coder.terminationGracePeriodSeconds=600", "coder.lifecycle.preStop.sleep.seconds=500"];

/// The pods of Coder that are told to end.
async fn ending(world: &World) -> Vec<String> {
    let pods = world.api::<Pod>().list(&ListParams::default().labels("app.kubernetes.io/name=coder")).await.unwrap();
    pods.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn a_new_pod_is_verified_beside_an_old_one_that_is_long_in_ending() {
    let world = World::with_v2("long-ending", "2.30.0", &SETTINGS).await;
    world.upgrade_to("2.31.7").await;
    let declared = Instant::now();
    let status = world.ready("coder").await.status.unwrap();
    assert!(declared.elapsed() < Duration::from_secs(120), "{:?}", declared.elapsed());
    let left = ending(&world).await;
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(status.message.contains("1 pod answers 2.31.7, same deployment"), "{}", status.message);
    world.finish().await;
}

/// The release is put back by helm, and the new pod stays as long as its node is silent.
#[rstest]
#[case::started(true)]
#[case::never_started(false)]
#[tokio::test]
async fn whether_a_new_pod_has_started_is_known_when_it_is_gone(#[case] started: bool) {
    let world = World::with_v2("late-report", "2.30.0", &[]).await;
    let (node, only_there) = world.dead_node().await;
    let spec = json!({
        "version": "2.31.7", "chart": {"repository": world.repositories().v2}, "values": {"coder": only_there},
        "helm": {"timeout": "15s", "rollbackOnFailure": true}, "retry": {"limit": 0},
    });
    world.declare("coder", spec).await;
    let there = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let new = || async { world.api::<Pod>().list(&there).await.unwrap().items.first().map(ResourceExt::name_any) };
    let new = world.eventually("new pod", new).await;
    let waiting = format!("waiting for Pod/{new} to end");
    let waits = |o: &CoderUpgrade| {
        o.status.as_ref().is_some_and(|status| status.phase == Phase::Upgrading && status.message.contains(&waiting))
    };
    world.until("coder", "one that waits for the pod", waits).await;
    assert_eq!(ending(&world).await, [new.as_str()]);
    if started {
        let times = json!({"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z", "exitCode": 0});
        let container = json!({
            "name": "coder", "image": "ghcr.io/coder/coder:v2.31.7", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": times},
        });
        let report = json!({"status": {"containerStatuses": [container]}}).to_string();
        world.kubectl(&["patch", "pod", &new, "--subresource=status", "--type=merge", "--patch", &report]).await;
    }
    world.kubectl(&["delete", "pod", &new, "--force"]).await;
    let status = world.stalled("coder").await.status.unwrap();
    assert_eq!(status.new_version_started, started, "{status:?}");
    let told = status.failure.unwrap().message.contains("helm has rolled back after a pod of 2.31.7 had started");
    assert_eq!(told, started);
    assert_eq!(world.release().await, (3, "deployed".into()));
    world.kubectl(&["delete", "node", &node]).await;
    world.finish().await;
}
