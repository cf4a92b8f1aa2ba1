//! The rights that the runner needs for what is planned, beyond those that the rehearsal has tried.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::authorization::v1::ResourceRule;

use super::{Facts, Foreseen};
use crate::api::{CheckName, FailureClass, Finding, Remedy};
use crate::core::rehearsal::Rehearsal;

/// A right in the namespace of the release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resource, with its subresource if there is one (pods/log).
    pub resource: &'static str,
    /// What is done.
    pub verb: &'static str,
    /// What it is needed for, as in "to verify the upgrade".
    pub purpose: &'static str,
    /// The upgrade goes without it, and says less.
    pub optional: bool,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

/// Kinds that may be replaced, with their API group and resource.
const RESOURCES: &[(&str, &str, &str)] = &[
    ("ConfigMap", "", "configmaps"),
    ("Secret", "", "secrets"),
    ("Service", "", "services"),
    ("ServiceAccount", "", "serviceaccounts"),
    ("Deployment", "apps", "deployments"),
    ("StatefulSet", "apps", "statefulsets"),
    ("DaemonSet", "apps", "daemonsets"),
    ("Job", "batch", "jobs"),
    ("Ingress", "networking.k8s.io", "ingresses"),
    ("NetworkPolicy", "networking.k8s.io", "networkpolicies"),
    ("PodDisruptionBudget", "policy", "poddisruptionbudgets"),
    ("Role", "rbac.authorization.k8s.io", "roles"),
    ("RoleBinding", "rbac.authorization.k8s.io", "rolebindings"),
];

/// The rights that upgrade, verification and the planned repairs take.
#[must_use]
pub fn needed(rehearsal: &Rehearsal) -> Vec<Right> {
    let mut rights = BTreeSet::new();
    let mut add = |group, resource, verbs: &[&'static str], purpose, optional| {
        rights.extend(verbs.iter().map(|verb| Right { group, resource, verb, purpose, optional }));
    };
    let lock = "to hold the lock of the release";
    add("coordination.k8s.io", "leases", &["get", "create", "update"], lock, false);
    add("", "secrets", &["get", "list", "create", "update"], "to read and write helm's records", false);
    add("", "pods", &["get", "list", "watch"], "to verify the upgrade", false);
    add("apps", "deployments", &["get", "list", "watch"], "to verify the upgrade", false);
    add("", "pods/log", &["get"], "to say what a pod that fails has written", true);
    add("", "events", &["list"], "to say why a pod does not start", true);
    let replaced = "to replace the object that the new chart is refused for";
    for repair in rehearsal.repairs.iter().filter(|repair| repair.remedy == Remedy::Replace) {
        let kind = repair.object.split('/').next().unwrap_or_default();
        if let Some((_, group, resource)) = RESOURCES.iter().find(|(known, ..)| *known == kind) {
            add(group, resource, &["create", "delete"], replaced, false);
        }
        if kind == "Deployment" {
            add("apps", "replicasets", &["list", "patch", "delete"], replaced, false);
            add("", "pods", &["patch", "delete"], replaced, false);
        }
    }
    if rehearsal.repairs.iter().any(|repair| repair.remedy == Remedy::Expand) {
        add("", "persistentvolumeclaims", &["patch"], "to enlarge a volume", false);
    }
    rights.into_iter().collect()
}

/// Whether rules grant a right for all objects of the resource. What they do not grant may be granted all the same, by an
/// authorizer that tells no rules; then only a question for that very right answers.
#[must_use]
pub fn granted(rules: &[ResourceRule], right: &Right) -> bool {
    let names = |list: Option<&Vec<String>>, wanted: &str| {
        list.is_some_and(|list| list.iter().any(|name| name == "*" || name == wanted))
    };
    rules.iter().any(|rule| {
        rule.resource_names.as_ref().is_none_or(Vec::is_empty)
            && names(Some(&rule.verbs), right.verb)
            && names(rule.api_groups.as_ref(), right.group)
            && names(rule.resources.as_ref(), right.resource)
    })
}

/// [`CheckName::RunnerRights`]
#[must_use]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let account = format!("ServiceAccount/{}", facts.spec.job.service_account_name);
    let denied = foreseen.surroundings.denied.iter();
    denied
        .map(|right| {
            let message = format!("the runner may not {right} in namespace {}, {}", facts.namespace, right.purpose);
            let finding = if right.optional { Finding::warning } else { Finding::refusal };
            finding(CheckName::RunnerRights, message, FailureClass::Forbidden.next_step()).about(&account)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::{PlannedRepair, Severity};
    use crate::core::checks::sample;

    fn rule(groups: &[&str], resources: &[&str], verbs: &[&str], names: &[&str]) -> ResourceRule {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        ResourceRule {
            api_groups: Some(owned(groups)),
            resources: Some(owned(resources)),
            verbs: owned(verbs),
            resource_names: Some(owned(names)),
        }
    }

    #[rstest]
    #[case::exact(rule(&["apps"], &["deployments"], &["get", "delete"], &[]), true)]
    #[case::everything(rule(&["*"], &["*"], &["*"], &[]), true)]
    #[case::other_verb(rule(&["apps"], &["deployments"], &["get"], &[]), false)]
    #[case::other_group(rule(&[""], &["deployments"], &["delete"], &[]), false)]
    #[case::other_resource(rule(&["apps"], &["statefulsets"], &["delete"], &[]), false)]
    #[case::one_object(rule(&["apps"], &["deployments"], &["delete"], &["coder"]), false)]
    fn rules_grant(#[case] rule: ResourceRule, #[case] expected: bool) {
        let right = Right { group: "apps", resource: "deployments", verb: "delete", purpose: "", optional: false };
        assert_eq!(granted(&[rule], &right), expected);
        assert!(!granted(&[], &right));
    }

    #[test]
    fn repairs_need_more_rights() {
        let plain = needed(&Rehearsal::default());
        let repair = |remedy, object: &str| PlannedRepair {
            remedy,
            object: object.into(),
            message: String::new(),
            needs_approval: false,
        };
        let repairs = vec![repair(Remedy::Replace, "Deployment/coder"), repair(Remedy::Expand, "StatefulSet/x")];
        let more = needed(&Rehearsal { repairs, ..Rehearsal::default() });
        let extra: Vec<String> = more.iter().filter(|right| !plain.contains(right)).map(ToString::to_string).collect();
        for right in ["delete deployments.apps", "patch replicasets.apps", "patch pods", "patch persistentvolumeclaims"]
        {
            assert!(extra.iter().any(|found| found == right), "{right} is missing in {extra:?}");
        }
    }

    #[test]
    fn what_can_be_done_without_is_a_warning() {
        let mut foreseen = sample::foreseen();
        foreseen.surroundings.denied = needed(&Rehearsal::default());
        let found = check(&sample::facts("2.30.0", "2.31.7"), &foreseen);
        let severity = |words: &str| found.iter().find(|f| f.message.contains(words)).unwrap().severity;
        assert_eq!((severity("get pods/log in"), severity("get pods in")), (Severity::Warning, Severity::Refusal));
        assert_eq!(found[0].object.as_deref(), Some("ServiceAccount/coder-upgrade-runner"));
    }
}
