//! DNS points to an address that a load balancer has handed out, and may not hand out again.

use serde_json::Value;

use super::{Facts, Foreseen};
use crate::api::{CheckName, Exposure, Finding, Recovery};

/// Annotations with which load balancers are told the address.
const PINS: [&str; 6] = [
    "metallb.universe.tf/loadBalancerIPs",
    "metallb.io/loadBalancerIPs",
    "networking.gke.io/load-balancer-ip-addresses",
    "service.beta.kubernetes.io/aws-load-balancer-eip-allocations",
    "service.beta.kubernetes.io/azure-load-balancer-ipv4",
    "service.beta.kubernetes.io/azure-pip-name",
];

/// [`CheckName::AddressPinned`]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let services = foreseen.exposures.iter().filter(|e| e.kind == "Service" && !e.addresses.is_empty());
    services.filter_map(|service| exposed(facts, foreseen, service)).collect()
}

fn exposed(facts: &Facts, foreseen: &Foreseen, service: &Exposure) -> Option<Finding> {
    let object = format!("Service/{}", service.name);
    let addresses = service.addresses.join(", ");
    let Some((_, new)) = foreseen.new.objects().find(|(name, _)| name.is(&object)) else {
        let message = format!("the new chart has no {object}: its address {addresses} is given up");
        let next =
            "Be ready to point DNS to the address of the Service that takes its place; status.addresses names both.";
        return Some(Finding::warning(CheckName::AddressPinned, message, next).about(object));
    };
    if facts.spec.recovery != Recovery::Reinstall || facts.spec.keep_addresses || is_pinned(new) {
        return None;
    }
    let message = format!("a reinstall may give {object} another address than {addresses}: nothing pins it");
    let next = "Set spec.keepAddresses to true, or pin the address in the values (coder.service.loadBalancerIP, or an annotation of your load balancer).";
    Some(Finding::warning(CheckName::AddressPinned, message, next).about(object).at("spec.keepAddresses"))
}

fn is_pinned(service: &Value) -> bool {
    let named = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let annotations = &service["metadata"]["annotations"];
    named(&service["spec"]["loadBalancerIP"]) || PINS.iter().any(|key| named(&annotations[*key]))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case::kept(json!({}), json!({}), true, None)]
    #[case::not_kept(json!({}), json!({}), false, Some("spec.keepAddresses"))]
    #[case::pinned(json!({"loadBalancerIP": "192.0.2.1"}), json!({}), false, None)]
    #[case::empty_pin(json!({"loadBalancerIP": ""}), json!({}), false, Some("spec.keepAddresses"))]
    #[case::annotated(json!({}), json!({"metallb.io/loadBalancerIPs": "192.0.2.1"}), false, None)]
    fn addresses_that_may_change_are_told(
        #[case] spec: Value,
        #[case] annotations: Value,
        #[case] keep: bool,
        #[case] expected: Option<&str>,
    ) {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "coder", "annotations": annotations}, "spec": spec});
        let mut facts = sample::facts("2.30.0", "2.31.7");
        facts.spec.recovery = Recovery::Reinstall;
        facts.spec.keep_addresses = keep;
        let exposure = Exposure {
            kind: "Service".into(),
            name: "coder".into(),
            uid: "1".into(),
            addresses: vec!["192.0.2.1".into()],
        };
        let mut foreseen =
            Foreseen { exposures: vec![exposure], new: sample::documents(&[service]), ..sample::foreseen() };
        let found = check(&facts, &foreseen);
        assert_eq!(found.first().and_then(|finding| finding.field.as_deref()), expected);
        foreseen.new = sample::documents(&[]);
        assert!(check(&facts, &foreseen)[0].message.contains("is given up"));
    }
}
