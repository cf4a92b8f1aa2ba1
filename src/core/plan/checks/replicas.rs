//! Numbers of replicas that cannot work.

use std::collections::BTreeSet;

use super::pods::{Template, list, templates};
use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding, Strategy};
use crate::core::helm::documents::Documents;
use crate::core::object::KindName;
use crate::core::plan::replicas::{KeptReplicas, Scaled};

/// [`CheckName::ReplicaCount`]; what somebody else has set is kept, or named if it cannot be.
pub fn scaled(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let finding = |KeptReplicas { scaled, path }: &KeptReplicas| {
        let Scaled { object, live, rendered, by } = scaled;
        let found = format!("{object} has {live} replicas, set by {by}, and the values ask for {rendered}");
        let scale = format!("kubectl scale {} --namespace {}", object.to_string().to_lowercase(), facts.namespace);
        let finding = match path {
            Some(path) => Finding::warning(
                CheckName::ReplicaCount,
                format!("{found}: it keeps {live}, by the value {path}"),
                format!(
                    "If it shall have another number, change it where it was set ({scale} --replicas=NUMBER, or the autoscaler)."
                ),
            ),
            None => Finding::refusal(
                CheckName::ReplicaCount,
                format!("{found}, by a value of the chart that is not known: helm would be refused, or end pods"),
                format!(
                    "Set the value from which the chart takes the number to {live} in spec.values, or scale it yourself: {scale} --replicas={rendered}."
                ),
            ),
        };
        finding.about(object).at("spec.replicas")
    };
    foreseen.kept.iter().map(finding).collect()
}

/// [`CheckName::ReplicaCount`]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let alone = exclusive_claims(&foreseen.new);
    let mut found = Vec::new();
    for template in templates(&foreseen.new) {
        let replicas = template.replicas();
        let at = |finding: Finding| finding.about(&template.object).at("spec.replicas");
        if template.server().is_some() && replicas == 0 && template.kind() != "DaemonSet" {
            let message =
                format!("{} would have no pods: nobody could be asked whether the upgrade went well", template.object);
            let next = "Set the number of replicas in the values to 1 or more (coder.replicaCount, coderd.replicas).";
            found.push(at(Finding::refusal(CheckName::ReplicaCount, message, next)));
        }
        if template.object == KindName::new("StatefulSet", "timescale") && replicas > 1 {
            let message = format!("StatefulSet/timescale would have {replicas} pods, each with a database of its own");
            let next = "Leave the bundled database at one replica.";
            found.push(at(Finding::refusal(CheckName::ReplicaCount, message, next)));
        }
        if template.kind() == "Deployment" {
            let mounted = list(&template.pod["volumes"]).iter();
            let mounted = mounted.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str());
            for claim in mounted.filter(|claim| alone.contains(*claim)) {
                found.extend(shared(facts, &template, claim).map(at));
            }
        }
    }
    found
}

/// A claim that one node alone can mount, in a Deployment whose pods must share it.
fn shared(facts: &Facts, template: &Template<'_>, claim: &str) -> Option<Finding> {
    let replicas = template.replicas();
    let message = format!("PersistentVolumeClaim/{claim} can be mounted on one node only");
    if replicas > 1 {
        let message =
            format!("{message}, and {} has {replicas} pods: those on other nodes would never start", template.object);
        let next = "Set one replica, or use a claim with the access mode ReadWriteMany.";
        return Some(Finding::refusal(CheckName::ReplicaCount, message, next));
    }
    let rolling = facts.spec.strategy == Strategy::RollingUpdate && template.spec["strategy"]["type"] != "Recreate";
    (rolling && replicas == 1).then(|| {
        let message = format!(
            "{message}: the new pod of {} cannot start on another node before the old one ends",
            template.object
        );
        Finding::warning(CheckName::ReplicaCount, message, "Set spec.strategy to Recreate.")
    })
}

/// The claims of a manifest that one node alone, or one pod alone, can mount.
fn exclusive_claims(new: &Documents) -> BTreeSet<String> {
    let claims = new.objects().filter(|(name, _)| name.kind == "PersistentVolumeClaim");
    let shared = |mode: &serde_json::Value| mode == "ReadWriteMany" || mode == "ReadOnlyMany";
    let alone = claims.filter(|(_, claim)| !list(&claim["spec"]["accessModes"]).iter().any(shared));
    alone.map(|(name, _)| name.name).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::api::Severity;
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case::none(0, "ReadWriteMany", &[Severity::Refusal])]
    #[case::one(1, "ReadWriteMany", &[])]
    #[case::many(3, "ReadWriteMany", &[])]
    #[case::one_alone(1, "ReadWriteOnce", &[Severity::Warning])]
    #[case::many_alone(2, "ReadWriteOnce", &[Severity::Refusal])]
    fn numbers_that_cannot_work(#[case] replicas: i64, #[case] mode: &str, #[case] expected: &[Severity]) {
        let mut deployment = sample::deployment("coder", &json!({"name": "coder"}));
        deployment["spec"]["replicas"] = replicas.into();
        deployment["spec"]["template"]["spec"]["volumes"] =
            json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
            "spec": {"accessModes": [mode]},
        });
        let foreseen = Foreseen { new: sample::documents(&[deployment, claim]), ..sample::foreseen() };
        let found = check(&sample::facts("2.30.0", "2.31.7"), &foreseen);
        assert_eq!(found.iter().map(|finding| finding.severity).collect::<Vec<_>>(), expected, "{found:?}");
        let mut recreate = sample::facts("2.30.0", "2.31.7");
        recreate.spec.strategy = Strategy::Recreate;
        assert!(check(&recreate, &foreseen).iter().all(|finding| finding.severity == Severity::Refusal));
    }

    #[test]
    fn the_bundled_database_is_alone() {
        let set = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "timescale"}, "spec": {"replicas": 2},
        });
        let foreseen = Foreseen { new: sample::documents(&[set]), ..sample::foreseen() };
        assert_eq!(check(&sample::facts("1.16.1", "1.17.0"), &foreseen).len(), 1);
    }
}
