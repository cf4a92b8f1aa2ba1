//! P4: what an uninstall cannot cure never leads to one, however much is allowed, and Coder serves all the time.

use crate::common::{World, reason};
use coder_upgrade_operator::api::{CoderUpgrade, Failure, FailureClass, Phase, StepName};
use serde_json::{Value, json};
use testbed::cluster::ServiceWatch;

/// A Coder v2 that serves, and somebody who asks it all the time.
struct Story {
    world: World,
    watch: ServiceWatch,
}

impl Story {
    async fn begin(name: &str) -> Self {
        let world = World::with_v2(name, "2.31.6", &[]).await;
        let watch = world.cluster.watch_service(&world.namespace, "coder").await.unwrap();
        Self { world, watch }
    }

    /// Declares a version with everything allowed, waits until a person is needed, and sees that nothing was uninstalled.
    async fn fails(&self, version: &str, spec: Value, class: FailureClass) -> (CoderUpgrade, Failure) {
        let mut all = json!({
            "version": version, "recovery": "Reinstall", "retry": {"limit": 0},
            "chart": {"repository": self.world.repositories().faults}, "helm": {"timeout": "10s"},
        });
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        self.world.declare("coder", all).await;
        let object = self.world.stalled("coder").await;
        self.nothing_was_uninstalled(&object).await;
        let status = object.status.clone().unwrap();
        let failure = status.failure.unwrap();
        assert_eq!((failure.class, status.phase), (class, Phase::Failed), "{failure:?}");
        assert_eq!(reason(&object, "Ready"), Some(("False".into(), class.to_string())));
        assert_eq!(failure.next_step, class.next_step(), "what a person can do");
        assert!(!failure.retryable, "{failure:?}");
        (object, failure)
    }

    /// As [`Self::fails`], seen by the rehearsal: nothing was begun.
    async fn is_refused(&self, version: &str, spec: Value, class: FailureClass) -> Failure {
        let (object, failure) = self.fails(version, spec, class).await;
        assert_eq!(failure.step, StepName::Plan);
        assert!(object.status.unwrap().steps.iter().all(|step| step.name == StepName::Plan));
        self.runs(1, "coder-2.31.6").await;
        failure
    }

    async fn nothing_was_uninstalled(&self, object: &CoderUpgrade) {
        let status = object.status.as_ref().unwrap();
        let uninstalling = [StepName::Uninstall, StepName::Drain, StepName::Install];
        let steps: Vec<_> = status.steps.iter().map(|step| step.name).collect();
        assert!(!steps.iter().any(|step| uninstalling.contains(step)), "{steps:?}");
        assert!(!status.recovery_required && status.repairs.is_empty(), "{status:?}");
        let history = self.world.helm(&["history", "coder", "-o", "json"]).await;
        assert!(!history.contains("uninstall"), "{history}");
    }

    /// The chart of the newest revision, which runs.
    async fn runs(&self, revision: i64, chart: &str) {
        assert_eq!(self.world.release().await, (revision, "deployed".into()));
        let listed = self.world.helm(&["list", "-o", "json"]).await;
        assert!(listed.contains(&format!("\"{chart}\"")), "{listed}");
    }

    /// Sees that Coder was there all the time.
    async fn end(self) {
        let seen = self.watch.end().await;
        assert!(seen.rounds > 0 && seen.outage.is_zero(), "{seen:?}");
        self.world.finish().await;
    }
}

/// A further object of the release.
fn extra(object: &Value) -> Value {
    json!({"values": {"extraTemplates": [object]}})
}

