//! The rights that the runner needs for what is planned, beyond those that the rehearsal has tried.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::ResourceRule;

use super::{Facts, Foreseen};
use crate::api::{CheckName, FailureClass, Finding, Remedy};
use crate::core::object::KindName;
use crate::core::plan::rehearsal::Rehearsal;
use crate::core::rights::{Right, said, with_command};

/// A right in the namespace of the release, and what it is needed for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The right.
    pub right: Right,
    /// What it is needed for, as in "to verify the upgrade".
    pub purpose: &'static str,
    /// The upgrade goes without it, and says less.
    pub optional: bool,
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
pub fn needed(rehearsal: &Rehearsal) -> Vec<Need> {
    let mut rights = BTreeSet::new();
    let mut add = |group, resource, verbs: &[&'static str], purpose, optional| {
        let need = |verb| Need { right: Right::new(group, resource, verb), purpose, optional };
        rights.extend(verbs.iter().copied().map(need));
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
        let Some(KindName { kind, .. }) = KindName::read(&repair.object) else { continue };
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
pub fn granted(rules: &[ResourceRule], right: &Right) -> bool {
    let names = |list: Option<&Vec<String>>, wanted: &str| {
        list.is_some_and(|list| list.iter().any(|name| name == "*" || name == wanted))
    };
    rules.iter().any(|rule| {
        rule.resource_names.as_ref().is_none_or(Vec::is_empty)
            && names(Some(&rule.verbs), &right.verb)
            && names(rule.api_groups.as_ref(), &right.group)
            && names(rule.resources.as_ref(), &right.resource)
    })
}

/// [`CheckName::RunnerRights`]: one finding for all that the upgrade cannot do without, one for the rest.
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let account = format!("ServiceAccount/{}", facts.spec.job.service_account_name);
    let told = |optional: bool| {
        let denied: Vec<&Need> = foreseen.surroundings.denied.iter().filter(|need| need.optional == optional).collect();
        if denied.is_empty() {
            return None;
        }
        let purposes: BTreeSet<&str> = denied.iter().map(|need| need.purpose).collect();
        let purposes = purposes.into_iter().collect::<Vec<_>>().join(", ");
        let rights = said(&denied.into_iter().map(|need| need.right.clone()).collect());
        let namespace = &facts.namespace;
        let message = format!("the runner lacks the right to {rights} in namespace {namespace} ({purposes})");
        let message = with_command(&message, namespace, &facts.upgrade);
        let finding = if optional { Finding::warning } else { Finding::refusal };
        Some(finding(CheckName::RunnerRights, message, FailureClass::Forbidden.next_step()).about(&account))
    };
    [false, true].into_iter().filter_map(told).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::{PlannedRepair, Severity};
    use crate::core::plan::checks::sample;

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
        let right = Right::new("apps", "deployments", "delete");
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
        let extra: Vec<Right> = more.into_iter().filter(|need| !plain.contains(need)).map(|need| need.right).collect();
        for (group, resource, verb) in [
            ("apps", "deployments", "delete"),
            ("apps", "replicasets", "patch"),
            ("", "pods", "patch"),
            ("", "persistentvolumeclaims", "patch"),
        ] {
            assert!(extra.contains(&Right::new(group, resource, verb)), "{verb} {resource} is missing in {extra:?}");
        }
    }

    #[test]
    fn what_can_be_done_without_is_a_warning() {
        let mut foreseen = sample::foreseen();
        foreseen.surroundings.denied = needed(&Rehearsal::default());
        let found = check(&sample::facts("2.30.0", "2.31.7"), &foreseen);
        let told: Vec<_> = found.iter().map(|finding| (finding.severity, finding.message.as_str())).collect();
        let [(Severity::Refusal, refusal), (Severity::Warning, warning)] = told.as_slice() else { panic!("{told:?}") };
        assert!(refusal.contains("get, list, watch pods; ") && refusal.len() < 600, "{refusal}");
        assert!(warning.contains("the right to list events; get pods/log in namespace ns (to say"), "{warning}");
        assert!(
            refusal.ends_with("; run: coder-upgrade-operator rights coder -n ns | kubectl apply -f -"),
            "{refusal}"
        );
        assert_eq!(found[0].object.as_deref(), Some("ServiceAccount/coder-upgrade-runner"));
    }
}
