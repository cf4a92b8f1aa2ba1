//! Old pods that are long in ending, because people are connected to them.

use std::time::{Duration, Instant};

use crate::common::World;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::ListParams};

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
