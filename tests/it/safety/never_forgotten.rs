//! P2 and P9: that something of the release is missing, or half changed, is never forgotten, and a release that vanished is not
//! taken for a first install.

use crate::common::World;
use coder_upgrade_operator::api::{CoderUpgrade, CoderUpgradeStatus, FailureClass, Phase, StepName};
use serde_json::{Value, json};

fn status(object: &CoderUpgrade) -> CoderUpgradeStatus {
    object.status.clone().unwrap_or_default()
}

/// Has the API server refuse updates of these objects in the namespace until [`allow`].
async fn deny(world: &World, group: &str, resource: &str, expression: &str) {
    let name = &world.namespace;
    let rule = json!({
        "apiGroups": [group], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": [resource],
    });
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": expression, "message": "not now"}],
        },
    });
    let namespaces = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {
            "policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": namespaces},
        },
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [policy, binding]}).to_string();
    world.cluster.kubectl_with_input(&["apply", "-f", "-"], &list).await.unwrap();
    let object = if resource == "secrets" { "secret/sh.helm.release.v1.coder.v1" } else { "ingress/coder" };
    let attempt = ["label", "--overwrite", object, "probe=it", "--dry-run=server", "--namespace", name];
    world.eventually("refusal by the policy", || async { world.cluster.kubectl(&attempt).await.err().map(drop) }).await;
}

async fn allow(world: &World) {
    for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
        world.kubectl(&["delete", kind, &world.namespace]).await;
    }
}

