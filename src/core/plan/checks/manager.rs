//! Two programs that manage one release undo each other's work.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;

use super::{Facts, Foreseen, Mark};
use crate::api::{CheckName, Finding};
use crate::core::helm::documents::Documents;
use crate::core::helm::ownership::{HELM, MANAGED_BY};

/// [`CheckName::ReleaseManager`], by the workloads of what is installed or runs.
pub fn check(facts: &Facts) -> Vec<Finding> {
    judged(facts, &facts.marks, &facts.old)
}

/// The same by every object of the new chart that exists.
pub fn foreseen(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    if judged(facts, &facts.marks, &facts.old).is_empty() {
        judged(facts, &foreseen.marks, &foreseen.new)
    } else {
        Vec::new()
    }
}

/// All objects of a release say the same: the first that says something is enough.
fn judged(facts: &Facts, marks: &[Mark], written: &Documents) -> Vec<Finding> {
    let managed = marks.iter().find_map(|(object, metadata)| Some((object, manager(metadata)?)));
    let Some((object, Manager { what, mark, remedy })) = managed else {
        return tracked(facts, marks, written).or_else(|| written_by(marks)).into_iter().collect();
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

/// Where a tool marks the objects that it manages.
#[derive(Clone, Copy)]
enum MarkKind {
    Label,
    Annotation,
}

/// The marks of the tools that put one on each of their objects. The value of the mark names what manages the object, of
/// which `what` is the kind.
const TOOLS: &[(MarkKind, &str, &str, &str)] = &[
    (MarkKind::Label, "helm.toolkit.fluxcd.io/name", "Flux", "HelmRelease"),
    (MarkKind::Label, "kustomize.toolkit.fluxcd.io/name", "Flux", "Kustomization"),
    (MarkKind::Annotation, "argocd.argoproj.io/tracking-id", "Argo CD", "Application"),
    (MarkKind::Label, "argocd.argoproj.io/instance", "Argo CD", "Application"),
    (MarkKind::Label, "helmcharts.helm.cattle.io/chart", "the helm-controller of k3s", "HelmChart"),
    (MarkKind::Annotation, "objectset.rio.cattle.io/owner-name", "k3s or Rancher", ""),
    (MarkKind::Annotation, "objectset.rio.cattle.io/id", "Rancher Fleet", "bundle"),
    (MarkKind::Label, "objectset.rio.cattle.io/hash", "Rancher Fleet", "object set"),
    (MarkKind::Annotation, "fleet.cattle.io/bundle-id", "Rancher Fleet", "bundle"),
    (MarkKind::Label, "fleet.cattle.io/managed", "Rancher Fleet", "bundle"),
    (MarkKind::Label, "kapp.k14s.io/app", "Carvel kapp", "app"),
    (MarkKind::Label, "kluctl.io/discriminator", "kluctl", "deployment"),
    (MarkKind::Annotation, "configmanagement.gke.io/managed", "Config Sync", ""),
    (MarkKind::Label, "applyset.kubernetes.io/part-of", "kubectl apply --prune", "ApplySet"),
    (MarkKind::Annotation, "crossplane.io/external-name", "Crossplane", ""),
    (MarkKind::Label, "crossplane.io/composite", "Crossplane", "composite resource"),
];

/// API groups whose objects control those that a chart creates in the course of things.
const BUILT_IN: [&str; 3] = ["", "apps", "batch"];

/// Whether a key of labels or annotations belongs to one of these tools.
pub fn is_mark(key: &str) -> bool {
    let domain = |key: &str| key.split_once('/').map(|(domain, _)| domain.to_owned());
    domain(key).is_some_and(|of_key| TOOLS.iter().any(|(_, mark, ..)| domain(mark).as_ref() == Some(&of_key)))
}

fn manager(metadata: &ObjectMeta) -> Option<Manager> {
    by_mark(metadata).or_else(|| by_owner(metadata)).or_else(|| by_label(metadata))
}

fn by_mark(metadata: &ObjectMeta) -> Option<Manager> {
    TOOLS.iter().find_map(|(place, key, tool, kind)| {
        let (found, word) = match place {
            MarkKind::Label => (label(metadata, key), "labels"),
            MarkKind::Annotation => (annotation(metadata, key), "annotations"),
        };
        let value = found.filter(|value| *value != "disabled")?;
        // An id of Argo CD begins with the name of the Application.
        let name = value.split(':').next().unwrap_or_default();
        let owner = |part: &str| annotation(metadata, &format!("objectset.rio.cattle.io/owner-{part}"));
        let what = match (*key, *kind) {
            ("objectset.rio.cattle.io/owner-name", _) => {
                let kind = owner("gvk").and_then(|gvk| gvk.rsplit("Kind=").next()).unwrap_or("object");
                let place = owner("namespace").map(|place| format!(" in {place}")).unwrap_or_default();
                format!("{kind}/{name}{place}")
            }
            ("helm.toolkit.fluxcd.io/name" | "kustomize.toolkit.fluxcd.io/name", kind) => {
                let place = label(metadata, &key.replace("/name", "/namespace")).unwrap_or("its namespace");
                format!("{kind}/{name} in {place}")
            }
            (_, "") => String::new(),
            (_, "Application") => format!("Application {name}"),
            (_, kind) => format!("{kind} {name}").trim_end().to_owned(),
        };
        let shown = if what.is_empty() { (*tool).to_owned() } else { format!("{tool} ({what})") };
        let mark = format!("{word} {key}");
        Some(Manager { what: shown, mark, remedy: remedy(tool, &what) })
    })
}

fn remedy(tool: &str, what: &str) -> String {
    let how = match (tool, what.split('/').next().unwrap_or_default()) {
        ("Flux", "HelmRelease" | "Kustomization") => {
            let what = what.split(' ').next().unwrap_or_default();
            format!("suspend {what} and remove it without pruning")
        }
        ("Argo CD", _) => format!("remove the {what} without deleting its resources"),
        _ => format!("have {tool} stop managing the objects without deleting them, and remove its marks from them"),
    };
    format!("Let one of them manage the release: {how}, or delete this CoderUpgrade.")
}

/// An object of an operator that controls what a chart would create.
fn by_owner(metadata: &ObjectMeta) -> Option<Manager> {
    let group = |owner: &OwnerReference| owner.api_version.split_once('/').map_or("", |(group, _)| group).to_owned();
    let coder = |owner: &OwnerReference| group(owner) == "coder.com" || group(owner).ends_with(".coder.com");
    let foreign = |owner: &&OwnerReference| {
        coder(owner) || owner.controller == Some(true) && !BUILT_IN.contains(&group(owner).as_str())
    };
    let owner = metadata.owner_references.iter().flatten().find(foreign)?;
    let tool = if coder(owner) { "coder-k8s" } else { "the operator of its owner" };
    Some(Manager {
        what: format!("{tool} ({}/{})", owner.kind, owner.name),
        mark: format!("ownerReferences {}", owner.api_version),
        remedy: format!(
            "Let one of them manage Coder: delete {}/{} with --cascade=orphan, or delete this CoderUpgrade.",
            owner.kind, owner.name
        ),
    })
}

/// helm always writes its own name into the label for that.
fn by_label(metadata: &ObjectMeta) -> Option<Manager> {
    let tool = label(metadata, MANAGED_BY).filter(|tool| !tool.is_empty() && !tool.eq_ignore_ascii_case(HELM))?;
    Some(Manager { what: tool.to_owned(), mark: format!("labels {MANAGED_BY}"), remedy: remedy(tool, "") })
}

fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Argo CD may also track objects by a label that charts set, too: then it stands there with another value than the chart's.
fn tracked(facts: &Facts, marks: &[Mark], written: &Documents) -> Option<Finding> {
    const LABEL: &str = "app.kubernetes.io/instance";
    marks.iter().find_map(|(object, metadata)| {
        let live = label(metadata, LABEL)?;
        let (_, stored) = written.objects().find(|(name, _)| name.kind_name() == *object)?;
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

/// Under which name tools write fields. What one wrote once it may have left since, so this alone is a warning.
const WRITERS: [(&str, &str); 7] = [
    ("argocd-controller", "Argo CD"),
    ("kustomize-controller", "Flux"),
    ("helm-controller", "Flux"),
    ("fleetagent", "Rancher Fleet"),
    ("kluctl", "kluctl"),
    ("pulumi-kubernetes", "Pulumi"),
    ("Terraform", "Terraform"),
];

fn written_by(marks: &[Mark]) -> Option<Finding> {
    marks.iter().find_map(|(object, metadata)| {
        let entries = metadata.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none());
        let (writer, tool) = entries.filter_map(|entry| entry.manager.as_deref()).find_map(|name| {
            WRITERS.iter().find(|(writer, _)| name == *writer || name.starts_with(&format!("{writer}-")))
        })?;
        let message = format!(
            "{tool} has written fields of {object} (manager {writer} in metadata.managedFields): it may manage the release still"
        );
        let next = format!("If {tool} manages Coder still, leave it to {tool} and delete this CoderUpgrade.");
        Some(Finding::warning(CheckName::ReleaseManager, message, next).about(object).at("metadata.managedFields"))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Severity;
    use crate::core::object::KindName;
    use crate::core::plan::checks::sample;

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
    #[case::k3s(
        json!({"annotations": {
            "objectset.rio.cattle.io/id": "", "objectset.rio.cattle.io/owner-gvk": "k3s.cattle.io/v1, Kind=Addon",
            "objectset.rio.cattle.io/owner-name": "dev", "objectset.rio.cattle.io/owner-namespace": "kube-system",
        }, "labels": {"objectset.rio.cattle.io/hash": "1"}}),
        Some("k3s or Rancher (Addon/dev in kube-system), as its annotations objectset.rio.cattle.io/owner-name")
    )]
    #[case::k3s_helm_chart(json!({"labels": {"helmcharts.helm.cattle.io/chart": "dev"}}), Some("helm-controller of k3s (HelmChart dev)"))]
    #[case::fleet(
        json!({"annotations": {"objectset.rio.cattle.io/id": "default-dev"}, "labels": {"objectset.rio.cattle.io/hash": "1"}}),
        Some("Rancher Fleet (bundle default-dev)")
    )]
    #[case::kapp(json!({"labels": {"kapp.k14s.io/app": "1654770079912481700"}}), Some("Carvel kapp (app 1654770079912481700)"))]
    #[case::kluctl(json!({"labels": {"kluctl.io/discriminator": "dev"}}), Some("kluctl (deployment dev)"))]
    #[case::config_sync(json!({"annotations": {"configmanagement.gke.io/managed": "enabled"}}), Some("managed by Config Sync,"))]
    #[case::config_sync_left_it(json!({"annotations": {"configmanagement.gke.io/managed": "disabled"}}), None)]
    #[case::apply_set(json!({"labels": {"applyset.kubernetes.io/part-of": "applyset-x-v1"}}), Some("ApplySet applyset-x-v1"))]
    #[case::crossplane(json!({"labels": {"crossplane.io/composite": "dev"}}), Some("Crossplane (composite resource dev)"))]
    #[case::another_tool(json!({"labels": {"app.kubernetes.io/managed-by": "pulumi"}}), Some("managed by pulumi, as its labels app"))]
    #[case::helm_itself(json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}}), None)]
    #[case::another_operator(
        json!({"ownerReferences": [
            {"apiVersion": "charts.example.com/v1", "kind": "CoderApp", "name": "dev", "uid": "1", "controller": true}
        ]}),
        Some("operator of its owner (CoderApp/dev)")
    )]
    #[case::other_owner(
        json!({"ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "dev", "uid": "1"}]}),
        None
    )]
    fn other_managers_are_found(#[case] metadata: Value, #[case] expected: Option<&str>) {
        let mut facts = sample::facts("2.30.0", "2.31.7");
        facts.marks = vec![(KindName::new("Deployment", "coder"), serde_json::from_value(metadata).unwrap())];
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
        facts.marks = vec![(KindName::new("Deployment", "coder"), serde_json::from_value(labels).unwrap())];
        facts.old = sample::documents(&[json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "coder", "labels": {"app.kubernetes.io/instance": "coder"}},
        })]);
        let found = check(&facts);
        assert_eq!(found.iter().map(|finding| finding.severity).collect::<Vec<_>>(), [Severity::Warning]);
    }

    #[test]
    fn who_has_only_written_fields_is_a_warning() {
        let entry = |manager: &str, part: Value| json!({"manager": manager, "operation": "Apply", "subresource": part});
        let found = |fields: Value| {
            let mut facts = sample::facts("2.30.0", "2.31.7");
            let metadata = serde_json::from_value(json!({"managedFields": fields})).unwrap();
            facts.marks = vec![(KindName::new("Deployment", "coder"), metadata)];
            check(&facts)
        };
        let argo = found(json!([entry("helm", Value::Null), entry("argocd-controller", Value::Null)]));
        assert_eq!(argo[0].severity, Severity::Warning);
        assert!(argo[0].message.starts_with("Argo CD has written fields of Deployment/coder"), "{argo:?}");
        assert_eq!(found(json!([entry("helm", Value::Null), entry("argocd-controller", json!("status"))])), []);
        assert_eq!(found(json!([entry("pulumi-kubernetes-1a2b3c4d", Value::Null)]))[0].severity, Severity::Warning);
    }

    #[test]
    fn every_object_of_the_new_chart_counts_and_nothing_is_told_twice() {
        let facts = sample::facts("2.30.0", "2.31.7");
        let metadata = json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}});
        let marks = vec![(KindName::new("Service", "coder"), serde_json::from_value(metadata).unwrap())];
        let after = Foreseen { marks: marks.clone(), ..sample::foreseen() };
        assert_eq!(foreseen(&facts, &after)[0].object.as_deref(), Some("Service/coder"));
        let known = Facts { marks, ..facts };
        assert_eq!((check(&known).len(), foreseen(&known, &after).len()), (1, 0));
    }
}