#[tokio::test]
async fn a_quota() {
    let story = Story::begin("quota").await;
    // The namespace has one already, which every namespace has.
    story.world.kubectl(&["create", "quota", "few", "--hard=count/configmaps=1"]).await;
    let counted = ["get", "quota", "few", "-o", "jsonpath={.status.used}"];
    story
        .world
        .eventually("counted ConfigMap", || async {
            story.world.kubectl(&counted).await.contains(r#""count/configmaps":"1""#).then_some(())
        })
        .await;
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one-too-many"}});
    let failure = story.is_refused("2.31.7", extra(&object), FailureClass::QuotaExceeded).await;
    assert!(failure.message.contains("exceeded quota: few"), "{failure:?}");
    story.end().await;
}

#[tokio::test]
async fn a_missing_right() {
    let story = Story::begin("rights-missing").await;
    let kind = "--resource=poddisruptionbudgets.policy";
    story.world.kubectl(&["create", "role", "looks", "--verb=get,list,watch", kind]).await;
    let account = format!("--serviceaccount={}:coder-upgrade-runner", story.world.namespace);
    story.world.kubectl(&["create", "rolebinding", "looks", "--role=looks", &account]).await;
    let object = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "coder"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": "coder"}}},
    });
    let failure = story.is_refused("2.31.7", extra(&object), FailureClass::Forbidden).await;
    assert!(failure.message.contains("poddisruptionbudgets"), "{failure:?}");
    story.end().await;
}

#[tokio::test]
async fn an_admission_policy() {
    let story = Story::begin("policy").await;
    let name = story.world.namespace.clone();
    deny_version(&story.world, "v2.31.7").await;
    let failure = story.is_refused("2.31.7", json!({}), FailureClass::PolicyDenied).await;
    assert!(failure.message.contains("2.31.7 was recalled"), "{failure:?}");
    assert_eq!(failure.object.as_deref(), Some("Deployment/coder"));
    for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
        story.world.kubectl(&["delete", kind, &name]).await;
    }
    story.end().await;
}

/// Has the API server refuse Deployments of a version in the namespace, and waits until it does.
async fn deny_version(world: &World, tag: &str) {
    let name = &world.namespace;
    let rule = json!({
        "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"],
    });
    let expression = format!("!object.spec.template.spec.containers.exists(c, c.image.endsWith(':{tag}'))");
    let message = format!("{} was recalled", tag.trim_start_matches('v'));
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": expression, "message": message}],
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
    let image = format!("coder=ghcr.io/coder/coder:{tag}");
    let attempt = ["set", "image", "deployment/coder", &image, "--dry-run=server", "--namespace", name];
    world.eventually("refusal by the policy", || async { world.cluster.kubectl(&attempt).await.err().map(drop) }).await;
}

#[tokio::test]
async fn a_value_that_the_chart_misses() {
    let story = Story::begin("render").await;
    let failure = story.is_refused("2.31.9", json!({}), FailureClass::RenderFailed).await;
    assert!(failure.message.contains("coder.telemetry.contact is required"), "{failure:?}");
    story.end().await;
}

#[tokio::test]
async fn a_new_version_that_crashes() {
    let story = Story::begin("crash").await;
    let (object, failure) = story.fails("2.31.8", json!({}), FailureClass::RolloutTimedOut).await;
    assert!(object.status.unwrap().new_version_started, "it could have migrated the database");
    let excerpt = failure.excerpt.unwrap_or_default();
    assert!(excerpt.contains("workspace-scheduler"), "what the pod said: {excerpt}");
    assert_eq!(story.world.release().await, (2, "failed".into()), "never back over a migrated database");
    story.end().await;
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled() {
    let story = Story::begin("pull").await;
    let (object, failure) = story.fails("2.31.17", json!({}), FailureClass::RolloutTimedOut).await;
    assert!(!object.status.unwrap().new_version_started);
    assert!(failure.message.contains("image of container coder cannot be pulled"), "{failure:?}");
    story.runs(3, "coder-2.31.6").await;
    story.end().await;
}

#[tokio::test]
async fn a_migration_that_takes_longer_than_helm_waits() {
    let story = Story::begin("migration").await;
    let (object, failure) = story.fails("2.31.16", json!({}), FailureClass::RolloutTimedOut).await;
    assert!(object.status.unwrap().new_version_started);
    assert!(failure.next_step.contains("spec.helm.timeout"), "{failure:?}");
    assert_eq!(story.world.release().await, (2, "failed".into()), "a migration is left alone");
    // It goes on, and in the end somebody asks again.
    let rolled_out = ["rollout", "status", "deployment/coder", "--timeout=120s"];
    story.world.kubectl(&rolled_out).await;
    story.world.kubectl(&["annotate", "cu", "coder", "coderupgrade.dev/requested-at=now"]).await;
    let object = story.world.ready("coder").await;
    story.nothing_was_uninstalled(&object).await;
    story.runs(3, "coder-2.31.16").await;
    story.end().await;
}