/// Coder v2 with an upgrade that its Deployment's selector refuses, which waits for an approval.
async fn refused(name: &str, more: Value) -> World {
    let world = World::with_v2(name, "2.30.0", &[]).await;
    world.impatient().await;
    let mut spec = json!({
        "version": "2.31.11", "chart": {"repository": world.repositories().faults}, "recovery": "Stop",
        "keepAddresses": false,
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.declare("coder", spec).await;
    world.phase("coder", Phase::AwaitingApproval).await;
    world
}

/// helm only logs that it could not write its record, and deletes all the same.
#[tokio::test]
async fn an_uninstall_whose_record_says_nothing_of_it_is_not_forgotten() {
    let world = refused("unrecorded", json!({})).await;
    deny(&world, "", "secrets", "object.type != 'helm.sh/release.v1'").await;
    world.approve("reinstall").await;
    world.phase("coder", Phase::Uninstalling).await;
    world.kubectl(&["patch", "cu", "coder", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]).await;
    let failed =
        |object: &CoderUpgrade| status(object).failure.is_some_and(|failure| failure.step == StepName::Uninstall);
    let object = world.until("coder", "unable to uninstall", failed).await;
    assert!(status(&object).recovery_required, "{:?}", status(&object));
    assert_eq!(object.metadata.finalizers.unwrap_or_default(), ["coderupgrade.dev/change-under-way"]);
    allow(&world).await;
    let back = |object: &CoderUpgrade| status(object).phase == Phase::Succeeded;
    let object = world.until("coder", "back, suspended or not", back).await;
    assert!(!status(&object).recovery_required && !status(&object).removed);
    assert_eq!(world.release().await.1, "deployed");
    world.finish().await;
}

/// The new version never starts, and helm is refused after it has applied the Deployment.
#[tokio::test]
async fn an_object_that_is_deleted_in_mid_change_puts_the_release_back_before_it_goes() {
    let ingress = ["coder.ingress.enable=true", "coder.ingress.host=coder.example.com"];
    let world = World::with_v2("deleted-mid", "2.30.0", &ingress).await;
    world.impatient().await;
    let values = json!({"coder": {"podAnnotations": {"testbed.coderupgrade.dev/pull-error": "manifest unknown"}}});
    let chart = json!({"repository": world.repositories().v2});
    let spec = json!({"version": "2.31.7", "chart": chart, "approval": "Manual", "values": values});
    world.declare("coder", spec).await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;
    deny(&world, "networking.k8s.io", "ingresses", "false").await;
    let approval = format!("coderupgrade.dev/approve={}", status(&object).plan.unwrap().id);
    world.kubectl(&["annotate", "cu", "coder", &approval]).await;
    // Before helm has begun, there is nothing to restore.
    world.until("coder", "begun", |object| status(object).change_started).await;
    world.kubectl(&["delete", "cu", "coder", "--wait=false"]).await;
    world.phase("coder", Phase::Restoring).await;
    allow(&world).await;
    world.gone("coder").await;
    let (_, state) = world.release().await;
    assert_eq!(state, "deployed", "{}", world.dump().await);
    let image = ["get", "deployment", "coder", "-o", "jsonpath={.spec.template.spec.containers[0].image}"];
    assert!(world.kubectl(&image).await.ends_with("v2.30.0"));
    world.finish().await;
}

/// helm's records of the release, deleted by somebody.
async fn delete_records(world: &World) {
    world.kubectl(&["delete", "secret", "--selector", "owner=helm,name=coder"]).await;
}

#[tokio::test]
async fn records_that_vanish_in_the_middle_of_a_reinstall_keep_nothing_away() {
    let world = refused("no-records", json!({})).await;
    let values = world.values().await;
    world.kubectl(&["annotate", "service", "coder", "testbed.coderupgrade.dev/release-delay=never"]).await;
    world.approve("reinstall").await;
    world.phase("coder", Phase::Draining).await;
    delete_records(&world).await;
    world.kubectl(&["annotate", "--overwrite", "service", "coder", "testbed.coderupgrade.dev/release-delay=0s"]).await;
    world.ready("coder").await;
    assert_eq!((world.values().await, world.release().await), (values, (1, "deployed".into())));
    world.finish().await;
}

#[tokio::test]
async fn a_release_that_is_uninstalled_while_it_waits_is_no_first_install() {
    let world = World::with_v2("uninstalled", "2.30.0", &["coder.replicaCount=2"]).await;
    let chart = json!({"repository": world.repositories().v2});
    let spec = json!({"version": "2.31.7", "chart": chart, "approval": "Manual"});
    world.declare("coder", spec).await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;
    let plan = status(&object).plan.unwrap();
    world.helm(&["uninstall", "coder", "--wait"]).await;
    world.kubectl(&["annotate", "cu", "coder", &format!("coderupgrade.dev/approve={}", plan.id)]).await;
    let object = world.stalled("coder").await;
    let failure = status(&object).failure.unwrap();
    assert_eq!(failure.class, FailureClass::ReleaseMissing, "{failure:?}");
    assert!(failure.message.contains("was at version 2.30.0 (revision 1)"), "{}", failure.message);
    let finding = &status(&object).checks[0];
    assert!(finding.next_step.contains(&format!("Secret/{}, key values.json", plan.secret_name)), "{finding:?}");
    assert_eq!(world.kubectl(&["get", "deployment", "coder", "--ignore-not-found"]).await, "", "nothing was installed");

    // As the next step says: the values of the last plan, and the name of the check.
    let key = "jsonpath={.data.values\\.json}";
    let encoded = world.kubectl(&["get", "secret", &plan.secret_name, "-o", key]).await;
    let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).unwrap();
    let values: Value = serde_json::from_slice(&decoded).unwrap();
    let spec = json!({
        "version": "2.31.7", "chart": {"repository": world.repositories().v2}, "values": values,
        "overrides": ["ReleaseRecords"],
    });
    world.declare("coder", spec).await;
    world.ready("coder").await;
    assert_eq!(world.values().await["coder"]["replicaCount"], 2);
    world.finish().await;
}

#[tokio::test]
async fn what_runs_without_records_is_not_overwritten() {
    let world = World::with_v2("live", "2.30.0", &["coder.replicaCount=2"]).await;
    delete_records(&world).await;
    world.upgrade_to("2.31.7").await;
    let object = world.stalled("coder").await;
    let failure = status(&object).failure.unwrap();
    assert_eq!(failure.class, FailureClass::ReleaseMissing, "{failure:?}");
    assert_eq!(failure.object.as_deref(), Some("Deployment/coder"));
    let next = &status(&object).checks[0].next_step;
    assert!(next.contains("set spec.adopt to true") && next.contains("add ReleaseRecords to spec.overrides"), "{next}");
    let replicas = ["get", "deployment", "coder", "-o", "jsonpath={.spec.replicas}"];
    assert_eq!(world.kubectl(&replicas).await, "2");
    world.finish().await;
}

/// The state of the release before the change is in the plan of the attempt that began it.
#[tokio::test]
async fn an_attempt_in_the_middle_of_a_change_deletes_no_earlier_plan() {
    let world = refused("history", json!({"historyLimit": 1})).await;
    world.kubectl(&["annotate", "service", "coder", "testbed.coderupgrade.dev/release-delay=never"]).await;
    let first = status(&world.get("coder").await).plan.unwrap().secret_name;
    world.approve("reinstall").await;
    world.phase("coder", Phase::Draining).await;
    // As if it had been lost: a new plan is made, and the first one comes back.
    let saved = world.kubectl(&["get", "secret", &first, "-o", "json"]).await;
    world.lose_plan(&first).await;
    world.kubectl(&["annotate", "--overwrite", "service", "coder", "testbed.coderupgrade.dev/release-delay=0s"]).await;
    let planning = |object: &CoderUpgrade| status(object).attempt > 1 && status(object).phase == Phase::Planning;
    world.until("coder", "planning again", planning).await;
    let mut saved: Value = serde_json::from_str(&saved).unwrap();
    saved["metadata"] = json!({"name": first, "labels": saved["metadata"]["labels"]});
    world.apply(&saved).await;
    world.ready("coder").await;
    assert!(!world.kubectl(&["get", "secret", &first, "--ignore-not-found"]).await.is_empty());
    world.finish().await;
}
