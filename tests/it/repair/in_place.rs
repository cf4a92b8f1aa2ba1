//! P4: what helm is refused for is repaired with the smallest possible blast radius, within what `recovery` allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{World, reason};
use coder_upgrade_operator::api::{CoderUpgrade, FailureClass, Phase, Remedy, StepName};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const HELM_3: &str = "coder-upgrade-operator:v0.1.0-helm3";

/// A spec for a version of the repository with breaks.
fn broken(world: &World, version: &str, more: &Value) -> Value {
    let mut spec = json!({"version": version, "chart": {"repository": world.repositories().faults}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn repairs(object: &CoderUpgrade) -> Vec<(Remedy, String)> {
    let repairs = &object.status.as_ref().unwrap().repairs;
    repairs.iter().map(|repair| (repair.remedy, repair.object.clone())).collect()
}

/// What the plan said would be repaired.
fn foreseen(object: &CoderUpgrade) -> Vec<(Remedy, String)> {
    let plan = object.status.as_ref().unwrap().plan.as_ref().unwrap();
    plan.forecast.repairs.iter().map(|repair| (repair.remedy, repair.object.clone())).collect()
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

/// A Deployment whose selector changes is recreated, and somebody serves in every moment.
async fn selector(name: &str, version: &str, more: Value) {
    let world = World::with_v2(name, "2.30.0", &[]).await;
    let before = world.api::<Deployment>().get("coder").await.unwrap().uid();
    let patrol = Patrol::begin(&world, "coder");
    world.declare("coder", broken(&world, version, &more)).await;
    let object = world.ready("coder").await;
    patrol.end().await;
    assert_eq!(repairs(&object), one(Remedy::Replace, "Deployment/coder"));
    assert_eq!(steps(&object), [StepName::Plan, StepName::Upgrade]);
    assert_eq!(world.release().await, (2, "deployed".into()), "what is sure to be refused is not tried");
    assert_ne!(world.api::<Deployment>().get("coder").await.unwrap().uid(), before);
    one_pod_is_left(&world).await;
    world.finish().await;
}

/// Waits until the old pods are gone, and the `ReplicaSets` that nobody owns.
async fn one_pod_is_left(world: &World) {
    let part = ListParams::default().labels("app.kubernetes.io/part-of=coder");
    world
        .eventually("end of the old pods", || async {
            let pods = world.api::<Pod>().list(&part).await.unwrap();
            let sets = world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap();
            let free = sets.iter().filter(|set| set.owner_references().is_empty()).count();
            (pods.items.len() == 1 && free == 0).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_selector_that_gains_a_label_costs_no_moment() {
    Box::pin(selector("selector-added", "2.31.11", json!({}))).await;
}

#[tokio::test]
async fn a_selector_that_gains_a_label_costs_no_moment_with_helm_3() {
    Box::pin(selector("selector-helm3", "2.31.11", json!({"job": {"image": HELM_3}}))).await;
}

#[tokio::test]
async fn a_selector_that_loses_a_label_costs_no_moment() {
    Box::pin(selector("selector-removed", "2.31.12", json!({}))).await;
}

#[tokio::test]
async fn a_selector_whose_label_changes_costs_no_moment() {
    Box::pin(selector("selector-changed", "2.31.13", json!({}))).await;
}

#[tokio::test]
async fn while_the_new_pods_crash_the_old_ones_serve_until_another_attempt_succeeds() {
    let world = World::with_v2("selector-crash", "2.30.0", &[]).await;
    let patrol = Patrol::begin(&world, "coder");
    let crash = json!({"env": [{"name": "CODER_SIM_CRASH", "value": "broken"}]});
    let crashing = json!({"values": {"testbed": crash}, "helm": {"timeout": "15s"}});
    world.declare("coder", broken(&world, "2.31.11", &crashing)).await;
    let object = world.stalled("coder").await;
    assert_eq!(object.status.as_ref().unwrap().failure.as_ref().unwrap().class, FailureClass::RolloutTimedOut);
    assert_eq!(repairs(&object), one(Remedy::Replace, "Deployment/coder"));
    world.declare("coder", broken(&world, "2.31.11", &json!({}))).await;
    world.ready("coder").await;
    patrol.end().await;
    one_pod_is_left(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn not_permitted_to_repair_nothing_is_touched() {
    let world = World::with_v2("selector-stop", "2.30.0", &[]).await;
    world.declare("coder", broken(&world, "2.31.11", &json!({"recovery": "Stop"}))).await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;
    assert_eq!(foreseen(&object), one(Remedy::Replace, "Deployment/coder"));
    let approval = object.status.as_ref().unwrap().approval.clone().unwrap();
    assert!(
        approval.value.ends_with("/repair") && approval.action.contains("Replace Deployment/coder"),
        "{approval:?}"
    );
    assert!(repairs(&object).is_empty());
    assert_eq!(world.release().await, (1, "deployed".into()));
    world.approve("repair").await;
    assert_eq!(repairs(&world.ready("coder").await), one(Remedy::Replace, "Deployment/coder"));
    world.finish().await;
}

#[tokio::test]
async fn a_binding_to_another_role_is_replaced_alone() {
    let world = World::with_v2("role-ref", "2.30.0", &[]).await;
    let service = world.api::<Service>().get("coder").await.unwrap().uid();
    let finalizers = |names: &Value| Patch::Merge(json!({"metadata": {"finalizers": names}}));
    let (bindings, parameters) = (world.api::<RoleBinding>(), PatchParams::default());
    bindings.patch("coder", &parameters, &finalizers(&json!(["example.com/audit"]))).await.unwrap();
    world.declare("coder", broken(&world, "2.31.14", &json!({}))).await;
    let repairing = world.phase("coder", Phase::Repairing).await;
    assert_eq!(reason(&repairing, "Reconciling").unwrap(), ("True".into(), "Repairing".into()));
    bindings.patch("coder", &parameters, &finalizers(&Value::Null)).await.unwrap();
    world.phase("coder", Phase::Verifying).await;
    let object = world.ready("coder").await;
    assert_eq!(repairs(&object), one(Remedy::Replace, "RoleBinding/coder"));
    assert_eq!(foreseen(&object), one(Remedy::Replace, "RoleBinding/coder"));
    assert_eq!(world.release().await, (2, "deployed".into()), "what is sure to be refused is not tried");
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
    assert_eq!(world.release().await, (2, "deployed".into()), "what is sure to be refused is not tried");
    assert_eq!(world.claims().await, claims, "the claims are the same");
    assert_ne!(world.api::<StatefulSet>().get("timescale").await.unwrap().uid(), set);
    let now = world.api::<Pod>().get("timescale-0").await.unwrap();
    assert!(now.owner_references().iter().any(|owner| owner.kind == "StatefulSet"), "it has an owner again");
    world.finish().await;
}

#[tokio::test]
async fn another_volume_template_replaces_the_stateful_set_and_keeps_its_data() {
    Box::pin(templates("templates", json!({}))).await;
}

#[tokio::test]
async fn another_volume_template_is_repaired_with_helm_3_as_well() {
    Box::pin(templates("templates-helm3", json!({"job": {"image": HELM_3}}))).await;
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
    // With other rules than the chart's: their manager is not helm, which server-side apply calls a conflict.
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let metadata = json!({"name": "coder", "annotations": annotations});
    let role: Role = serde_json::from_value(json!({"metadata": metadata, "rules": rules})).unwrap();
    world.api().create(&PostParams::default(), &role).await.unwrap();
    world.declare("coder", json!({"version": "1.16.1", "chart": {"repository": world.repositories().v1}})).await;
    world
}

fn adopted() -> Vec<(Remedy, String)> {
    ["ServiceAccount/coder", "Role/coder"].map(|object| (Remedy::Adopt, object.to_owned())).into()
}

fn owner(release: &str, namespace: &str) -> Value {
    json!({"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace})
}

#[tokio::test]
async fn an_object_that_belongs_to_nobody_is_adopted() {
    let world = with_account("adopted", |_| json!({})).await;
    let before = world.api::<ServiceAccount>().get("coder").await.unwrap().uid();
    let object = world.ready("coder").await;
    assert_eq!(repairs(&object), adopted());
    assert_eq!(foreseen(&object), adopted());
    assert_eq!(steps(&object), [StepName::Plan, StepName::Upgrade]);
    assert_eq!(world.release().await, (2, "deployed".into()), "what is sure to be refused is not tried");
    let now = world.api::<ServiceAccount>().get("coder").await.unwrap();
    assert_eq!(now.uid(), before);
    assert_eq!(now.annotations()["meta.helm.sh/release-name"], "coder");
    assert!(world.api::<Role>().get("coder").await.unwrap().rules.unwrap().len() > 1, "it is the chart's now");
    world.finish().await;
}

#[tokio::test]
async fn an_object_of_a_release_that_is_gone_is_adopted() {
    let world = with_account("orphaned", |world| owner("former", &world.namespace)).await;
    let object = world.ready("coder").await;
    assert_eq!(repairs(&object), adopted());
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

#[rstest::rstest]
#[case::of_another_tool("tool", json!({"labels": {"app.kubernetes.io/managed-by": "terraform"}}), "belongs to terraform")]
#[case::of_a_controller("controlled", json!({"ownerReferences": [
    {"apiVersion": "v1", "kind": "ConfigMap", "name": "kube-root-ca.crt", "controller": true}
]}), "belongs to ConfigMap/kube-root-ca.crt")]
#[tokio::test]
async fn an_object_of_somebody_else_is_left_alone(#[case] name: &str, #[case] mut metadata: Value, #[case] why: &str) {
    let world = World::with_v1(name, "1.15.2").await;
    metadata["name"] = "coder".into();
    if metadata["ownerReferences"].is_array() {
        let uid = ["get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.metadata.uid}"];
        metadata["ownerReferences"][0]["uid"] = world.kubectl(&uid).await.into();
        // The release that it once belonged to is gone; its controller is not.
        metadata["annotations"] = owner("former", &world.namespace);
    }
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": metadata})).unwrap();
    let before = world.api().create(&PostParams::default(), &account).await.unwrap();
    world.declare("coder", json!({"version": "1.16.1", "chart": {"repository": world.repositories().v1}})).await;
    let object = world.stalled("coder").await;
    let failure = object.status.as_ref().unwrap().failure.clone().unwrap();
    assert_eq!((failure.class, failure.object.as_deref()), (FailureClass::OwnedByOther, Some("ServiceAccount/coder")));
    assert!(failure.message.contains(why), "{}", failure.message);
    assert!(repairs(&object).is_empty());
    let now = world.api::<ServiceAccount>().get("coder").await.unwrap();
    assert_eq!(now.resource_version(), before.resource_version(), "nothing was touched");
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

#[tokio::test]
async fn removed_apis_in_helms_record_are_rewritten() {
    let world = World::with_v1("old-apis", "1.16.1").await;
    let ingress = world.api::<Ingress>().get("web-ingress").await.unwrap().uid();
    let name = "sh.helm.release.v1.coder.v1";
    world
        .edit_manifest(name, |manifest| {
            let old = manifest.replace("networking.k8s.io/v1\nkind: Ingress", "extensions/v1beta1\nkind: Ingress");
            let old = old.replace("rbac.authorization.k8s.io/v1\n", "rbac.authorization.k8s.io/v1beta1\n");
            assert!(old.contains("extensions/v1beta1") && old.contains("rbac.authorization.k8s.io/v1beta1"), "{old}");
            old + "---\napiVersion: policy/v1beta1\nkind: PodSecurityPolicy\nmetadata:\n  name: coder\n"
        })
        .await;
    world.declare("coder", json!({"version": "1.16.2", "chart": {"repository": world.repositories().v1}})).await;
    let object = world.ready("coder").await;
    let repairs = repairs(&object);
    assert!(repairs.iter().all(|(remedy, _)| *remedy == Remedy::RewriteApis), "{repairs:?}");
    for object in ["Ingress/web-ingress", "RoleBinding/coder", "PodSecurityPolicy/coder"] {
        assert!(repairs.iter().any(|(_, found)| found == object), "{object} in {repairs:?}");
    }
    assert_eq!(world.api::<Ingress>().get("web-ingress").await.unwrap().uid(), ingress, "nothing was recreated");
    assert_eq!(world.release().await, (2, "deployed".into()));
    let rewritten = world.helm(&["get", "manifest", "coder", "--revision", "1"]).await;
    assert!(!rewritten.contains("v1beta1") && rewritten.contains("kind: StatefulSet"), "{rewritten}");
    world.finish().await;
}

#[tokio::test]
async fn an_uninstall_that_was_interrupted_is_no_work_for_helm() {
    let world = World::with_v2("half-gone", "2.30.0", &[]).await;
    let patch = Patch::Merge(json!({"metadata": {"labels": {"status": "uninstalling"}}}));
    let name = "sh.helm.release.v1.coder.v1";
    world.api::<Secret>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    world.upgrade_to("2.31.7").await;
    let offered = |object: &CoderUpgrade| object.status.as_ref().is_some_and(|status| status.approval.is_some());
    let status = world.until("coder", "waiting for approval", offered).await.status.unwrap();
    assert_eq!(status.failure.unwrap().class, FailureClass::HistoryBroken);
    assert!(status.approval.unwrap().value.ends_with("/reinstall"));
    assert_eq!(world.jobs().await.len(), 2, "nothing was uninstalled");
    world.finish().await;
}
