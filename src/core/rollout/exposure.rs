//! Where a Service or an Ingress is reached.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;

use crate::api::Exposure;

/// A headless Service has this instead of an address.
const HEADLESS: &str = "None";

impl From<&Service> for Exposure {
    fn from(service: &Service) -> Self {
        let points = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        let points = points.into_iter().flatten().map(|point| point.ip.as_ref().or(point.hostname.as_ref()));
        Self {
            kind: "Service".into(),
            name: service.name_any(),
            uid: service.uid().unwrap_or_default(),
            addresses: points.flatten().cloned().collect(),
            assigned: assigned(service),
        }
    }
}

impl From<&Ingress> for Exposure {
    fn from(ingress: &Ingress) -> Self {
        let points = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        let points = points.into_iter().flatten().map(|point| point.ip.as_ref().or(point.hostname.as_ref()));
        Self {
            kind: "Ingress".into(),
            name: ingress.name_any(),
            uid: ingress.uid().unwrap_or_default(),
            addresses: points.flatten().cloned().collect(),
            assigned: Vec::new(),
        }
    }
}

/// The cluster IPs and node ports of a Service.
fn assigned(service: &Service) -> Vec<String> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let ips = spec.cluster_ips.iter().flatten().filter(|ip| *ip != HEADLESS).map(|ip| format!("cluster IP {ip}"));
    ips.chain(spec.ports.iter().flatten().filter_map(node_port)).collect()
}

fn node_port(port: &ServicePort) -> Option<String> {
    let node_port = port.node_port?;
    Some(match &port.name {
        Some(name) => format!("node port {node_port} ({name})"),
        None => format!("node port {node_port}"),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case::headless(json!({"clusterIPs": ["None"], "ports": [{"port": 5432}]}), &[])]
    #[case::both_families(json!({"clusterIPs": ["10.0.0.7", "fd00::7"]}), &["cluster IP 10.0.0.7", "cluster IP fd00::7"])]
    #[case::node_ports(
        json!({"clusterIPs": ["10.0.0.7"], "ports": [{"port": 80, "nodePort": 32329, "name": "http"}, {"port": 1, "nodePort": 30001}]}),
        &["cluster IP 10.0.0.7", "node port 32329 (http)", "node port 30001"]
    )]
    fn what_the_cluster_assigned_is_listed(#[case] spec: Value, #[case] expected: &[&str]) {
        let points = json!([{"ip": "192.0.2.1"}, {"hostname": "lb.example.com"}]);
        let service = json!({"metadata": {"name": "coder", "uid": "u"}, "spec": spec, "status": {"loadBalancer": {"ingress": points}}});
        let exposure = Exposure::from(&serde_json::from_value::<Service>(service).unwrap());
        assert_eq!(exposure.assigned, expected);
        assert_eq!(exposure.addresses, ["192.0.2.1", "lb.example.com"]);
    }
}
