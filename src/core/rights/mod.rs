//! Rights of Kubernetes (RBAC): which of them the runner needs, why, how they are granted, and which one a refusal says is
//! missing.

mod chart;
mod lacking;
mod manifest;
mod table;
#[cfg(test)]
mod tests;

pub use chart::{Needs, Resource, Subject, needs};
pub use lacking::{Lacking, without_lists};
pub use manifest::{Files, RoleNames, yaml};
pub use table::base;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::Value;

/// The `ServiceAccount` of deploy/runner.
pub const ACCOUNT: &str = "coder-upgrade-runner";

/// Everything, in the place of a group, a resource or a verb.
const ALL: &str = "*";

/// The verbs of a resource in the order in which people read them; others follow by their names.
const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// Most rights that a sentence names before it counts the rest.
const NAMED: usize = 3;

/// One thing that may be done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// API group; empty for the core group.
    pub group: String,
    /// Resource, with its subresource if there is one (pods/log). A path of the API server that is no resource begins with a
    /// slash.
    pub resource: String,
    /// The one object that is meant; none for all of them.
    pub name: Option<String>,
    /// What is done.
    pub verb: String,
}

impl Right {
    /// To do that with all objects of a resource.
    #[must_use]
    pub fn new(group: &str, resource: &str, verb: &str) -> Self {
        Self { group: group.into(), resource: resource.into(), name: None, verb: verb.into() }
    }

    /// Whether this right includes the other one.
    fn includes(&self, other: &Self) -> bool {
        let is = |mine: &str, wanted: &str| mine == ALL || mine == wanted;
        is(&self.group, &other.group)
            && is(&self.resource, &other.resource)
            && is(&self.verb, &other.verb)
            && (self.name.is_none() || self.name == other.name)
    }
}

/// Rights with the reason for them, which stands above them as a comment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RightsGroup {
    /// What they are for, in a sentence or two.
    pub why: String,
    /// The rights.
    pub rights: BTreeSet<Right>,
}

/// What a runner is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// In the namespace of the release.
    pub home: Vec<RightsGroup>,
    /// In other namespaces.
    pub elsewhere: BTreeMap<String, Vec<RightsGroup>>,
    /// In the whole cluster.
    pub cluster: Vec<RightsGroup>,
}

/// The parts without what an earlier one grants already, and without those of which nothing is left.
fn distinct(parts: Vec<RightsGroup>) -> Vec<RightsGroup> {
    let mut known: Vec<Right> = Vec::new();
    let mut distinct = Vec::new();
    for RightsGroup { why, rights } in parts {
        // The verb * cannot be granted by whoever holds each verb: it is no sum of the others.
        let new = |right: &&Right| !known.iter().any(|held| held.includes(right));
        let rights: BTreeSet<Right> = rights.iter().filter(new).cloned().collect();
        if rights.is_empty() {
            continue;
        }
        known.extend(rights.iter().cloned());
        distinct.push(RightsGroup { why, rights });
    }
    distinct
}

/// The wanted rights that are not among those held.
#[must_use]
pub fn beyond(wanted: &BTreeSet<Right>, held: &BTreeSet<Right>) -> BTreeSet<Right> {
    wanted.iter().filter(|right| !held.iter().any(|own| own.includes(right))).cloned().collect()
}

/// The rights that a Role or a `ClusterRole` grants. Whoever writes it must hold each of them.
#[must_use]
pub fn granted_by(role: &Value) -> BTreeSet<Right> {
    let rules = role["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    rules.iter().flat_map(of_rule).collect()
}

/// The rights of one rule.
fn of_rule(rule: &Value) -> Vec<Right> {
    let texts = |field: &str| {
        let list = rule[field].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let rule = RoleRule {
        groups: texts("apiGroups"),
        resources: texts("resources"),
        paths: texts("nonResourceURLs"),
        names: texts("resourceNames"),
        verbs: texts("verbs"),
    };
    rule.rights()
}

/// A rule of a Role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RoleRule {
    groups: Vec<String>,
    resources: Vec<String>,
    /// Paths of the API server that are no resources.
    paths: Vec<String>,
    names: Vec<String>,
    verbs: Vec<String>,
}

impl RoleRule {
    fn rights(&self) -> Vec<Right> {
        let names: Vec<Option<&String>> =
            if self.names.is_empty() { vec![None] } else { self.names.iter().map(Some).collect() };
        let mut rights = Vec::new();
        for verb in &self.verbs {
            for (group, resource) in self.groups.iter().flat_map(|g| self.resources.iter().map(move |r| (g, r))) {
                let right = Right::new(group, resource, verb);
                rights.extend(names.iter().map(|name| Right { name: name.cloned(), ..right.clone() }));
            }
            rights.extend(self.paths.iter().map(|path| Right::new("", path, verb)));
        }
        rights
    }
}

/// Verbs in the order of [`VERBS`].
fn ordered(verbs: &BTreeSet<String>) -> Vec<String> {
    let place = |verb: &String| VERBS.iter().position(|known| known == verb).unwrap_or(VERBS.len());
    let mut ordered: Vec<String> = verbs.iter().cloned().collect();
    ordered.sort_by_key(|verb| (place(verb), verb.clone()));
    ordered
}

/// The verbs for each resource: group, resource, name.
fn by_resource(rights: &BTreeSet<Right>) -> BTreeMap<(&str, &str, Option<&str>), BTreeSet<String>> {
    let mut found: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for Right { group, resource, name, verb } in rights {
        let verbs = found.entry((group.as_str(), resource.as_str(), name.as_deref())).or_default();
        verbs.insert(verb.clone());
    }
    found
}

/// The rights in words, as in "create pods/exec; get, list, watch endpoints and 7 more". Never longer than a line.
#[must_use]
pub fn said(rights: &BTreeSet<Right>) -> String {
    let all = by_resource(rights);
    let mut words = String::new();
    for (place, ((group, resource, name), verbs)) in all.iter().take(NAMED).enumerate() {
        let joint = if place == 0 { "" } else { "; " };
        let _ = write!(words, "{joint}{} {}", listed(verbs), short(resource));
        if !group.is_empty() {
            let _ = write!(words, ".{}", short(group));
        }
        if let Some(name) = name {
            let _ = write!(words, " \"{}\"", short(name));
        }
    }
    match all.len().saturating_sub(NAMED) {
        0 => words,
        more => format!("{words} and {more} more"),
    }
}

/// Verbs with commas between; a Role may invent as many as it likes.
fn listed(verbs: &BTreeSet<String>) -> String {
    let all = ordered(verbs);
    if all == [ALL] {
        return "any verb (*) on".into();
    }
    if all == VERBS {
        return "all verbs on".into();
    }
    let shown: Vec<String> = all.iter().take(VERBS.len()).map(|verb| short(verb)).collect();
    let more = if all.len() > shown.len() { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// A name that may be as long as 253 bytes, as far as it fits into a sentence.
fn short(name: &str) -> String {
    super::text::redact::head(name, 63)
}

/// How the rights are granted that a `CoderUpgrade` in the cluster takes.
#[must_use]
pub fn command(namespace: &str, upgrade: &str) -> String {
    format!("coder-upgrade-operator rights {upgrade} -n {namespace} | kubectl apply -f -")
}

/// A sentence about a missing right, with the command that grants it.
#[must_use]
pub fn with_command(sentence: &str, namespace: &str, upgrade: &str) -> String {
    format!("{sentence}; run: {}", command(namespace, upgrade))
}
