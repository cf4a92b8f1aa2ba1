//! P1: objects that hold data, or own what holds data, are never deleted: neither to be replaced, nor by an uninstall, nor
//! because the new chart has them no more. The garbage collector is the real one.

use crate::common::World;
use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::api::{CoderUpgrade, FailureClass, Phase, Remedy, Severity};
use rstest::rstest;
use serde_json::{Value, json};
use testbed::charts::charts_dir;

/// The claim of the database that the v2 chart asks for.
const CLAIM: &str = "data-database-0";

/// A kind of its own for each test, with a field that cannot be changed, which the runner may write.
async fn define(world: &World, kind: &str) -> String {
    let group = format!("{}.example.com", world.namespace);
    let plural = format!("{}s", kind.to_lowercase());
    let mode = json!({"type": "string", "x-kubernetes-validations": [
        {"rule": "self == oldSelf", "message": "field is immutable"}]});
    let spec = json!({"type": "object", "properties": {"mode": mode}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    world
        .apply(&json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}
        }))
        .await;
    let definition = format!("crd/{plural}.{group}");
    world.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &definition]).await;
    let runner = format!("--serviceaccount={}:coder-upgrade-runner", world.namespace);
    let resource = format!("--resource={plural}.{group}");
    world.kubectl(&["create", "role", "custom", "--verb=*", &resource]).await;
    world.kubectl(&["create", "rolebinding", "custom", "--role=custom", &runner]).await;
    group
}

/// The database as a custom resource.
fn cluster(group: &str, mode: &str) -> Value {
    json!({"apiVersion": format!("{group}/v1"), "kind": "Cluster", "metadata": {"name": "database"},
        "spec": {"mode": mode}})
}

/// Settings with which helm installs that custom resource as a part of the release.
fn settings(group: &str, kind: &str) -> Vec<String> {
    vec![
        format!("extraTemplates[0].apiVersion={group}/v1"),
        format!("extraTemplates[0].kind={kind}"),
        "extraTemplates[0].metadata.name=database".to_owned(),
        "extraTemplates[0].spec.mode=single".to_owned(),
    ]
}

async fn own(world: &World, dependent: &str, api_version: &str, owner: &str) {
    let (kind, name) = owner.split_once('/').unwrap();
    // Every test has a kind of that name.
    let resource = api_version.strip_suffix("/v1").map_or(kind.to_lowercase(), |group| format!("{kind}s.{group}"));
    let resource = format!("{}/{name}", resource.to_lowercase());
    let uid = world.kubectl(&["get", &resource, "-o", "jsonpath={.metadata.uid}"]).await;
    let owners = json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid}]);
    let patch = json!({"metadata": {"ownerReferences": owners}}).to_string();
    world.kubectl(&["patch", dependent, "--type", "merge", "--patch", &patch]).await;
}

/// Has the custom resource own the database and, through another object, its claim, as a database operator does.
async fn operate(world: &World, group: &str) {
    world.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "database-state"}})).await;
    own(world, "configmap/database-state", &format!("{group}/v1"), "Cluster/database").await;
    own(world, "statefulset/database", &format!("{group}/v1"), "Cluster/database").await;
    own(world, &format!("pvc/{CLAIM}"), "v1", "ConfigMap/database-state").await;
}

/// A world with Coder, whose database is made by an operator from a custom resource of the release.
async fn operated(name: &str) -> (World, String) {
    let world = World::new(name).await;
    world.database().await;
    let group = define(&world, "Cluster").await;
    let settings = settings(&group, "Cluster");
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    world.install("coder", &world.repositories().v2, "2.31.6", "coder-v2-values.yaml", &settings).await;
    operate(&world, &group).await;
    (world, group)
}

/// The same for the steps of the runner.
async fn operated_steps(name: &str) -> (Steps, String) {
    let steps = Steps::empty(name, HelmMajor::Four, |r| &r.v2).await;
    steps.world.database().await;
    let group = define(&steps.world, "Cluster").await;
    let settings = settings(&group, "Cluster");
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let repository = steps.world.repositories().v2.clone();
    steps.world.install("coder", &repository, "2.31.6", "coder-v2-values.yaml", &settings).await;
    operate(&steps.world, &group).await;
    (steps, group)
}

