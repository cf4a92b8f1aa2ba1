//! Two programs that manage one release undo each other's work.

use kube::core::ObjectMeta;

use super::Facts;
use crate::api::{CheckName, Finding};

/// [`CheckName::ReleaseManager`]
pub fn check(facts: &Facts) -> Vec<Finding> {
    // All objects of a release say the same: the first is enough.
    let marked = facts.marks.iter().find_map(|(object, metadata)| Some((object, manager(metadata)?)));
    let Some((object, Manager { what, mark, remedy })) = marked else {
        return tracked(facts).into_iter().collect();
    };
    let message = format!("{object} is managed by {what}, as its {mark} says; it would undo what is done here");
    let refusal = Finding::refusal(CheckName::ReleaseManager, message, remedy);
    vec![refusal.about(object).at(format!("metadata.{}", mark.split(' ').next().unwrap_or_default()))]
}

struct Manager {
    what: String,
    /// Where it stands, as a word of the metadata and a key.
    mark: String,
    remedy: String,
}

fn manager(metadata: &ObjectMeta) -> Option<Manager> {
    let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let annotation = |key: &str| metadata.annotations.as_ref().and_then(|annotations| annotations.get(key));
    for (group, kind) in [("helm", "HelmRelease"), ("kustomize", "Kustomization")] {
        let key = format!("{group}.toolkit.fluxcd.io/name");
        if let Some(name) = label(&key) {
            let place = label(&format!("{group}.toolkit.fluxcd.io/namespace")).map_or("its namespace", String::as_str);
            return Some(Manager {
                what: format!("Flux ({kind}/{name} in {place})"),
                mark: format!("labels {key}"),
                remedy: format!(
                    "Let one of them manage the release: suspend {kind}/{name} and remove it without pruning, or delete this CoderUpgrade."
                ),
            });
        }
    }
    let argo = [
        ("annotations", "argocd.argoproj.io/tracking-id", annotation("argocd.argoproj.io/tracking-id")),
        ("labels", "argocd.argoproj.io/instance", label("argocd.argoproj.io/instance")),
    ];
    if let Some((place, key, application)) =
        argo.iter().find_map(|(place, key, id)| Some((place, key, id.as_ref()?.split(':').next().unwrap_or_default())))
    {
        return Some(Manager {
            what: format!("Argo CD (Application {application})"),
            mark: format!("{place} {key}"),
            remedy: format!(
                "Let one of them manage the release: remove the Application {application} without deleting its resources, or delete this CoderUpgrade."
            ),
        });
    }
    let owner = metadata.owner_references.iter().flatten().find(|owner| {
        owner.api_version.split('/').next().is_some_and(|group| group == "coder.com" || group.ends_with(".coder.com"))
    })?;
    Some(Manager {
        what: format!("coder-k8s ({}/{})", owner.kind, owner.name),
        mark: format!("ownerReferences {}", owner.api_version),
        remedy: format!(
            "Let one of them manage Coder: delete {}/{} with --cascade=orphan, or delete this CoderUpgrade.",
            owner.kind, owner.name
        ),
    })
}

/// Argo CD may also track objects by a label that charts set, too: then it stands there with another value than the chart's.
fn tracked(facts: &Facts) -> Option<Finding> {
    const LABEL: &str = "app.kubernetes.io/instance";
    facts.marks.iter().find_map(|(object, metadata)| {
        let live = metadata.labels.as_ref()?.get(LABEL)?;
        let (_, stored) = facts.old.objects().find(|(name, _)| name.is(object))?;
        let stored = stored["metadata"]["labels"][LABEL].as_str();
        if stored == Some(live) || *live == facts.spec.release {
            return None;
        }
        let message = format!(
            "the label {LABEL} of {object} is {live}, which the chart did not write: another program, such as Argo CD, may manage it"
        );
        let next = "Find out who wrote the label (kubectl get --show-managed-fields), and let one program manage the release.";
        let warning = Finding::warning(CheckName::ReleaseManager, message, next);
        Some(warning.about(object).at(format!("metadata.labels {LABEL}")))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Severity;
    use crate::core::checks::sample;

    #[rstest]
    #[case::nobody(json!({"labels": {"app.kubernetes.io/instance": "coder"}}), None)]
    #[case::flux(
        json!({"labels": {"helm.toolkit.fluxcd.io/name": "dev", "helm.toolkit.fluxcd.io/namespace": "flux"}}),
        Some("Flux (HelmRelease/dev in flux)")
    )]
    #[case::kustomization(json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}), Some("Kustomization/apps"))]
    #[case::argo(
        json!({"annotations": {"argocd.argoproj.io/tracking-id": "dev:apps/Deployment:coder/coder"}}),
        Some("Argo CD (Application dev)")
    )]
    #[case::argo_by_label(json!({"labels": {"argocd.argoproj.io/instance": "dev"}}), Some("Application dev"))]
    #[case::coder_k8s(
        json!({"ownerReferences": [{"apiVersion": "coder.com/v1alpha1", "kind": "CoderControlPlane", "name": "dev", "uid": "1"}]}),
        Some("coder-k8s (CoderControlPlane/dev)")
    )]
    #[case::other_owner(
        json!({"ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "dev", "uid": "1"}]}),
        None
    )]
    fn other_managers_are_found(#[case] metadata: Value, #[case] expected: Option<&str>) {
        let mut facts = sample::facts("2.30.0", "2.31.7");
        facts.marks = vec![("Deployment/coder".into(), serde_json::from_value(metadata).unwrap())];
        let found = check(&facts);
        assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
        for finding in found {
            assert_eq!((finding.severity, finding.object.as_deref()), (Severity::Refusal, Some("Deployment/coder")));
            assert!(finding.message.contains(expected.unwrap_or_default()), "{finding:?}");
            assert!(finding.next_step.contains("delete this CoderUpgrade"), "{finding:?}");
        }
    }

    #[test]
    fn a_label_that_the_chart_did_not_write_is_a_warning() {
        let mut facts = sample::facts("2.30.0", "2.31.7");
        let labels = json!({"labels": {"app.kubernetes.io/instance": "team-a"}});
        facts.marks = vec![("Deployment/coder".into(), serde_json::from_value(labels).unwrap())];
        facts.old = sample::documents(&[json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "coder", "labels": {"app.kubernetes.io/instance": "coder"}},
        })]);
        let found = check(&facts);
        assert_eq!(found.iter().map(|finding| finding.severity).collect::<Vec<_>>(), [Severity::Warning]);
    }
}
