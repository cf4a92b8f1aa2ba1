//! P4 and P9: a runner that is killed while it replaces a Deployment is followed by one that ends right, and somebody
//! serves in every moment.

use std::time::Duration;

use crate::common::World;
use coder_upgrade_operator::api::Remedy;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::ListParams;
use rstest::rstest;
use serde_json::{Value, json};
use testbed::cluster::ServiceWatch;

/// When the runner is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The Deployment is paused, and its `ReplicaSet` is being deleted. Only if a label's value changes.
    Paused,
    /// Pods and Services have changed over, and the Deployment is being deleted.
    Crossed,
    /// The Deployment is gone.
    Deleted,
    /// helm waits for the new pods.
    Waiting,
}

const ADDED: &str = "2.31.11";
const CHANGED: &str = "2.31.13";
/// Holds an object in its deletion, so that the moment is met for certain.
const HOLD: &str = "coderupgrade.dev/test-hold";

/// A Deployment that is replaced, up to that moment.
struct Scene {
    world: World,
    watch: ServiceWatch,
    held: Option<String>,
}

impl Scene {
    async fn at(version: &str, moment: Moment, back: bool) -> Self {
        let name = format!("bridge-{version}-{moment:?}{}", if back { "-back" } else { "" });
        let world = World::with_v2(&name.replace('.', "-").to_lowercase(), "2.30.0", &[]).await;
        let before = world.api::<Deployment>().get("coder").await.unwrap();
        let held = match moment {
            Moment::Paused => {
                let sets = world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap();
                Some(format!("replicaset/{}", sets.items.first().unwrap().name_any()))
            }
            Moment::Crossed => Some("deployment/coder".to_owned()),
            Moment::Deleted | Moment::Waiting => None,
        };
        if let Some(held) = &held {
            finalizers(&world, held, &json!([HOLD])).await;
        }
        let watch = world.cluster.watch_service(&world.namespace, "coder").await.unwrap();
        let annotations = json!({"testbed.coderupgrade.dev/start-delay": "5s"});
        let values = json!({"coder": {"podAnnotations": annotations}});
        let repository = &world.repositories().faults;
        let spec = json!({"version": version, "chart": {"repository": repository}, "values": values});
        world.declare("coder", spec).await;
        let replaces = |object: &coder_upgrade_operator::api::CoderUpgrade| {
            let repairs = object.status.iter().flat_map(|status| &status.repairs);
            repairs.into_iter().any(|repair| repair.remedy == Remedy::Replace && repair.object == "Deployment/coder")
        };
        world.until("coder", "being repaired", replaces).await;
        world
            .eventually(&format!("{moment:?}"), || async {
                let now = world.api::<Deployment>().get_opt("coder").await.unwrap();
                let same = now.filter(|now| now.uid() == before.uid());
                let met = match (moment, same) {
                    (Moment::Paused, Some(same)) => {
                        let sets = world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap();
                        same.spec.unwrap().paused == Some(true)
                            && sets.iter().any(|set| set.metadata.deletion_timestamp.is_some())
                    }
                    (Moment::Crossed, Some(same)) => same.metadata.deletion_timestamp.is_some(),
                    (Moment::Deleted, same) => same.is_none(),
                    (Moment::Waiting, None) => pods(&world).await.len() == 2,
                    _ => false,
                };
                met.then_some(())
            })
            .await;
        Self { world, watch, held }
    }

    async fn kill(&self) {
        self.world.kill_runner("upgrade").await;
    }

    async fn let_go(&self) {
        if let Some(held) = &self.held {
            finalizers(&self.world, held, &Value::Null).await;
        }
    }

    /// Waits for the end, and looks at all that a bridge could leave behind.
    async fn ends_right(self, version: &str) {
        let Self { world, watch, .. } = self;
        let object = world.ready("coder").await;
        assert_eq!(object.status.unwrap().current.unwrap().version, version);
        assert_eq!(world.release().await.1, "deployed");
        world
            .eventually("end of the old pods", || async {
                let sets = world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap();
                let free = sets.iter().any(|set| set.owner_references().is_empty());
                (pods(&world).await.len() == 1 && !free).then_some(())
            })
            .await;
        let seen = watch.end().await;
        assert!(seen.rounds > 20 && seen.outage == Duration::ZERO, "{seen:?}\n{}", world.dump().await);
        let bridged = world.kubectl(&["get", "rs,pods", "-l", "coderupgrade.dev/bridge", "-o", "name"]).await;
        assert_eq!(bridged, "", "nothing is left for the time being");
        let now = world.api::<Deployment>().get("coder").await.unwrap();
        assert!(!now.annotations().contains_key("coderupgrade.dev/bridge"));
        let spec = now.spec.unwrap();
        assert_ne!(spec.paused, Some(true));
        let service = world.api::<Service>().get("coder").await.unwrap().spec.unwrap().selector;
        assert_eq!(
            service, spec.selector.match_labels,
            "the Service finds the pods of the Deployment, by the same labels"
        );
        world.finish().await;
    }
}

async fn pods(world: &World) -> Vec<Pod> {
    let part = ListParams::default().labels("app.kubernetes.io/part-of=coder");
    world.api::<Pod>().list(&part).await.unwrap().items
}

async fn finalizers(world: &World, object: &str, finalizers: &Value) {
    let value = json!({"metadata": {"finalizers": finalizers}}).to_string();
    world.kubectl(&["patch", object, "--type", "merge", "--patch", &value]).await;
}

#[rstest]
#[case::added_crossed(ADDED, Moment::Crossed)]
#[case::added_deleted(ADDED, Moment::Deleted)]
#[case::added_waiting(ADDED, Moment::Waiting)]
#[case::changed_paused(CHANGED, Moment::Paused)]
#[case::changed_crossed(CHANGED, Moment::Crossed)]
#[case::changed_deleted(CHANGED, Moment::Deleted)]
#[case::changed_waiting(CHANGED, Moment::Waiting)]
#[tokio::test]
async fn a_killed_replacement_is_ended_without_a_moment_of_outage(#[case] version: &str, #[case] moment: Moment) {
    let scene = Scene::at(version, moment, false).await;
    scene.kill().await;
    scene.let_go().await;
    Box::pin(scene.ends_right(version)).await;
}

/// The operator itself would end what it has begun. Whoever takes the declaration away by force and declares the old version
/// gets it, with the pods that never stopped.
#[rstest]
#[case::paused(Moment::Paused)]
#[case::crossed(Moment::Crossed)]
#[case::deleted(Moment::Deleted)]
#[tokio::test]
async fn a_killed_replacement_that_is_not_wanted_any_more_is_undone(#[case] moment: Moment) {
    let scene = Scene::at(CHANGED, moment, true).await;
    let world = &scene.world;
    scene.kill().await;
    world.kubectl(&["delete", "cu", "coder", "--wait=false"]).await;
    finalizers(world, "cu/coder", &Value::Null).await;
    world.gone("coder").await;
    world.declare("coder", json!({"version": "2.30.0", "chart": {"repository": world.repositories().v2}})).await;
    scene.let_go().await;
    Box::pin(scene.ends_right("2.30.0")).await;
}