fn inventory(object: &CoderUpgrade) -> Vec<String> {
    object.status.iter().flat_map(|s| &s.persistent_volume_claims).map(|claim| claim.name.clone()).collect()
}

#[tokio::test]
async fn a_custom_resource_that_refuses_a_change_is_not_replaced() {
    let (world, group) = operated("custom-replace").await;
    let claims = world.claims().await;
    let values = json!({"extraTemplates": [cluster(&group, "replicated")]});
    let chart = json!({"repository": world.repositories().v2});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "values": values})).await;
    let object = world.stalled("coder").await;
    let status = object.status.clone().unwrap();
    let failure = status.failure.unwrap();
    assert_eq!(
        (failure.class, failure.object.as_deref(), failure.remedy),
        (FailureClass::ImmutableData, Some("Cluster/database"), None),
        "{}",
        failure.message
    );
    assert!(failure.next_step.contains("back in the values"), "{}", failure.next_step);
    assert!(status.repairs.is_empty() && status.plan.is_none(), "nothing is promised: {:?}", status.plan);
    assert_eq!(world.release().await, (1, "deployed".into()));
    assert_eq!(world.claims().await, claims, "the same claims on the same volumes");
    // Without the change it goes through, and the claim that the custom resource owns is among those that are verified.
    world.declare("coder", json!({"version": "2.31.7", "chart": {"repository": world.repositories().v2}})).await;
    let object = world.ready("coder").await;
    assert_eq!(inventory(&object), [CLAIM]);
    assert_eq!(world.claims().await, claims);
    world.finish().await;
}

#[tokio::test]
async fn a_reinstall_keeps_custom_resources_and_the_data_they_own() {
    let (world, group) = operated("custom-reinstall").await;
    let claims = world.claims().await;
    let database = format!("clusters.{group}/database");
    let uid = ["get", &database, "-o", "jsonpath={.metadata.uid}"];
    let before = world.kubectl(&uid).await;
    let chart = json!({"repository": world.repositories().faults});
    world.declare("coder", json!({"version": "2.31.11", "chart": chart, "recovery": "Stop"})).await;
    world.phase("coder", Phase::AwaitingApproval).await;
    world.approve("reinstall").await;
    let object = world.ready("coder").await;
    let steps = object.status.as_ref().unwrap().steps.clone();
    assert!(steps.iter().any(|step| step.message.contains("Cluster/database")), "it is said to be kept: {steps:?}");
    assert_eq!(inventory(&object), [CLAIM]);
    assert_eq!(world.kubectl(&uid).await, before, "the same custom resource");
    assert_eq!(world.claims().await, claims, "the same claims on the same volumes");
    world.finish().await;
}

#[tokio::test]
async fn a_custom_resource_that_the_new_chart_leaves_out_is_not_deleted() {
    let (steps, group) = operated_steps("custom-dropped").await;
    let database = format!("clusters.{group}/database");
    let keep = ["annotate", &database, "helm.sh/resource-policy=keep"];
    let claims = steps.world.claims().await;
    let spec = json!({"version": "2.31.7", "dropValues": ["extraTemplates"]});
    let problem = steps.refused(spec.clone()).await;
    assert_eq!(
        (problem.class, problem.object.as_deref()),
        (FailureClass::DataAtRisk, Some("Cluster/database")),
        "{}",
        problem.message
    );
    assert!(problem.message.contains("helm.sh/resource-policy=keep"), "{}", problem.message);
    let finding = &problem.findings[0];
    assert_eq!((finding.check.to_string().as_str(), finding.severity), ("DataOwners", Severity::Refusal));

    // What a person can do: helm leaves what is marked.
    steps.world.kubectl(&keep).await;
    let before = steps.uid(&database).await;
    steps.plan(spec).await;
    // The mark is looked at once more when it counts.
    steps.world.kubectl(&["annotate", &database, "helm.sh/resource-policy-"]).await;
    for step in ["upgrade", "uninstall"] {
        let problem = steps.fails(step, &[]).await;
        assert_eq!((problem.class, problem.changed), (FailureClass::DataAtRisk, false), "{}", problem.message);
    }
    steps.world.kubectl(&keep).await;
    steps.uninstall(&[]).await;
    steps.install(&[]).await;
    assert_eq!(steps.uid(&database).await, before);
    assert_eq!(steps.world.claims().await, claims);
    steps.world.finish().await;
}

