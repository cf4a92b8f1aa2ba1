//! Whom an object belongs to, as Helm marks it.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

/// Annotation with the name of the release that owns an object.
pub const RELEASE_NAME: &str = "meta.helm.sh/release-name";
/// Annotation with the namespace of that release.
const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";
/// Label that names the tool that manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// What Helm writes there.
pub const HELM: &str = "Helm";

/// Name under which the runner sets fields of objects, where server-side apply tells managers of fields apart.
pub const FIELD_MANAGER: &str = "coder-upgrade-runner";

/// Whether a refused apply conflicts with nobody but the runner itself, which brings its fields to what the chart wants before
/// helm runs.
pub fn only_with_ourselves(failure: &Value) -> bool {
    let ours = format!("conflict with \"{FIELD_MANAGER}\"");
    let causes = failure["details"]["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let with_ourselves = |cause: &Value| cause["message"].as_str().is_some_and(|message| message.starts_with(&ours));
    !causes.is_empty() && causes.iter().all(with_ourselves)
}

/// Whom an object belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The release, with all marks that helm asks for.
    Release,
    /// No release; or this one, but without all of the marks.
    Nobody,
    /// Another release, by name and namespace.
    Other {
        /// Name of the release.
        release: String,
        /// Namespace of the release.
        namespace: String,
    },
    /// Another tool, by the name that it writes into the label for that.
    Tool(String),
}

impl Owner {
    /// From the labels and annotations of an object, seen from a release in its namespace. Helm always writes its own name
    /// into the label, so another name there was written by somebody who took the object over.
    pub fn of(
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
        release: &str,
        namespace: &str,
    ) -> Self {
        let manager = labels.get(MANAGED_BY).map(String::as_str).unwrap_or_default();
        if !manager.is_empty() && !manager.eq_ignore_ascii_case(HELM) {
            return Self::Tool(manager.to_owned());
        }
        let name = annotations.get(RELEASE_NAME);
        let place = annotations.get(RELEASE_NAMESPACE);
        if name.is_some_and(|name| name != release) || place.is_some_and(|place| place != namespace) {
            return Self::Other {
                release: name.map_or(release, String::as_str).to_owned(),
                namespace: place.map_or(namespace, String::as_str).to_owned(),
            };
        }
        if manager == HELM && name.is_some() && place.is_some() { Self::Release } else { Self::Nobody }
    }
}

impl Owner {
    /// As [`Self::of`], from a whole object.
    pub fn of_object(object: &Value, release: &str, namespace: &str) -> Self {
        let map = |part: &str| {
            let pairs = object["metadata"][part].as_object().into_iter().flatten();
            pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
        };
        Self::of(&map("labels"), &map("annotations"), release, namespace)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release => f.write_str("this release"),
            Self::Nobody => f.write_str("no Helm release"),
            Self::Other { release, namespace } => write!(f, "the Helm release {release} in namespace {namespace}"),
            Self::Tool(tool) => write!(f, "{tool}, as its label {MANAGED_BY} says"),
        }
    }
}

/// The object with the marks of a release, as helm puts them on each of its objects.
pub fn marked(object: &Value, release: &str, namespace: &str) -> Value {
    let mut object = object.clone();
    let metadata = &mut object["metadata"];
    for part in ["labels", "annotations"] {
        if !metadata[part].is_object() {
            metadata[part] = json!({});
        }
    }
    metadata["labels"][MANAGED_BY] = HELM.into();
    metadata["annotations"][RELEASE_NAME] = release.into();
    metadata["annotations"][RELEASE_NAMESPACE] = namespace.into();
    object
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_conflict_with_the_runner_alone_is_its_own_business() {
        let failure = |managers: &[&str]| {
            let cause = |manager: &&str| json!({"reason": "FieldManagerConflict", "message": format!("conflict with \"{manager}\" using v1")});
            json!({"code": 409, "details": {"causes": managers.iter().map(cause).collect::<Vec<_>>()}})
        };
        assert!(only_with_ourselves(&failure(&[FIELD_MANAGER])));
        assert!(!only_with_ourselves(&failure(&[FIELD_MANAGER, "kubectl"])));
        assert!(!only_with_ourselves(&failure(&[])));
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn other(release: &str, namespace: &str) -> Owner {
        Owner::Other { release: release.into(), namespace: namespace.into() }
    }

    #[rstest]
    #[case::all_marks(&[(MANAGED_BY, "Helm")], &[(RELEASE_NAME, "coder"), (RELEASE_NAMESPACE, "here")], Owner::Release)]
    #[case::no_label(&[], &[(RELEASE_NAME, "coder"), (RELEASE_NAMESPACE, "here")], Owner::Nobody)]
    #[case::no_namespace(&[(MANAGED_BY, "Helm")], &[(RELEASE_NAME, "coder")], Owner::Nobody)]
    #[case::by_hand(&[], &[], Owner::Nobody)]
    #[case::other_release(&[(MANAGED_BY, "Helm")], &[(RELEASE_NAME, "x"), (RELEASE_NAMESPACE, "here")], other("x", "here"))]
    #[case::other_namespace(&[], &[(RELEASE_NAME, "coder"), (RELEASE_NAMESPACE, "there")], other("coder", "there"))]
    #[case::other_name_only(&[], &[(RELEASE_NAME, "x")], other("x", "here"))]
    #[case::other_tool(&[(MANAGED_BY, "terraform")], &[], Owner::Tool("terraform".into()))]
    #[case::taken_by_a_tool(&[(MANAGED_BY, "kustomize")], &[(RELEASE_NAME, "coder"), (RELEASE_NAMESPACE, "here")], Owner::Tool("kustomize".into()))]
    #[case::written_otherwise(&[(MANAGED_BY, "helm")], &[], Owner::Nobody)]
    #[case::no_tool(&[(MANAGED_BY, "")], &[], Owner::Nobody)]
    fn marks_tell_the_owner(
        #[case] labels: &[(&str, &str)],
        #[case] annotations: &[(&str, &str)],
        #[case] expected: Owner,
    ) {
        assert_eq!(Owner::of(&map(labels), &map(annotations), "coder", "here"), expected);
    }

    #[test]
    fn what_is_marked_belongs_to_the_release() {
        let object =
            marked(&json!({"metadata": {"name": "a", "labels": {"own": "1"}, "annotations": null}}), "coder", "ns");
        let part = |name: &str| serde_json::from_value(object["metadata"][name].clone()).unwrap();
        assert_eq!(Owner::of(&part("labels"), &part("annotations"), "coder", "ns"), Owner::Release);
        assert_eq!((&object["metadata"]["name"], &object["metadata"]["labels"]["own"]), (&json!("a"), &json!("1")));
    }
}
