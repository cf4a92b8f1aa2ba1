//! A number of replicas that a person or an autoscaler has set is kept, by the value from which the chart takes it.

use crate::common::World;
use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::api::{CheckName, FailureClass, Finding, PlannedAction, Severity};
use coder_upgrade_operator::core::report::PlanReport;
use k8s_openapi::api::apps::v1::Deployment;
use rstest::rstest;
use serde_json::{Value, json};

async fn replicas(world: &World) -> i32 {
    world.api::<Deployment>().get("coder").await.unwrap().spec.unwrap().replicas.unwrap()
}

/// Scales Coder as a person would, and waits until it has so many pods.
async fn scale(world: &World, replicas: i32) {
    world.kubectl(&["scale", "deployment/coder", &format!("--replicas={replicas}")]).await;
    world.kubectl(&["rollout", "status", "deployment/coder", "--timeout=90s"]).await;
}

/// What the plan says about numbers of replicas.
fn told(planned: &PlanReport) -> &Finding {
    planned.findings.iter().find(|finding| finding.check == CheckName::ReplicaCount).unwrap()
}

async fn a_scaled_coder(name: &str, helm: HelmMajor, strategy: &str) {
    let steps = Steps::with(name, helm, |r| &r.v2, "2.30.0", &[]).await;
    scale(&steps.world, 3).await;
    let spec = json!({"version": "2.31.7", "strategy": strategy});
    let planned = steps.plan(spec.clone()).await;
    let finding = told(&planned);
    assert_eq!(finding.severity, Severity::Warning);
    for word in ["Deployment/coder has 3 replicas", "kubectl", "coder.replicaCount"] {
        assert!(finding.message.contains(word), "{finding:?}");
    }
    let upgraded = steps.upgrade().await;
    assert!(upgraded.verified.starts_with("3 pods answer 2.31.7"), "{}", upgraded.verified);
    assert_eq!(replicas(&steps.world).await, 3);
    assert_eq!(
        steps.world.values().await["coder"]["replicaCount"],
        3,
        "the helm process of somebody else keeps it, too"
    );
    if strategy == "RollingUpdate" {
        // Also where the spec asks for another number, it is no change that is made again and again.
        let spec = json!({"version": "2.31.7", "values": {"coder": {"replicaCount": 1}}});
        assert_eq!(steps.plan(spec).await.plan.action, PlannedAction::Nothing);
    }
    steps.world.finish().await;
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn what_a_person_has_scaled_stays_so(#[case] helm: HelmMajor) {
    Box::pin(a_scaled_coder("scaled", helm, "RollingUpdate")).await;
}

#[tokio::test]
async fn what_a_person_has_scaled_stays_so_when_coder_is_stopped_for_the_change() {
    Box::pin(a_scaled_coder("scaled-recreate", HelmMajor::Four, "Recreate")).await;
}

/// An autoscaler that keeps Coder at exactly so many pods; it needs no metrics for that.
fn autoscaler(replicas: i32) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "coder"},
        "spec": {
            "minReplicas": replicas, "maxReplicas": replicas,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "coder"},
        },
    })
}

async fn autoscaled(world: &World, number: i32) {
    world.apply(&autoscaler(number)).await;
    world.eventually("scaled Coder", || async { (replicas(world).await == number).then_some(()) }).await;
    world.kubectl(&["rollout", "status", "deployment/coder", "--timeout=90s"]).await;
}