#[tokio::test]
async fn a_claim_that_an_object_of_the_release_owns_stops_whatever_would_delete_the_object() {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}, "data": {"a": "b"}});
    let steps = Steps::with("custom-owner", HelmMajor::Four, |r| &r.faults, "2.31.6", &[]).await;
    let world = &steps.world;
    let immutable = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fixed"}, "immutable": true,
        "stringData": {"mode": "a"}});
    steps.plan(json!({"version": "2.31.7", "values": {"extraTemplates": [map, immutable]}})).await;
    steps.upgrade().await;
    // By a chain of two, through an object of a person.
    world.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "between"}})).await;
    own(world, "configmap/between", "v1", "ConfigMap/owner").await;
    own(world, &format!("pvc/{CLAIM}"), "v1", "ConfigMap/between").await;
    let claims = world.claims().await;

    // The new chart leaves the owner out: helm would delete it.
    let kept = json!({"version": "2.31.7", "values": {"extraTemplates": [map, immutable], "note": 1}});
    let dropped = json!({"version": "2.31.7", "values": {"extraTemplates": [immutable]}});
    let problem = steps.refused(dropped).await;
    assert_eq!(problem.class, FailureClass::DataAtRisk, "{}", problem.message);
    assert!(problem.message.contains("ConfigMap/between") && problem.message.contains("ConfigMap/owner"));
    assert_eq!(problem.object.as_deref(), Some("PersistentVolumeClaim/data-database-0"));

    // The uninstall would delete it.
    let planned = steps.plan(kept).await;
    assert_eq!(planned.claims.iter().map(|claim| claim.name.as_str()).collect::<Vec<_>>(), [CLAIM]);
    let problem = steps.fails("uninstall", &[]).await;
    assert_eq!((problem.class, problem.changed), (FailureClass::DataAtRisk, false), "{}", problem.message);

    // So would the repair of an object that refuses the change.
    own(world, "configmap/between", "v1", "Secret/fixed").await;
    let changed = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fixed"}, "immutable": true,
        "stringData": {"mode": "b"}});
    let problem = steps.refused(json!({"version": "2.31.7", "values": {"extraTemplates": [map, changed]}})).await;
    assert_eq!(problem.class, FailureClass::DataAtRisk, "{}", problem.message);
    assert!(problem.message.contains("Secret/fixed"), "{}", problem.message);
    assert_eq!(world.claims().await, claims);
    steps.world.finish().await;
}

