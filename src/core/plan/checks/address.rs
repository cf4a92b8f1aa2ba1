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
    let services = foreseen.exposures.iter().filter(|exposure| exposure.kind == "Service");
    services.filter_map(|service| exposed(facts, foreseen, service)).collect()
}

fn exposed(facts: &Facts, foreseen: &Foreseen, service: &Exposure) -> Option<Finding> {
    let object = format!("Service/{}", service.name);
    let addresses = service.addresses.join(", ");
    let Some((_, new)) = foreseen.new.objects().find(|(name, _)| name.is(&object)) else {
        if addresses.is_empty() {
            return None;
        }
        let message = format!("the new chart has no {object}: its address {addresses} is given up");
        let next =
            "Be ready to point DNS to the address of the Service that takes its place; status.addresses names both.";
        return Some(Finding::warning(CheckName::AddressPinned, message, next).about(object));
    };
    if facts.spec.recovery != Recovery::Reinstall || facts.spec.keep_addresses {
        return None;
    }
    let addresses = service.addresses.iter().filter(|_| !is_pinned(new));
    let assigned = service.assigned.iter().filter(|assigned| !is_named(new, assigned));
    let loose: Vec<_> = addresses.chain(assigned).map(String::as_str).collect();
    if loose.is_empty() {
        return None;
    }
    let message = format!("a reinstall may give {object} other addresses than {}: nothing pins them", loose.join(", "));
    let next = "Set spec.keepAddresses to true, or pin them in the values (coder.service.loadBalancerIP, an annotation of your load balancer, coder.service.httpNodePort).";
    Some(Finding::warning(CheckName::AddressPinned, message, next).about(object).at("spec.keepAddresses"))
}

/// Whether the chart asks for a cluster IP or node port, told as in [`Exposure::assigned`].
fn is_named(service: &Value, assigned: &str) -> bool {
    let spec = &service["spec"];
    let ips = spec["clusterIPs"].as_array().into_iter().flatten().chain([&spec["clusterIP"]]).filter_map(Value::as_str);
    let ports = spec["ports"].as_array().into_iter().flatten().filter_map(|port| port["nodePort"].as_u64());
    let named: Vec<_> = ips.map(ToOwned::to_owned).chain(ports.map(|port| port.to_string())).collect();
    assigned.split(' ').any(|word| named.iter().any(|named| named == word))
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
            assigned: vec![],
        };
        let mut foreseen =
            Foreseen { exposures: vec![exposure], new: sample::documents(&[service]), ..sample::foreseen() };
        let found = check(&facts, &foreseen);
        assert_eq!(found.first().and_then(|finding| finding.field.as_deref()), expected);
        foreseen.new = sample::documents(&[]);
        assert!(check(&facts, &foreseen)[0].message.contains("is given up"));
    }

    #[rstest]
    #[case::by_nobody(json!({}), Some("other addresses than cluster IP 10.0.0.7, node port 30001 (http)"))]
    #[case::the_port(json!({"ports": [{"nodePort": 30001}]}), Some("other addresses than cluster IP 10.0.0.7: "))]
    #[case::both(json!({"clusterIP": "10.0.0.7", "ports": [{"nodePort": 30001}]}), None)]
    fn node_ports_and_cluster_ips_that_may_change_are_told(#[case] spec: Value, #[case] expected: Option<&str>) {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "coder"}, "spec": spec});
        let mut facts = sample::facts("2.30.0", "2.31.7");
        (facts.spec.recovery, facts.spec.keep_addresses) = (Recovery::Reinstall, false);
        let exposure = Exposure {
            kind: "Service".into(),
            name: "coder".into(),
            uid: "1".into(),
            addresses: vec![],
            assigned: vec!["cluster IP 10.0.0.7".into(), "node port 30001 (http)".into()],
        };
        let mut foreseen =
            Foreseen { exposures: vec![exposure], new: sample::documents(&[service]), ..sample::foreseen() };
        let found = check(&facts, &foreseen);
        assert_eq!(found.is_empty(), expected.is_none());
        assert!(found.iter().all(|finding| finding.message.contains(expected.unwrap())), "{found:?}");
        foreseen.new = sample::documents(&[]);
        assert_eq!(check(&facts, &foreseen), [], "a Service that goes is a matter of the chart");
    }
}
