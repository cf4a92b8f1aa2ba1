//! Which object is meant.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An object by its coordinates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// API group and version, as in "apps/v1".
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace, if the manifest names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl ObjectRef {
    /// The coordinates of an object of a manifest; none if it has no kind or no name.
    pub fn of(object: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        Some(Self {
            api_version: text(&object["apiVersion"])?,
            kind: text(&object["kind"])?,
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"])?,
        })
    }

    /// Whether both are one object, with the namespace in both or in neither. Its API version may be another, and it may
    /// have left the group `extensions`, where Ingresses and Deployments once began.
    pub fn same(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.group(), other.group());
        (&self.kind, &self.namespace, &self.name) == (&other.kind, &other.namespace, &other.name)
            && (mine == theirs || mine == "extensions" || theirs == "extensions")
    }

    /// Whether it lies in that namespace.
    pub fn is_in(&self, namespace: &str) -> bool {
        self.namespace.as_deref() == Some(namespace)
    }

    /// Its API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.rsplit_once('/').map_or("", |(group, _)| group)
    }

    /// Its kind and name.
    pub fn kind_name(&self) -> KindName {
        KindName::new(&self.kind, &self.name)
    }

    /// Whether it is what a message calls Kind/name.
    pub fn is(&self, named: &str) -> bool {
        KindName::read(named).is_some_and(|named| named == self.kind_name())
    }
}

/// An object as messages and status call it: its kind and its name, as Kind/name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KindName {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl KindName {
    /// The object of this kind and name.
    pub fn new(kind: impl fmt::Display, name: impl Into<String>) -> Self {
        Self { kind: kind.to_string(), name: name.into() }
    }

    /// What a text calls Kind/name; none if it is something else.
    pub fn read(text: &str) -> Option<Self> {
        text.split_once('/').map(|(kind, name)| Self::new(kind, name))
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// The spec of the pods of an object; null if it has none.
pub fn pod_spec(object: &Value) -> &Value {
    match object["kind"].as_str() {
        Some("Pod") => &object["spec"],
        Some("CronJob") => &object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        _ => &object["spec"]["template"]["spec"],
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// Groups that the API server itself serves, with dry runs.
const BUILT_IN: [&str; 19] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Whether the API server itself serves a group.
pub fn is_built_in(group: &str) -> bool {
    BUILT_IN.contains(&group)
}

/// The owner that controls an object.
pub fn controlling<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object.owner_references().iter().find(|owner| owner.controller == Some(true))
}

/// A name as the value of a label, which may have 63 characters and must end in a letter or digit.
pub fn label_value(name: &str) -> String {
    let head: String = name.chars().take(63).collect();
    head.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}