#[tokio::test]
async fn what_the_runner_may_not_read_counts_as_part_of_the_release() {
    let steps = Steps::with("custom-unread", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    let world = &steps.world;
    // The claim belongs to another operator's object, which the runner has no right to read. Coder is reinstalled.
    let group = define(world, "Cluster").await;
    world
        .apply(&json!({"apiVersion": format!("{group}/v1"), "kind": "Cluster", "metadata": {"name": "database"}}))
        .await;
    operate(world, &group).await;
    world.kubectl(&["delete", "rolebinding", "custom"]).await;
    let claims = world.claims().await;
    steps.plan(json!({"version": "2.31.7"})).await;
    let problem = steps.fails("uninstall", &[]).await;
    assert_eq!((problem.class, problem.changed), (FailureClass::DataAtRisk, false), "{}", problem.message);
    assert!(problem.message.contains("cannot get resource \"clusters\""), "the right is named: {}", problem.message);
    assert_eq!(world.claims().await, claims);
    assert_eq!(world.release().await, (1, "deployed".into()));
    steps.world.finish().await;
}

#[tokio::test]
async fn a_custom_kind_is_not_taken_for_the_built_in_one_of_that_name() {
    let steps = Steps::empty("custom-namesake", HelmMajor::Four, |r| &r.v2).await;
    let world = &steps.world;
    world.database().await;
    let group = define(world, "Service").await;
    let settings = settings(&group, "Service");
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let repository = world.repositories().v2.clone();
    world.install("coder", &repository, "2.31.6", "coder-v2-values.yaml", &settings).await;
    let changed = json!({"apiVersion": format!("{group}/v1"), "kind": "Service", "metadata": {"name": "database"},
        "spec": {"mode": "replicated"}});
    let problem = steps.refused(json!({"version": "2.31.7", "values": {"extraTemplates": [changed]}})).await;
    assert_eq!(
        (problem.class, problem.object.as_deref()),
        (FailureClass::ImmutableData, Some("Service/database")),
        "{}",
        problem.message
    );
    steps.world.finish().await;
}

#[tokio::test]
async fn a_hook_does_not_delete_the_claim_that_has_its_name() {
    let steps = Steps::with("custom-hook", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    let claim = |annotations: Value| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "dump", "annotations": annotations},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}}
        })
    };
    steps.world.apply(&claim(json!({}))).await;
    let uid = steps.uid("pvc/dump").await;
    let hook = claim(json!({"helm.sh/hook": "pre-upgrade"}));
    let problem = steps.refused(json!({"version": "2.31.7", "values": {"extraTemplates": [hook]}})).await;
    assert_eq!(
        (problem.class, problem.object.as_deref()),
        (FailureClass::DataAtRisk, Some("PersistentVolumeClaim/dump")),
        "{}",
        problem.message
    );
    assert_eq!(steps.uid("pvc/dump").await, uid);
    steps.world.finish().await;
}

/// Whoever has deleted a definition has deleted all objects of that kind.
#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn an_object_whose_definition_is_gone_is_left_out_once_no_value_wants_it(#[case] helm: HelmMajor) {
    let steps = Steps::empty("definition-gone", helm, |r| &r.v2).await;
    let world = &steps.world;
    world.database().await;
    let group = define(world, "ServiceMonitor").await;
    let settings = settings(&group, "ServiceMonitor");
    let values = charts_dir().join("coder-v2-values.yaml");
    let repository = &world.repositories().v2;
    let mut install = vec!["install", "coder", "coder", "--repo", repository, "--version", "2.30.0"];
    install.extend(["--values", values.to_str().unwrap(), "--wait", "--timeout", "3m"]);
    install.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    steps.helm(&install).await;
    world.cluster.kubectl(&["delete", "crd", &format!("servicemonitors.{group}")]).await.unwrap();
    let served = || async {
        let kinds = world.cluster.kubectl(&["api-resources", "--api-group", &group, "--output=name"]).await.unwrap();
        kinds.trim().is_empty().then_some(())
    };
    world.eventually("end of the kind", served).await;

    let problem = steps.refused(json!({"version": "2.31.7"})).await;
    assert_eq!(problem.class, FailureClass::DefinitionMissing, "{problem:?}");
    assert!(problem.message.contains("ServiceMonitor"), "{}", problem.message);
    assert_eq!(world.release().await, (1, "deployed".into()));

    let planned = steps.plan(json!({"version": "2.31.7", "dropValues": ["extraTemplates"]})).await;
    let repairs = &planned.plan.forecast.repairs;
    let found: Vec<_> = repairs.iter().map(|repair| (repair.remedy, repair.object.as_str())).collect();
    assert_eq!(found, [(Remedy::RewriteApis, "ServiceMonitor/database")]);
    assert_eq!(steps.upgrade().await.current.revision, 2);
    steps.world.finish().await;
}
