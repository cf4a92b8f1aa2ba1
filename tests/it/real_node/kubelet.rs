//! A kubelet that is silent while helm works: the node is not ready, its containers go on, and nobody begins a second helm.

use coder_upgrade_operator::api::StepState;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt, api::ListParams};
use testbed::process::Signal;
use testbed::supervisor::state::NodeKind;

use super::{own_cluster, upgrading};
use crate::common::World;
use crate::common::node::{component, left_out_on, signal};

async fn node_is_ready(world: &World) -> bool {
    let nodes = Api::<Node>::all(world.client.clone()).list(&ListParams::default()).await.unwrap();
    let conditions = nodes.items.into_iter().flat_map(|node| node.status.unwrap().conditions.unwrap());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[tokio::test]
async fn a_kubelet_that_is_silent_while_helm_works_is_waited_for() {
    if left_out_on(NodeKind::Process, "it has no kubelet").await {
        return;
    }
    let cluster = own_cluster().await;
    let world = World::on(cluster, "silent").await;
    upgrading(&world, "20s").await;
    let runner = world.runner_pod("upgrade").await;

    let kubelet = component(cluster, "kubelet");
    signal(&[kubelet], Signal::STOP);
    world.eventually("node that is not ready", || async { (!node_is_ready(&world).await).then_some(()) }).await;
    assert_eq!(world.release().await, (2, "pending-upgrade".into()), "helm waits for pods that nobody reports");
    assert_eq!(world.job_counts().await, (1, 1), "no second runner is started");
    signal(&[kubelet], Signal::CONT);

    let object = world.ready("coder").await;
    let states: Vec<_> = object.status.unwrap().steps.iter().map(|step| step.state).collect();
    assert_eq!(states, [StepState::Succeeded, StepState::Succeeded]);
    assert_eq!(world.release().await, (2, "deployed".into()));
    let jobs = world.jobs().await;
    assert!(jobs.iter().any(|job| runner.name_any().starts_with(&job.name_any())), "the same runner has done it");
    cluster.down().await.unwrap();
}
