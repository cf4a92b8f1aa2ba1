//! The object, its namespace and the field that a text names, in the forms in which helm and the API server
//! name them.

use super::split;
use crate::core::object::KindName;

/// An object as far as a text names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Its kind and name.
    pub object: Option<KindName>,
    /// Its namespace.
    pub namespace: Option<String>,
}

impl Named {
    fn new(kind: &str, name: &str) -> Option<Self> {
        let kind = kind.trim().split('.').next().unwrap_or_default();
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-._:".contains(c));
        let known = kind.starts_with(char::is_uppercase) && plain(kind) && plain(name);
        known.then(|| Self { object: Some(KindName::new(kind, name)), namespace: None })
    }

    fn within(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()), ..self }
    }

    /// The kind of the object.
    pub fn kind(&self) -> Option<&str> {
        self.object.as_ref().map(|object| object.kind.as_str())
    }
}

/// Kinds by the names that the API server has for them in `configmaps "coder" is forbidden`: what Coder's charts hold.
const KINDS: &[(&str, &str)] = &[
    ("clusterrolebindings", "ClusterRoleBinding"),
    ("clusterroles", "ClusterRole"),
    ("configmaps", "ConfigMap"),
    ("cronjobs", "CronJob"),
    ("daemonsets", "DaemonSet"),
    ("deployments", "Deployment"),
    ("endpoints", "Endpoints"),
    ("horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    ("ingresses", "Ingress"),
    ("jobs", "Job"),
    ("namespaces", "Namespace"),
    ("networkpolicies", "NetworkPolicy"),
    ("persistentvolumeclaims", "PersistentVolumeClaim"),
    ("poddisruptionbudgets", "PodDisruptionBudget"),
    ("pods", "Pod"),
    ("replicasets", "ReplicaSet"),
    ("replicationcontrollers", "ReplicationController"),
    ("rolebindings", "RoleBinding"),
    ("roles", "Role"),
    ("secrets", "Secret"),
    ("serviceaccounts", "ServiceAccount"),
    ("services", "Service"),
    ("statefulsets", "StatefulSet"),
];

/// What follows the name of an object; after the name of a user or of a program stand other words.
const FOLLOWING: &[&str] =
    &[" is invalid", " is forbidden", " in namespace", " not found", " already exists", " exists", ": "];

/// The object that a part is about. The wrappers of helm name it best, so they are asked first.
pub fn named(text: &str) -> Named {
    let found = [applied, patched, waited, deleted, mapped, missing, quoted];
    let named = found.into_iter().find_map(|form| form(text)).unwrap_or_default();
    let namespace = named.namespace.or_else(|| {
        let mark = ["in namespace \"", "in the namespace \""].into_iter().find_map(|mark| after(text, mark))?;
        Some(mark.split('"').next()?.to_owned())
    });
    Named { namespace, ..named }
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, after)| after)
}

fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default()
}

/// `server-side apply failed for object NS/NAME apps/v1, Kind=Deployment: …`, `conflict occurred while applying object …`
fn applied(text: &str) -> Option<Named> {
    let rest = after(text, "apply failed for object ").or_else(|| after(text, "while applying object "))?;
    let (path, rest) = rest.split_once(' ')?;
    let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
    Some(Named::new(word(after(rest, "Kind=")?), name)?.within(namespace))
}

/// `cannot patch "NAME" with kind Deployment: …`
fn patched(text: &str) -> Option<Named> {
    let (before, rest) = text.split_once("\" with kind ")?;
    Named::new(word(rest), before.rsplit('"').next()?)
}

/// `resource Deployment/NS/NAME not ready. status: …`
fn waited(text: &str) -> Option<Named> {
    let path = after(text, "resource ")?.split_whitespace().next()?;
    let mut parts = path.split('/');
    let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Named::new(kind, name)?.within(namespace))
}

/// `failed to delete resource namespace=NS, name=NAME, kind=ConfigMap: …`
fn deleted(text: &str) -> Option<Named> {
    let rest = after(text, "failed to delete resource ")?;
    let value = |key: &str| after(rest, key)?.split([',', ':']).next();
    Some(Named::new(value("kind=")?, value("name=")?)?.within(value("namespace=")?))
}

/// `resource mapping not found for name: "NAME" namespace: "NS" from "": no matches for kind "Ingress" in version …`
fn mapped(text: &str) -> Option<Named> {
    let value = |key: &str| after(text, key)?.split('"').next();
    let named = Named::new(value("no matches for kind \"")?, value("not found for name: \"")?)?;
    Some(named.within(value("namespace: \"").unwrap_or_default()))
}

/// `no ConfigMap with the name "NAME" found`
fn missing(text: &str) -> Option<Named> {
    let (before, rest) = text.split_once(" with the name \"")?;
    Named::new(before.split_whitespace().next_back()?, rest.split('"').next()?)
}

/// `Deployment.apps "NAME" is invalid`, `ServiceAccount "NAME" in namespace "NS" exists`, `configmaps "NAME" is forbidden`
fn quoted(text: &str) -> Option<Named> {
    let names = text.match_indices(" \"").filter_map(|(at, mark)| {
        let (name, rest) = text[at + mark.len()..].split_once('"')?;
        let kind = text[..at].split_whitespace().next_back()?;
        FOLLOWING.iter().any(|words| rest.starts_with(words)).then_some((kind, name))
    });
    names.into_iter().find_map(|(kind, name)| {
        let resource = kind.split('.').next().unwrap_or_default();
        let known = KINDS.iter().find(|(plural, _)| *plural == resource).map(|(_, kind)| *kind);
        Named::new(known.unwrap_or(kind), name)
    })
}

/// The field that the text names.
pub fn field(text: &str) -> Option<String> {
    let decoded = || {
        // json: cannot unmarshal bool into Go struct field EnvVar.spec.template.spec.containers.env.value of type string
        let path = after(text, "Go struct field ")?.split(' ').next()?;
        path.split_once('.').map(|(_, path)| path.to_owned())
    };
    let refused = || after(text, "\" is invalid: ").and_then(split::complaint).map(ToOwned::to_owned);
    let dotted = || {
        // .spec.replicas
        let words = text.split_whitespace().filter_map(|word| word.strip_prefix('.'));
        let mut paths = words.filter(|path| path.starts_with(|c: char| c.is_ascii_lowercase()));
        Some(paths.next()?.trim_end_matches([':', ',']).to_owned())
    };
    let schema = || {
        // - at '/coder/replicaCount': got string, want integer
        let path = after(text, "- at '/")?.split('\'').next()?;
        Some(path.replace('/', ".")).filter(|path| !path.is_empty())
    };
    decoded().or_else(refused).or_else(dotted).or_else(schema)
}
