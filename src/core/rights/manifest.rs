//! The objects that grant rights, as YAML for kubectl, with the reason for each part above it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{ACCOUNT, Grants, Right, RightsGroup, by_resource, ordered};

/// Longest line of a comment.
const WIDTH: usize = 120;

/// What the objects are called.
#[derive(Clone, Debug)]
pub struct RoleNames {
    /// Namespace of the release; none to leave it to a kustomization.
    pub namespace: Option<String>,
    /// The `ServiceAccount` of the runner.
    pub account: String,
    /// The `CoderUpgrade` whose chart the rights are for; none for those that suffice for every public chart. Its objects have
    /// names of their own: granting them takes nothing from anybody else.
    pub upgrade: Option<String>,
}

impl RoleNames {
    /// Of Role and `RoleBinding` in the namespace of the release.
    fn role(&self) -> String {
        let upgrade = self.upgrade.as_ref().map(|upgrade| format!(":{upgrade}")).unwrap_or_default();
        format!("{}{upgrade}", self.account)
    }

    /// Of what lies outside of it, where runners of several namespaces meet.
    fn outside(&self) -> String {
        let upgrade = self.upgrade.as_ref().map(|upgrade| format!(":{upgrade}")).unwrap_or_default();
        // The kustomization of deploy/runner says this namespace.
        format!("{}:{}{upgrade}", self.account, self.namespace.as_deref().unwrap_or("coder"))
    }
}

/// The documents, by what they are about.
#[derive(Clone, Debug)]
pub struct Files {
    /// The `ServiceAccount`.
    pub account: String,
    /// Roles and their bindings.
    pub roles: String,
    /// `ClusterRole` and its binding.
    pub cluster: String,
}

impl Files {
    /// Writes what is granted.
    #[must_use]
    pub fn of(grants: &Grants, names: &RoleNames) -> Self {
        let namespace = names.namespace.as_deref();
        let account = head("v1", "ServiceAccount", &names.account, namespace);
        let role = names.role();
        let mut roles = pair(("Role", &role), ("RoleBinding", &role), namespace, &grants.home, names);
        let outside = names.outside();
        for (other, parts) in &grants.elsewhere {
            roles.push_str("---\n");
            roles.push_str(&pair(("Role", &outside), ("RoleBinding", &outside), Some(other), parts, names));
        }
        // What every runner reads outside of its namespace is the same for all: one ClusterRole.
        let shared = if names.upgrade.is_none() { &names.account } else { &outside };
        let bound = (("ClusterRole", shared.as_str()), ("ClusterRoleBinding", outside.as_str()));
        Self { account, roles, cluster: pair(bound.0, bound.1, None, &grants.cluster, names) }
    }
}

/// All of it, for `kubectl apply -f -`. The `ServiceAccount` comes last: a pod that waits for it finds its rights.
#[must_use]
pub fn yaml(grants: &Grants, names: &RoleNames) -> String {
    let Files { account, roles, cluster } = Files::of(grants, names);
    format!("{roles}---\n{cluster}---\n{account}")
}

/// A role and what binds it to the runner.
fn pair(
    role: (&str, &str),
    binding: (&str, &str),
    namespace: Option<&str>,
    parts: &[RightsGroup],
    names: &RoleNames,
) -> String {
    let api = "rbac.authorization.k8s.io/v1";
    let mut text = head(api, role.0, role.1, namespace);
    text.push_str(if parts.is_empty() { "rules: []\n" } else { "rules:\n" });
    for part in parts {
        comment(&mut text, &part.why);
        rules(&mut text, &part.rights);
    }
    text.push_str("---\n");
    text.push_str(&head(api, binding.0, binding.1, namespace));
    let _ = write!(text, "subjects:\n  - kind: ServiceAccount\n    name: {}\n", quoted(&names.account));
    if let Some(home) = &names.namespace {
        let _ = writeln!(text, "    namespace: {}", quoted(home));
    }
    let (kind, name) = (role.0, quoted(role.1));
    let _ = write!(text, "roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: {kind}\n  name: {name}\n");
    text
}

fn head(api_version: &str, kind: &str, name: &str, namespace: Option<&str>) -> String {
    let mut text = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata:\n  name: {}\n", quoted(name));
    if let Some(namespace) = namespace {
        let _ = writeln!(text, "  namespace: {}", quoted(namespace));
    }
    let _ = write!(text, "  labels:\n    app.kubernetes.io/name: {ACCOUNT}\n");
    text.push_str("    app.kubernetes.io/part-of: coder-upgrade-operator\n");
    text
}

/// The words as lines of a comment above the rules.
fn comment(text: &mut String, words: &str) {
    let mut line = String::new();
    for word in words.split_whitespace() {
        if !line.is_empty() && line.len() + word.len() + "  # ".len() >= WIDTH {
            let _ = writeln!(text, "  # {line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(text, "  # {line}");
}

/// What the resources of a rule have in common: group, object, verbs, and whether they are paths.
type Shared<'a> = (&'a str, Option<&'a str>, Vec<String>, bool);

/// One rule for all resources of a group with the same verbs.
fn rules(text: &mut String, rights: &BTreeSet<Right>) {
    let mut rules: BTreeMap<Shared<'_>, Vec<&str>> = BTreeMap::new();
    for ((group, resource, name), verbs) in by_resource(rights) {
        let is_path = resource.starts_with('/');
        rules.entry((group, name, ordered(&verbs), is_path)).or_default().push(resource);
    }
    for ((group, name, verbs, is_path), resources) in rules {
        let list = |words: &mut dyn Iterator<Item = &str>| words.map(quoted).collect::<Vec<_>>().join(", ");
        let resources = list(&mut resources.into_iter());
        let _ = if is_path {
            writeln!(text, "  - nonResourceURLs: [{resources}]")
        } else {
            writeln!(text, "  - apiGroups: [{}]\n    resources: [{resources}]", quoted(group))
        };
        if let Some(name) = name {
            let _ = writeln!(text, "    resourceNames: [{}]", quoted(name));
        }
        let _ = writeln!(text, "    verbs: [{}]", list(&mut verbs.iter().map(String::as_str)));
    }
}

/// A word that YAML reads as this very text.
fn quoted(word: &str) -> String {
    let plain = word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-./".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&word);
    // JSON is YAML.
    if plain { word.to_owned() } else { serde_json::Value::from(word).to_string() }
}
