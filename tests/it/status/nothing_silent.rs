//! Nothing silent: a runner whose pod cannot be created or started is in the status within seconds, in the words of the cluster
//! and with what cures it; and once that is cured it goes on by itself.

use std::time::{Duration, Instant};

use crate::common::{World, reason, terminal::Terminal};
use coder_upgrade_operator::api::{Blocked, BlockedReason, CoderUpgrade, Phase};
use serde_json::{Value, json};

/// What people wait for before they look elsewhere: some seconds, and here twenty more for the tests that run beside.
const SOON: Duration = Duration::from_secs(30);

/// Waits until it is told what keeps the step from beginning.
async fn blocked(world: &World, reason: BlockedReason) -> (CoderUpgrade, Blocked) {
    let told = move |object: &CoderUpgrade| {
        let blocked = object.status.as_ref().and_then(|status| status.blocked.as_ref());
        blocked.is_some_and(|blocked| blocked.reason == reason)
    };
    let object = world.until("coder", &format!("blocked by {reason}"), told).await;
    let blocked = object.status.clone().unwrap().blocked.unwrap();
    (object, blocked)
}

fn spec(world: &World, job: &Value) -> Value {
    let chart = json!({"repository": world.repositories().v2});
    json!({"version": "2.31.7", "chart": chart, "approval": "Manual", "job": job})
}

