//! Which pods are Coder, and how each is asked who it is.

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::ProductLine;

/// Name of the chart that runs servers. Its companions (coder-provisioner) run none.
const SERVER_CHART: &str = "coder";

/// What a pod is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Coder v2: `/healthz`, then `/api/v2/buildinfo`.
    BuildInfo,
    /// The API server of Coder Classic: `/cem-healthz` (or `/healthz`), then `/api/private/version`.
    ClassicVersion,
    /// The other servers of Coder Classic: `/healthz`.
    Health,
}

impl Question {
    /// Whether the answer holds a version.
    pub fn tells_version(self) -> bool {
        !matches!(self, Self::Health)
    }
}

/// Where and what a pod is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What is asked.
    pub question: Question,
    /// Where it may listen, the likeliest first. A server that only speaks TLS names its other port all the same.
    pub ports: Vec<Port>,
    /// The name by which people reach it (`CODER_ACCESS_URL`), with its port if it is no usual one; none if the pod's template
    /// does not say.
    pub host: Option<String>,
}

/// A port of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Whether it speaks TLS. The certificate is for Coder's public name and says nothing about the pod's address.
    pub tls: bool,
}

/// How a pod is asked; none for pods that are no server of Coder (nginx, a database, a provisioner).
pub fn endpoint(chart: &str, line: ProductLine, pod: &Pod) -> Option<Endpoint> {
    if chart != SERVER_CHART {
        return None;
    }
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let by_name = |names: &[&str]| containers.iter().find(|c| names.contains(&c.name.as_str()));
    let (container, question) = match line {
        ProductLine::V2 => {
            let labelled = pod
                .metadata
                .labels
                .as_ref()
                .and_then(|l| l.get("app.kubernetes.io/name"))
                .is_some_and(|n| n == "coder");
            (by_name(&["coder"]).or_else(|| containers.first().filter(|_| labelled))?, Question::BuildInfo)
        }
        ProductLine::V1 => by_name(&["coderd", "cemanager"])
            .map(|c| (c, Question::ClassicVersion))
            .or_else(|| by_name(&["envproxy", "dashboard"]).map(|c| (c, Question::Health)))?,
    };
    Some(Endpoint { question, ports: ports(container), host: access_host(container) })
}

/// The port named http, else as Coder Classic names it (tcp-cemanager), else 8080 or whatever else there is; and the port
/// named https, or that on which a probe asks for Coder's health over TLS.
fn ports(container: &Container) -> Vec<Port> {
    let ports = container.ports.as_deref().unwrap_or_default();
    let named = |name: &str| ports.iter().find(|p| p.name.as_deref() == Some(name));
    let number = |port: &ContainerPort| u16::try_from(port.container_port).ok();
    let tls = named("https").and_then(number).or_else(|| probed_over_tls(container));
    let tls = tls.map(|number| Port { number, tls: true });
    let other = || {
        let classic = format!("tcp-{}", container.name);
        named(&classic).or_else(|| ports.iter().find(|p| p.container_port == 8080)).or_else(|| ports.first())
    };
    let plain = named("http").or_else(|| other().filter(|_| tls.is_none())).and_then(number);
    let plain = plain.or_else(|| tls.is_none().then_some(8080)).map(|number| Port { number, tls: false });
    plain.into_iter().chain(tls).collect()
}

/// A service mesh sends probes to a port of its own, with another path.
fn probed_over_tls(container: &Container) -> Option<u16> {
    let probes = [&container.readiness_probe, &container.startup_probe, &container.liveness_probe];
    let asked = probes.into_iter().flatten().filter_map(|probe| probe.http_get.as_ref());
    let mut over_tls =
        asked.filter(|get| get.scheme.as_deref() == Some("HTTPS") && get.path.as_deref() == Some("/healthz"));
    let port = match &over_tls.next()?.port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            ports.find(|port| port.name.as_ref() == Some(name))?.container_port
        }
    };
    u16::try_from(port).ok()
}

fn access_host(container: &Container) -> Option<String> {
    let url = container.env.iter().flatten().rev().find(|variable| variable.name == "CODER_ACCESS_URL")?;
    host_of(url.value.as_deref()?).map(|(_, host)| host.to_owned())
}