#[tokio::test]
async fn what_an_autoscaler_has_set_stays_so_even_if_it_changes_after_the_plan() {
    let steps = Steps::with("autoscaled", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    autoscaled(&steps.world, 2).await;
    let planned = steps.plan(json!({"version": "2.31.7"})).await;
    assert!(told(&planned).message.contains("HorizontalPodAutoscaler"), "{:?}", told(&planned));
    autoscaled(&steps.world, 3).await;
    let upgraded = steps.upgrade().await;
    assert!(upgraded.verified.starts_with("3 pods answer 2.31.7"), "{}", upgraded.verified);
    assert_eq!(replicas(&steps.world).await, 3);
    steps.world.finish().await;
}

#[tokio::test]
async fn what_is_scaled_after_the_plan_is_kept_as_well() {
    let steps = Steps::with("scaled-late", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    steps.plan(json!({"version": "2.31.7"})).await;
    scale(&steps.world, 2).await;
    assert!(steps.upgrade().await.verified.starts_with("2 pods answer 2.31.7"));
    steps.world.finish().await;
}

#[tokio::test]
async fn what_is_scaled_is_no_obstacle_on_the_way_back() {
    let steps = Steps::with("scaled-back", HelmMajor::Four, |r| &r.faults, "2.31.7", &[]).await;
    scale(&steps.world, 2).await;
    // Its image cannot be pulled: no pod of it ever starts.
    steps.plan(json!({"version": "2.31.17"})).await;
    let problem = steps.fails("upgrade", &["--helm-timeout", "15s"]).await;
    assert_eq!(problem.class, FailureClass::RolloutTimedOut, "{}", problem.message);
    let restored = steps.restore(&[]).await;
    assert!(restored.verified.starts_with("2 pods answer 2.31.7"), "{}", restored.verified);
    assert_eq!(replicas(&steps.world).await, 2);
    steps.world.finish().await;
}

/// A further Deployment, whose number of replicas stands in no value that anybody knows.
fn worker(replicas: i32) -> Value {
    // Names that stand in values are hidden in messages.
    let labels = json!({"app": "{{ .Release.Name }}-worker"});
    json!([{
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "{{ .Release.Name }}-worker"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "example.com/thing:1"}]},
        }},
    }])
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn a_number_without_a_known_value_is_refused_and_the_advice_helps(#[case] helm: HelmMajor) {
    let steps = Steps::with("scaled-unknown", helm, |r| &r.v2, "2.30.0", &[]).await;
    let values = json!({"extraTemplates": worker(1)});
    steps.plan(json!({"version": "2.30.0", "values": values})).await;
    steps.upgrade().await;
    let world = &steps.world;
    world.kubectl(&["scale", "deployment/coder-worker", "--replicas=2"]).await;
    let spec = json!({"version": "2.31.7", "values": values});
    let problem = steps.refused(spec.clone()).await;
    let refusals = || problem.findings.iter().filter(|finding| finding.severity == Severity::Refusal);
    assert!(refusals().all(|finding| finding.object.as_deref() == Some("Deployment/coder-worker")), "{problem:?}");
    let finding = refusals().find(|finding| finding.check == CheckName::ReplicaCount).unwrap();
    let command = format!("kubectl scale deployment/coder-worker --namespace {} --replicas=1", world.namespace);
    assert!(finding.next_step.contains(&command), "{finding:?}");
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    world.cluster.kubectl(&words).await.unwrap();
    steps.plan(spec).await;
    assert!(steps.upgrade().await.verified.starts_with("1 pod answers 2.31.7"));
    steps.world.finish().await;
}

/// Another field than the number of replicas is nobody's to guess; what the message says must help when it is done literally.
#[rstest]
#[case::the_object_goes_back(false)]
#[case::the_values_follow(true)]
#[tokio::test]
async fn the_advice_about_another_field_helps(#[case] follow: bool) {
    let name = if follow { "field-values" } else { "field-object" };
    let verbose = |value: &str| {
        json!({"coder": {"env": [
            {"name": "CODER_PG_CONNECTION_URL", "valueFrom": {"secretKeyRef": {"name": "coder-db-url", "key": "url"}}},
            {"name": "CODER_VERBOSE", "value": value},
        ]}})
    };
    let steps = Steps::with(name, HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    steps.plan(json!({"version": "2.30.0", "values": verbose("no")})).await;
    steps.upgrade().await;
    let world = &steps.world;
    world.kubectl(&["set", "env", "deployment/coder", "CODER_VERBOSE=yes"]).await;
    world.kubectl(&["rollout", "status", "deployment/coder", "--timeout=90s"]).await;
    let problem = steps.refused(json!({"version": "2.31.7"})).await;
    assert_eq!(problem.class, FailureClass::FieldConflict, "{problem:?}");
    assert!(problem.message.contains("kubectl-set"), "{problem:?}");
    assert!(!problem.findings[0].next_step.contains("force-conflicts"), "{problem:?}");
    if follow {
        steps.plan(json!({"version": "2.31.7", "values": verbose("yes")})).await;
    } else {
        world.kubectl(&["set", "env", "deployment/coder", "CODER_VERBOSE=no"]).await;
        world.kubectl(&["rollout", "status", "deployment/coder", "--timeout=90s"]).await;
        steps.plan(json!({"version": "2.31.7"})).await;
    }
    assert!(steps.upgrade().await.verified.starts_with("1 pod answers 2.31.7"));
    steps.world.finish().await;
}