/// What everybody meets who has not given the runner its rights.
#[tokio::test]
async fn a_missing_service_account_is_told_and_its_creation_is_enough() {
    let world = World::with_v2("no-account", "2.31.6", &[]).await;
    let _undisturbed = world.undisturbed().await;
    world.kubectl(&["delete", "serviceaccount", "coder-upgrade-runner"]).await;
    world.declare("coder", spec(&world, &json!({}))).await;
    let declared = Instant::now();
    let (object, told) = blocked(&world, BlockedReason::PodRefused).await;
    assert!(declared.elapsed() < SOON, "{:?}", declared.elapsed());
    assert_eq!(told.object, "ServiceAccount/coder-upgrade-runner");
    assert_eq!(told.field.as_deref(), Some("spec.job.serviceAccountName"));
    assert!(told.message.contains(r#"serviceaccount "coder-upgrade-runner" not found"#), "{}", told.message);
    assert!(
        told.next_step.contains(&format!("rights -n {} | kubectl apply -f -", world.namespace)),
        "{}",
        told.next_step
    );
    assert_eq!(object.status.as_ref().unwrap().message, told.message);
    assert_eq!(reason(&object, "Stalled"), Some(("True".into(), "PodRefused".into())));
    assert_eq!(reason(&object, "Ready"), Some(("False".into(), "PodRefused".into())));
    // The Job controller would wait longer and longer between its tries.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let printed = Terminal::of(&world).await.run(&["rights", "-n", &world.namespace], "").await.out;
    world.cluster.kubectl_with_input(&["apply", "-f", "-"], &printed).await.unwrap();
    let cured = Instant::now();
    let object = world.until("coder", "at work", |o| o.status.as_ref().is_some_and(|s| s.blocked.is_none())).await;
    assert!(cured.elapsed() < 2 * SOON, "{:?}", cured.elapsed());
    assert_ne!(reason(&object, "Stalled").unwrap().0, "True");
    world.phase("coder", Phase::AwaitingApproval).await;
    world.finish().await;
}

#[tokio::test]
async fn a_corrected_account_is_taken_up_without_deleting_anything() {
    let world = World::with_v2("wrong-account", "2.31.6", &[]).await;
    world.declare("coder", spec(&world, &json!({"serviceAccountName": "nobody"}))).await;
    // The Job is blamed until the event that names the account has come.
    let told = |object: &CoderUpgrade| {
        let blocked = object.status.as_ref().and_then(|status| status.blocked.as_ref());
        blocked.is_some_and(|blocked| blocked.object == "ServiceAccount/nobody")
    };
    world.until("coder", "told of the account", told).await;
    world.declare("coder", spec(&world, &json!({}))).await;
    world.phase("coder", Phase::AwaitingApproval).await;
    world.finish().await;
}

#[tokio::test]
async fn a_quota_is_told_at_every_step_and_heard_of_in_the_spec() {
    let world = World::with_v2("quota-pods", "2.31.6", &[]).await;
    world.kubectl(&["create", "quota", "strict", "--hard=limits.memory=8Gi"]).await;
    // Coder's own pods keep to it, so that only the runner's do not.
    let spec = |world: &World, job: &Value| {
        let mut spec = spec(world, job);
        spec["values"] = json!({"coder": {"resources": {"limits": {"memory": "256Mi"}}}});
        spec
    };
    world.declare("coder", spec(&world, &json!({}))).await;
    let (_, told) = blocked(&world, BlockedReason::PodRefused).await;
    assert_eq!((told.object.as_str(), told.field.as_deref()), ("ResourceQuota/strict", Some("spec.job.resources")));
    assert!(told.message.contains("must specify limits.memory"), "{}", told.message);
    world.declare("coder", spec(&world, &json!({"resources": {"limits": {"memory": "256Mi"}}}))).await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;

    // The same between the plan and the change, which is bound to be finished once it has begun.
    world.declare("coder", spec(&world, &json!({}))).await;
    let plan = object.status.unwrap().plan.unwrap().id;
    let annotation = format!("coderupgrade.dev/approve={plan}");
    world.kubectl(&["annotate", "--overwrite", "coderupgrade", "coder", &annotation]).await;
    let (object, _) = blocked(&world, BlockedReason::PodRefused).await;
    assert_eq!(object.status.unwrap().phase, Phase::Upgrading);
    world.kubectl(&["delete", "coderupgrade", "coder", "--wait=false"]).await;
    world.gone("coder").await;
    assert_eq!(world.release().await, (1, "deployed".into()), "nothing was changed, so nothing holds the object");
    world.finish().await;
}

#[tokio::test]
async fn a_policy_is_told_with_its_own_words() {
    let world = World::with_v2("policy", "2.31.6", &[]).await;
    let name = format!("teams-{}", world.namespace);
    world
        .apply(&json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
                "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                    "resources": ["pods"]}]},
                "validations": [{"expression": "'team' in object.metadata.labels", "message": "every pod names its team"}]}},
            {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
             "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": {"matchLabels":
                {"kubernetes.io/metadata.name": world.namespace}}}}},
        ]}))
        .await;
    // A policy takes a moment until it is obeyed.
    world
        .eventually("a policy that refuses", || async {
            let pod = ["run", "probe", "--image=pause", "--dry-run=server", "--namespace", &world.namespace];
            world.cluster.kubectl(&pod).await.err()
        })
        .await;
    world.declare("coder", spec(&world, &json!({}))).await;
    let (_, told) = blocked(&world, BlockedReason::PodRefused).await;
    assert_eq!(told.object, format!("ValidatingAdmissionPolicy/{name}"));
    assert!(told.message.contains("every pod names its team"), "{}", told.message);
    world.declare("coder", spec(&world, &json!({"labels": {"team": "platform"}}))).await;
    world.phase("coder", Phase::AwaitingApproval).await;
    world.kubectl(&["delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", &name]).await;
    world.finish().await;
}

#[tokio::test]
async fn a_node_that_does_not_start_the_pod_is_told_and_another_one_does() {
    let world = World::with_v2("dead-node", "2.31.6", &[]).await;
    let (node, only_there) = world.dead_node().await;
    world.declare("coder", spec(&world, &only_there)).await;
    let told = |o: &CoderUpgrade| o.status.as_ref().is_some_and(|s| s.message.contains("has not started yet"));
    let object = world.until("coder", "told of the slow start", told).await;
    let message = object.status.unwrap().message;
    assert!(message.contains(&node) && message.contains("Scheduled"), "{message}");
    world.declare("coder", spec(&world, &json!({}))).await;
    world.phase("coder", Phase::AwaitingApproval).await;
    world.kubectl(&["delete", "node", &node]).await;
    world.finish().await;
}
