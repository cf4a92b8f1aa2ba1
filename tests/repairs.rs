//! P4: what helm is refused for is repaired with the smallest possible blast radius, within what `recovery` allows.
#![allow(clippy::unwrap_used, clippy::panic)] // a test may; clippy does not see helper functions as tests

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coder_upgrade_operator::api::{CoderUpgrade, FailureClass, Remedy, StepName};
use common::World;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const HELM_3: &str = "coder-upgrade-operator:v0.1.0-helm3";

/// A spec for a version of the repository with breaks.
fn broken(world: &World, version: &str, more: Value) -> Value {
    let mut spec = json!({"version": version, "chart": {"repository": world.repositories().faults}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn repairs(object: &CoderUpgrade) -> Vec<(Remedy, String)> {
    let repairs = &object.status.as_ref().unwrap().repairs;
    repairs.iter().map(|repair| (repair.remedy, repair.object.clone())).collect()
}

fn one(remedy: Remedy, object: &str) -> Vec<(Remedy, String)> {
    vec![(remedy, object.to_owned())]
}

/// No step of an attempt but these.
fn steps(object: &CoderUpgrade) -> Vec<StepName> {
    object.status.as_ref().unwrap().steps.iter().map(|step| step.name).collect()
}

/// Asks all the time for the pods that a Service selects, and takes note of each moment without a ready one.
struct Patrol {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(usize, Vec<String>)>,
}

impl Patrol {
    fn begin(world: &World, service: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (client, namespace) = (world.client.clone(), world.namespace.clone());
        let task = tokio::spawn(patrol(client, namespace, service.to_owned(), stop.clone()));
        Self { stop, task }
    }

    /// Ends, and fails if there was a moment in which nobody was served.
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (looks, outages) = self.task.await.unwrap();
        assert!(looks > 50, "{looks} looks");
        assert!(outages.is_empty(), "nobody was served in {} of {looks} looks: {:#?}", outages.len(), outages.first());
    }
}

async fn patrol(client: Client, namespace: String, name: String, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let (mut looks, mut outages) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let selector = |service: &Service| {
            let selector = service.spec.clone().and_then(|spec| spec.selector).unwrap_or_default();
            selector.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
        };
        let before = selector(&services.get(&name).await.unwrap());
        let found = pods.list(&ListParams::default().labels(&before)).await.unwrap();
        let after = selector(&services.get(&name).await.unwrap());
        looks += 1;
        // What was listed by a selector of the past says nothing.
        if before == after && !found.iter().any(serves) {
            let labels: Vec<_> = found.iter().map(|pod| (pod.name_any(), serves(pod))).collect();
            outages.push(format!("{before}: {labels:?}"));
        }
    }
    (looks, outages)
}

fn serves(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.clone().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A Deployment whose selector changes is made anew, and somebody serves in every moment.
async fn selector(name: &str, version: &str, more: Value) {
    let world = World::with_v2(name, "2.30.0", &[]).await;
    let before = world.api::<Deployment>().get("coder").await.unwrap().uid();
    let patrol = Patrol::begin(&world, "coder");
    world.declare("coder", broken(&world, version, more)).await;
    let object = world.ready("coder").await;
    patrol.end().await;
    assert_eq!(repairs(&object), one(Remedy::Replace, "Deployment/coder"));
    assert_eq!(steps(&object), [StepName::Plan, StepName::Upgrade]);
    assert_eq!(world.release().await, (2, "deployed".into()), "what is sure to be refused is not tried");
    assert_ne!(world.api::<Deployment>().get("coder").await.unwrap().uid(), before);
    let world = &world;
    world
        .eventually("end of the old pods", || async {
            let pods = world.api::<Pod>().list(&ListParams::default().labels("app.kubernetes.io/part-of=coder")).await;
            let sets = world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap();
            let free = sets.iter().filter(|set| set.owner_references().is_empty()).count();
            (pods.unwrap().items.len() == 1 && free == 0).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_selector_that_gains_a_label_costs_no_moment() {
    selector("selector-added", "2.31.11", json!({})).await;
}

#[tokio::test]
async fn a_selector_that_gains_a_label_costs_no_moment_with_helm_3() {
    selector("selector-helm3", "2.31.11", json!({"job": {"image": HELM_3}})).await;
}

#[tokio::test]
async fn a_selector_that_loses_a_label_costs_no_moment() {
    selector("selector-removed", "2.31.12", json!({})).await;
}

#[tokio::test]
async fn a_selector_whose_label_changes_costs_no_moment() {
    selector("selector-changed", "2.31.13", json!({})).await;
}

#[tokio::test]
async fn without_leave_to_repair_nothing_is_touched() {
    let world = World::with_v2("selector-stop", "2.30.0", &[]).await;
    world.declare("coder", broken(&world, "2.31.11", json!({"recovery": "Stop"}))).await;
    let object =
        world.until("coder", "refused", |o| o.status.as_ref().is_some_and(|status| status.failure.is_some())).await;
    let failure = object.status.as_ref().unwrap().failure.clone().unwrap();
    assert_eq!((failure.class, failure.object.as_deref()), (FailureClass::Immutable, Some("Deployment/coder")));
    assert!(repairs(&object).is_empty());
    assert_eq!(world.release().await, (1, "deployed".into()));
    world.finish().await;
}

#[tokio::test]
async fn a_binding_to_another_role_is_replaced_alone() {
    let world = World::with_v2("role-ref", "2.30.0", &[]).await;
    let service = world.api::<Service>().get("coder").await.unwrap().uid();
    world.declare("coder", broken(&world, "2.31.14", json!({}))).await;
    let object = world.ready("coder").await;
    assert_eq!(repairs(&object), one(Remedy::Replace, "RoleBinding/coder"));
    assert_eq!(steps(&object), [StepName::Plan, StepName::Upgrade]);
    let binding = world.api::<RoleBinding>().get("coder").await.unwrap();
    assert_eq!(binding.role_ref.name, "coder-workspace-rights");
    assert_eq!(world.api::<Service>().get("coder").await.unwrap().uid(), service, "nothing else is touched");
    world.finish().await;
}

/// Coder Classic with another size of the database's volume: the `StatefulSet` refuses it.
async fn templates(name: &str, more: Value) {
    let world = World::with_v1(name, "1.16.1").await;
    let claims = world.claims().await;
    let set = world.api::<StatefulSet>().get("timescale").await.unwrap().uid();
    let mut spec = json!({
        "version": "1.16.2",
        "chart": {"repository": world.repositories().v1},
        "values": {"timescale": {"resources": {"requests": {"storage": "96Mi"}}}},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.declare("coder", spec).await;
    let object = world.ready("coder").await;
    assert_eq!(repairs(&object), one(Remedy::Replace, "StatefulSet/timescale"));
    assert_eq!(steps(&object), [StepName::Plan, StepName::Upgrade]);
    assert_eq!(world.claims().await, claims, "the claims are the same");
    assert_ne!(world.api::<StatefulSet>().get("timescale").await.unwrap().uid(), set);
    let now = world.api::<Pod>().get("timescale-0").await.unwrap();
    assert!(now.owner_references().iter().any(|owner| owner.kind == "StatefulSet"), "it has an owner again");
    world.finish().await;
}

#[tokio::test]
async fn another_volume_template_replaces_the_stateful_set_and_keeps_its_data() {
    templates("templates", json!({})).await;
}

#[tokio::test]
async fn another_volume_template_is_repaired_with_helm_3_as_well() {
    templates("templates-helm3", json!({"job": {"image": HELM_3}})).await;
}

/// The guide's second sample: a `ServiceAccount` that somebody made by hand, before the chart had it.
async fn with_account(name: &str, annotations: impl Fn(&World) -> Value) -> World {
    let world = World::with_v1(name, "1.15.2").await;
    let annotations = annotations(&world);
    let account: ServiceAccount = serde_json::from_value(json!({
        "metadata": {"name": "coder", "annotations": annotations}
    }))
    .unwrap();
    world.api().create(&PostParams::default(), &account).await.unwrap();
    world.declare("coder", json!({"version": "1.16.1", "chart": {"repository": world.repositories().v1}})).await;
    world
}

fn owner(release: &str, namespace: &str) -> Value {
    json!({"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace})
}

#[tokio::test]
async fn an_object_that_belongs_to_nobody_is_adopted() {
    let world = with_account("adopted", |_| json!({})).await;
    let before = world.api::<ServiceAccount>().get("coder").await.unwrap().uid();
    let object = world.ready("coder").await;
    assert_eq!(repairs(&object), one(Remedy::Adopt, "ServiceAccount/coder"));
    assert_eq!(steps(&object), [StepName::Plan, StepName::Upgrade]);
    let now = world.api::<ServiceAccount>().get("coder").await.unwrap();
    assert_eq!(now.uid(), before);
    assert_eq!(now.annotations()["meta.helm.sh/release-name"], "coder");
    world.finish().await;
}

#[tokio::test]
async fn an_object_of_a_release_that_is_gone_is_adopted() {
    let world = with_account("orphaned", |world| owner("former", &world.namespace)).await;
    let object = world.ready("coder").await;
    assert_eq!(repairs(&object), one(Remedy::Adopt, "ServiceAccount/coder"));
    world.finish().await;
}

#[tokio::test]
async fn an_object_whose_owner_cannot_be_looked_at_is_left_alone() {
    // The runner has no rights in other namespaces.
    let world = with_account("hidden", |_| owner("coder", "kube-system")).await;
    let object = world.stalled("coder").await;
    assert_eq!(object.status.as_ref().unwrap().failure.as_ref().unwrap().class, FailureClass::OwnedByOther);
    assert!(repairs(&object).is_empty());
    assert_eq!(world.release().await, (1, "deployed".into()));
    world.finish().await;
}

#[tokio::test]
async fn an_object_of_another_live_release_is_left_to_it() {
    let world = World::with_v1("foreign", "1.15.2").await;
    let chart = tempfile::tempdir().unwrap();
    std::fs::create_dir(chart.path().join("templates")).unwrap();
    std::fs::write(chart.path().join("Chart.yaml"), "{apiVersion: v2, name: other, version: 0.1.0}").unwrap();
    let account = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: coder}}";
    std::fs::write(chart.path().join("templates/account.yaml"), account).unwrap();
    world.helm(&["install", "other", chart.path().to_str().unwrap()]).await;
    let before = world.api::<ServiceAccount>().get("coder").await.unwrap();
    world.declare("coder", json!({"version": "1.16.1", "chart": {"repository": world.repositories().v1}})).await;
    let failure = world.stalled("coder").await.status.unwrap().failure.unwrap();
    assert_eq!((failure.class, failure.object.as_deref()), (FailureClass::OwnedByOther, Some("ServiceAccount/coder")));
    assert!(failure.message.contains("release other"), "{}", failure.message);
    let now = world.api::<ServiceAccount>().get("coder").await.unwrap();
    assert_eq!(now.resource_version(), before.resource_version(), "nothing was touched");
    assert_eq!(world.release().await, (1, "deployed".into()));
    world.finish().await;
}
