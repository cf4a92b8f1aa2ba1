//! Two controllers, of which one acts. What becomes of the leader in the middle of an upgrade does not matter to it.

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, api::ListParams};
use testbed::{cluster::OPERATOR_NAMESPACE, process::Signal, supervisor::state::NodeKind};

use super::{own_cluster, upgrading};
use crate::common::World;
use crate::common::node::{left_out_on, processes, signal};

/// The container of the controller.
const CONTAINER: &str = "controller";

async fn leader(world: &World) -> String {
    let leases = Api::<Lease>::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let holder = || async {
        leases
            .get("coder-upgrade-operator")
            .await
            .unwrap()
            .spec
            .unwrap()
            .holder_identity
            .filter(|name| !name.is_empty())
    };
    world.eventually("leader", holder).await
}

/// The upgrade was done once.
async fn ended_right(world: &World) {
    world.ready("coder").await;
    assert_eq!(world.job_counts().await, (1, 1), "no step was done twice");
    assert_eq!(world.release().await, (2, "deployed".into()));
}

#[tokio::test]
async fn a_leader_that_is_killed_or_hangs_in_mid_upgrade_is_followed_by_one_that_goes_on() {
    if left_out_on(NodeKind::Process, "the processes of its containers cannot be found from outside").await {
        return;
    }
    let cluster = own_cluster().await;
    let scale = ["scale", "deployment/coder-upgrade-operator", "--replicas=2", "--namespace", OPERATOR_NAMESPACE];
    cluster.kubectl(&scale).await.unwrap();
    let rolled_out = ["rollout", "status", "deployment/coder-upgrade-operator", "--namespace", OPERATOR_NAMESPACE];
    cluster.kubectl(&rolled_out).await.unwrap();
    let pods = |world: &World| Api::<Pod>::namespaced(world.client.clone(), OPERATOR_NAMESPACE);

    // SIGKILL: nobody gives the Lease back.
    let world = World::on(cluster, "leader-killed").await;
    upgrading(&world, "8s").await;
    let pod = pods(&world).get(&leader(&world).await).await.unwrap();
    signal(&processes(&pod, CONTAINER), Signal::KILL);
    ended_right(&world).await;

    // It keeps its connections and does nothing: the other one takes the Lease when it has run out.
    let world = World::on(cluster, "leader-hangs").await;
    let all = pods(&world).list(&ListParams::default()).await.unwrap();
    assert_eq!(all.items.len(), 2);
    upgrading(&world, "8s").await;
    let first = leader(&world).await;
    let pod = pods(&world).get(&first).await.unwrap();
    let hung = processes(&pod, CONTAINER);
    signal(&hung, Signal::STOP);
    world.eventually("another leader", || async { (leader(&world).await != first).then_some(()) }).await;
    ended_right(&world).await;
    signal(&hung, Signal::CONT);
    cluster.down().await.unwrap();
}
