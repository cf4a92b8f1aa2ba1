//! APIs that Kubernetes has deprecated or removed, as data.

use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding};
use crate::core::helm::removed_apis;

/// (group and version, kinds, minor version of Kubernetes 1 that deprecates it, the one that removes it). No kinds: all.
type ApiRow = (&'static str, &'static [&'static str], u64, u64);

/// What was removed, after the deprecation guide of Kubernetes.
const REMOVED: &[ApiRow] = &[
    ("extensions/v1beta1", &["Ingress"], 14, 22),
    ("extensions/v1beta1", &[], 9, 16),
    ("apps/v1beta1", &[], 9, 16),
    ("apps/v1beta2", &[], 9, 16),
    ("networking.k8s.io/v1beta1", &["Ingress", "IngressClass"], 19, 22),
    ("rbac.authorization.k8s.io/v1alpha1", &[], 17, 22),
    ("rbac.authorization.k8s.io/v1beta1", &[], 17, 22),
    (
        "admissionregistration.k8s.io/v1beta1",
        &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"],
        16,
        22,
    ),
    ("apiextensions.k8s.io/v1beta1", &[], 16, 22),
    ("apiregistration.k8s.io/v1beta1", &[], 19, 22),
    ("certificates.k8s.io/v1beta1", &["CertificateSigningRequest"], 19, 22),
    ("coordination.k8s.io/v1beta1", &["Lease"], 19, 22),
    ("scheduling.k8s.io/v1alpha1", &["PriorityClass"], 17, 22),
    ("scheduling.k8s.io/v1beta1", &["PriorityClass"], 17, 22),
    ("storage.k8s.io/v1beta1", &["StorageClass", "CSIDriver", "CSINode", "VolumeAttachment"], 19, 22),
    ("storage.k8s.io/v1beta1", &["CSIStorageCapacity"], 24, 27),
    ("policy/v1beta1", &[], 21, 25),
    ("batch/v1beta1", &["CronJob"], 21, 25),
    ("discovery.k8s.io/v1beta1", &[], 21, 25),
    ("events.k8s.io/v1beta1", &[], 19, 25),
    ("node.k8s.io/v1beta1", &[], 20, 25),
    ("autoscaling/v2beta1", &[], 22, 25),
    ("autoscaling/v2beta2", &[], 23, 26),
    ("flowcontrol.apiserver.k8s.io/v1beta1", &[], 23, 26),
    ("flowcontrol.apiserver.k8s.io/v1beta2", &[], 26, 29),
    ("flowcontrol.apiserver.k8s.io/v1beta3", &[], 29, 32),
];

/// [`CheckName::ApiVersions`]; removed APIs in helm's stored manifest are rewritten by a repair, which the plan names.
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let objects = foreseen.new.objects();
    objects.filter_map(|(name, _)| judged(facts, &name.to_string(), &name.api_version, &name.kind)).collect()
}

/// The same for what helm says when it cannot even build an object: `no matches for kind "X" in version "Y"`.
pub fn unmatched(facts: &Facts, text: &str) -> Option<Finding> {
    let (_, rest) = text.split_once("no matches for kind \"")?;
    let (kind, rest) = rest.split_once("\" in version \"")?;
    let (version, _) = rest.split_once('"')?;
    judged(facts, kind, version, kind)
}

/// What the table says of an object.
fn judged(facts: &Facts, object: &str, api: &str, kind: &str) -> Option<Finding> {
    let kubernetes = facts.kubernetes.as_ref()?;
    let (_, _, deprecated, removed) =
        REMOVED.iter().find(|(version, kinds, ..)| *version == api && (kinds.is_empty() || kinds.contains(&kind)))?;
    let instead = removed_apis::successor(api, kind).map(|now| format!(" It is {now} now.")).unwrap_or_default();
    let next =
        "Choose a version of the chart that uses a newer API, or switch that part of the chart off in the values.";
    let finding = if kubernetes.minor >= *removed {
        let message = format!("{object} is of {api}, which Kubernetes has not served since 1.{removed}.{instead}");
        Finding::refusal(CheckName::ApiVersions, message, next)
    } else if kubernetes.minor >= *deprecated {
        let message = format!(
            "{object} is of {api}, which Kubernetes 1.{removed} does not serve any more; this cluster is {kubernetes}.{instead}"
        );
        Finding::warning(CheckName::ApiVersions, message, next)
    } else {
        return None;
    };
    Some(finding.about(object).at("apiVersion"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use semver::Version;
    use serde_json::json;

    use super::*;
    use crate::api::Severity;
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case("apps/v1", "Deployment", 35, None)]
    #[case("apps/v1beta1", "Deployment", 35, Some(Severity::Refusal))]
    #[case("extensions/v1beta1", "Ingress", 21, Some(Severity::Warning))]
    #[case("extensions/v1beta1", "Ingress", 22, Some(Severity::Refusal))]
    #[case("extensions/v1beta1", "NetworkPolicy", 16, Some(Severity::Refusal))]
    #[case("autoscaling/v2beta2", "HorizontalPodAutoscaler", 25, Some(Severity::Warning))]
    #[case("autoscaling/v2beta2", "HorizontalPodAutoscaler", 20, None)]
    fn versions_come_and_go(
        #[case] api: &str,
        #[case] kind: &str,
        #[case] minor: u64,
        #[case] expected: Option<Severity>,
    ) {
        let mut facts = sample::facts("2.30.0", "2.31.7");
        facts.kubernetes = Some(Version::new(1, minor, 0));
        let object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": "x"}});
        let foreseen = Foreseen { new: sample::documents(&[object]), ..sample::foreseen() };
        assert_eq!(check(&facts, &foreseen).first().map(|finding| finding.severity), expected);
        facts.kubernetes = None;
        assert!(check(&facts, &foreseen).is_empty());
    }

    #[test]
    fn what_helm_cannot_build_is_looked_up() {
        let facts = sample::facts("2.30.0", "2.31.7");
        let text =
            |kind: &str, api: &str| format!("unable to build: no matches for kind \"{kind}\" in version \"{api}\"");
        let found = unmatched(&facts, &text("PodDisruptionBudget", "policy/v1beta1")).unwrap();
        assert!(found.message.contains("has not served since 1.25. It is policy/v1 now."), "{}", found.message);
        assert!(unmatched(&facts, &text("ServiceMonitor", "monitoring.coreos.com/v1")).is_none());
        assert!(unmatched(&facts, "something else").is_none());
    }

    #[test]
    fn no_api_is_removed_before_it_is_deprecated() {
        assert!(REMOVED.iter().all(|(_, _, deprecated, removed)| deprecated < removed));
    }
}
