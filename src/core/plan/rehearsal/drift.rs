//! What somebody changed by hand, seen from what helm would do about it although chart and values are the same.

use serde_json::Value;

use super::{Rehearsal, Write};
use crate::api::{FailureClass, Remedy};
use crate::core::helm::documents::Documents;
use crate::core::helm::failures::Cause;
use crate::core::object::ObjectRef;

/// The objects that are not as helm left them: they would be made again, or their pods would be made from another template.
///
/// `stored` is the manifest of the installed release and `rendered` what the same chart renders from the same values now.
/// What a template renders differently each time tells nothing. Neither does the number of replicas: Coder may be scaled.
pub fn edited_by_hand(rehearsal: &Rehearsal, stored: &Documents, rendered: &Documents) -> Vec<ObjectRef> {
    let edited_by_hand = |write: &&Write| match (&write.before, &write.after) {
        (None, Some(_)) => find(stored, &write.object).is_some(),
        (Some(before), Some(after)) if is_workload(&write.object) && shape(before) != shape(after) => {
            find(stored, &write.object).map(shape) == find(rendered, &write.object).map(shape)
        }
        _ => false,
    };
    let mut found: Vec<ObjectRef> =
        rehearsal.writes.iter().filter(edited_by_hand).map(|write| write.object.clone()).collect();
    // To adopt or to replace an object that helm has made before: it is another one now.
    let repaired = rehearsal.repairs.iter().filter(|r| matches!(r.remedy, Remedy::Adopt | Remedy::Replace));
    for repair in repaired {
        let object = rendered.objects().map(|(name, _)| name).find(|name| name.is(&repair.object));
        found.extend(object.filter(|object| !found.iter().any(|known| known.is(&object.to_string()))));
    }
    found
}

/// The refusals that matter although nothing is to be done: another manager has a field of the release, and not only the
/// number of replicas.
pub fn conflicting_managers(refusals: &[Cause]) -> impl Iterator<Item = &Cause> {
    refusals.iter().filter(|cause| cause.class == Some(FailureClass::FieldConflict) && !only_scaled(cause))
}

/// Whether a conflict is about nothing but the number of replicas.
pub fn only_scaled(cause: &Cause) -> bool {
    if cause.class != Some(FailureClass::FieldConflict) {
        return false;
    }
    let paths = cause.message.split_whitespace().filter(|word| word.starts_with('.'));
    let mut paths = paths.map(|path| path.trim_end_matches([':', ','])).peekable();
    paths.peek().is_some() && paths.all(|path| path == ".spec.replicas")
}

fn is_workload(object: &ObjectRef) -> bool {
    matches!(object.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet")
}

/// What the pods of a workload are made from, and found by.
fn shape(workload: &Value) -> (&Value, &Value) {
    (&workload["spec"]["template"], &workload["spec"]["selector"])
}

/// An object of a manifest, where those of the cluster seem to lie in the namespace of the release.
fn find<'a>(documents: &'a Documents, object: &ObjectRef) -> Option<&'a Value> {
    let named = |name: &ObjectRef| {
        let namespace = object.namespace.clone().or_else(|| name.namespace.clone());
        name.same(&ObjectRef { namespace, ..object.clone() })
    };
    documents.objects().find(|(name, _)| named(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::api::PlannedRepair;
    use crate::core::plan::rehearsal::Verb;

    fn deployment(image: &str, replicas: u32) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "coder", "namespace": "ns"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "coder"}},
                     "template": {"spec": {"containers": [{"name": "coder", "image": image}]}}},
        })
    }

    fn documents(objects: &[Value]) -> Documents {
        let text: Vec<String> = objects.iter().map(|object| format!("---\n{object}\n")).collect();
        Documents::parse(&text.concat(), "ns").unwrap()
    }

    fn write(before: Option<Value>, after: Option<Value>) -> Rehearsal {
        let object = ObjectRef::of(before.as_ref().or(after.as_ref()).unwrap()).unwrap();
        let verb = if before.is_some() { Verb::Update } else { Verb::Create };
        Rehearsal { writes: vec![Write { verb, object, before, after }], ..Rehearsal::default() }
    }

    #[rstest]
    #[case::image_edited(Some(deployment("by-hand", 1)), Some(deployment("a", 1)), true)]
    #[case::deleted(None, Some(deployment("a", 1)), true)]
    #[case::scaled(Some(deployment("a", 3)), Some(deployment("a", 1)), false)]
    #[case::as_it_was(Some(deployment("a", 1)), Some(deployment("a", 1)), false)]
    #[case::refused(Some(deployment("a", 1)), None, false)]
    fn what_was_edited_or_deleted_is_edited_by_hand(
        #[case] before: Option<Value>,
        #[case] after: Option<Value>,
        #[case] expected: bool,
    ) {
        let manifest = documents(&[deployment("a", 1)]);
        assert_eq!(!edited_by_hand(&write(before, after), &manifest, &manifest).is_empty(), expected);
    }

    #[test]
    fn what_is_rendered_differently_each_time_tells_nothing() {
        let rehearsal = write(Some(deployment("random-1", 1)), Some(deployment("random-2", 1)));
        let (stored, rendered) = (documents(&[deployment("random-1", 1)]), documents(&[deployment("random-2", 1)]));
        assert!(edited_by_hand(&rehearsal, &stored, &rendered).is_empty());
        let unknown = write(None, Some(deployment("a", 1)));
        assert!(edited_by_hand(&unknown, &documents(&[]), &rendered).is_empty(), "it never was there");
    }

    #[test]
    fn objects_of_the_cluster_are_found_and_other_kinds_only_when_they_are_gone() {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "coder"}, "rules": []});
        let manifest = documents(std::slice::from_ref(&role));
        assert_eq!(edited_by_hand(&write(None, Some(role.clone())), &manifest, &manifest).len(), 1);
        let edited = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "coder"}, "rules": [1]});
        assert!(edited_by_hand(&write(Some(edited), Some(role)), &manifest, &manifest).is_empty());
    }

    #[test]
    fn an_object_that_must_be_repaired_is_another_one_than_helm_left() {
        let manifest = documents(&[deployment("a", 1)]);
        let repair = |remedy| PlannedRepair {
            remedy,
            object: "Deployment/coder".into(),
            message: String::new(),
            needs_approval: false,
        };
        let rehearsal = |remedy| Rehearsal { repairs: vec![repair(remedy)], ..Rehearsal::default() };
        assert_eq!(edited_by_hand(&rehearsal(Remedy::Replace), &manifest, &manifest).len(), 1);
        assert!(edited_by_hand(&rehearsal(Remedy::RewriteApis), &manifest, &manifest).is_empty());
    }

    #[rstest]
    #[case::scaled(
        "Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas",
        0
    )]
    #[case::edited(
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using apps/v1: .spec.template.spec.hostname",
        1
    )]
    #[case::both(
        "Apply failed with 2 conflicts: conflicts with \"kubectl-edit\" using apps/v1:\n- .spec.replicas\n- .spec.paused",
        1
    )]
    fn a_scaled_workload_is_no_conflict(#[case] message: &str, #[case] expected: usize) {
        let cause = Cause { class: Some(FailureClass::FieldConflict), message: message.into(), ..Cause::default() };
        assert_eq!(conflicting_managers(&[cause]).count(), expected);
    }
}
