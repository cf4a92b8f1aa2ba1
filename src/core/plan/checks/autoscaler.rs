//! Autoscalers that set the number of replicas as well.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::ResourceExt;

use super::pods::templates;
use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding, Strategy};
use crate::core::object::KindName;

/// [`CheckName::Autoscaler`]; a plain autoscaler leaves a workload alone that has no replicas, one of KEDA does not.
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    if facts.spec.strategy != Strategy::Recreate {
        return Vec::new();
    }
    let servers: Vec<_> = templates(&foreseen.new).filter(|t| t.server().is_some()).map(|t| t.object).collect();
    let scaled = |target: &KindName| servers.contains(target) || is_companion(facts, target);
    let autoscalers = foreseen.surroundings.autoscalers.iter().flatten();
    autoscalers.filter_map(|autoscaler| judged(autoscaler, &scaled)).collect()
}

fn is_companion(facts: &Facts, target: &KindName) -> bool {
    target.kind == "Deployment" && facts.spec.companions.contains(&target.name)
}

fn judged(autoscaler: &HorizontalPodAutoscaler, scaled: &impl Fn(&KindName) -> bool) -> Option<Finding> {
    let target = &autoscaler.spec.as_ref()?.scale_target_ref;
    let target = KindName::new(&target.kind, &target.name);
    if !scaled(&target) {
        return None;
    }
    let object = format!("HorizontalPodAutoscaler/{}", autoscaler.name_any());
    let owner = autoscaler.owner_references().iter().find(|owner| owner.kind == "ScaledObject");
    let finding = match owner {
        Some(owner) => Finding::refusal(
            CheckName::Autoscaler,
            format!("{object} of ScaledObject/{} would start {target} again while it is scaled to zero", owner.name),
            format!("Pause ScaledObject/{} for the upgrade (annotation autoscaling.keda.sh/paused).", owner.name),
        ),
        None => Finding::warning(
            CheckName::Autoscaler,
            format!("{object} scales {target}: it rests while there are no replicas, and goes on after the upgrade"),
            "Nothing, if the number of replicas may change right after the upgrade.",
        ),
    };
    Some(finding.about(object).at("spec.scaleTargetRef"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Severity;
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case::rolling("coder", json!([]), Strategy::RollingUpdate, None)]
    #[case::plain("coder", json!([]), Strategy::Recreate, Some(Severity::Warning))]
    #[case::keda("coder", json!([{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "coder", "uid": "1"}]), Strategy::Recreate, Some(Severity::Refusal))]
    #[case::companion("coder-provisioner", json!([]), Strategy::Recreate, Some(Severity::Warning))]
    #[case::something_else("web", json!([]), Strategy::Recreate, None)]
    fn autoscalers_are_told(
        #[case] target: &str,
        #[case] owners: Value,
        #[case] strategy: Strategy,
        #[case] expected: Option<Severity>,
    ) {
        let autoscaler = json!({
            "metadata": {"name": "coder", "ownerReferences": owners},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}},
        });
        let mut facts = sample::facts("2.30.0", "2.31.7");
        facts.spec.strategy = strategy;
        facts.spec.companions = vec!["coder-provisioner".into()];
        let mut foreseen = sample::foreseen();
        foreseen.new = sample::documents(&[sample::deployment("coder", &json!({"name": "coder"}))]);
        foreseen.surroundings.autoscalers = Some(vec![serde_json::from_value(autoscaler).unwrap()]);
        assert_eq!(check(&facts, &foreseen).first().map(|finding| finding.severity), expected);
    }
}