/// Whether an address is one of TLS, and its host, with a port if it names one.
pub fn host_of(url: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let tls = scheme.eq_ignore_ascii_case("https");
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let valid = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c));
    (valid && (tls || scheme.eq_ignore_ascii_case("http"))).then_some((tls, host))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod(container: &str, ports: &Value, name_label: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"labels": {"app.kubernetes.io/name": name_label}},
            "spec": {"containers": [{"name": container, "ports": ports}]},
        }))
        .unwrap()
    }

    #[rstest]
    #[case("coder", "coder", json!([{"name": "http", "containerPort": 8080}]), Some(vec![(8080, false)]))]
    #[case("coder", "server", json!([{"name": "https", "containerPort": 8443}]), Some(vec![(8443, true)]))]
    #[case("coder", "coder", json!([{"name": "https", "containerPort": 8443}, {"name": "http", "containerPort": 8080}]),
        Some(vec![(8080, false), (8443, true)]))]
    #[case("coder", "coder", json!([]), Some(vec![(8080, false)]))]
    #[case("coder-provisioner", "coder", json!([]), None)]
    fn servers_of_v2(
        #[case] chart: &str,
        #[case] container: &str,
        #[case] ports: Value,
        #[case] expected: Option<Vec<(u16, bool)>>,
    ) {
        let found = endpoint(chart, ProductLine::V2, &pod(container, &ports, "coder"));
        assert!(found.as_ref().is_none_or(|e| e.question == Question::BuildInfo));
        assert_eq!(found.map(|e| e.ports.iter().map(|port| (port.number, port.tls)).collect()), expected);
    }

    #[rstest]
    #[case::by_name(json!("web"), "/healthz", "HTTPS", (8443, true))]
    #[case::by_number(json!(8443), "/healthz", "HTTPS", (8443, true))]
    #[case::plain(json!("web"), "/healthz", "HTTP", (8443, false))]
    #[case::rewritten_by_a_mesh(json!(15020), "/app-health/coder/readyz", "HTTPS", (8443, false))]
    fn a_probe_tells_that_a_port_speaks_tls(
        #[case] port: Value,
        #[case] path: &str,
        #[case] scheme: &str,
        #[case] expected: (u16, bool),
    ) {
        let mut pod = pod("coder", &json!([{"name": "web", "containerPort": 8443}]), "coder");
        let probe = json!({"httpGet": {"path": path, "port": port, "scheme": scheme}});
        pod.spec.as_mut().unwrap().containers[0].readiness_probe = serde_json::from_value(probe).unwrap();
        let found = endpoint("coder", ProductLine::V2, &pod).unwrap().ports;
        assert_eq!(found, [Port { number: expected.0, tls: expected.1 }]);
    }

    #[rstest]
    #[case("cemanager", json!([{"name": "tcp-cemanager", "containerPort": 8080}]), Some((Question::ClassicVersion, 8080)))]
    #[case("dashboard", json!([{"name": "tcp-dashboard", "containerPort": 3000}]), Some((Question::Health, 3000)))]
    #[case("envproxy", json!([{"name": "tcp-ssh", "containerPort": 2222}, {"containerPort": 8080}]), Some((Question::Health, 8080)))]
    #[case("timescale", json!([{"containerPort": 5432}]), None)]
    fn servers_of_classic(#[case] container: &str, #[case] ports: Value, #[case] expected: Option<(Question, u16)>) {
        let found = endpoint("coder", ProductLine::V1, &pod(container, &ports, ""));
        assert_eq!(found.map(|e| (e.question, e.ports[0].number)), expected);
    }

    #[rstest]
    #[case("https://coder.example.com", Some((true, "coder.example.com")))]
    #[case("HTTP://coder.example.com:8080/path?x", Some((false, "coder.example.com:8080")))]
    #[case("http://user:word@[::1]:3000/", Some((false, "[::1]:3000")))]
    #[case("ftp://coder.example.com", None)]
    #[case("/healthz", None)]
    #[case("http://a b/", None)]
    #[case("http://a\r\nX: y/", None)]
    fn the_host_of_an_address(#[case] url: &str, #[case] expected: Option<(bool, &str)>) {
        assert_eq!(host_of(url), expected);
    }
}
