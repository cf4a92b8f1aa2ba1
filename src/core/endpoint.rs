//! Which pods are Coder, and how each is asked who it is.

use k8s_openapi::api::core::v1::{Container, Pod};

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
    #[must_use]
    pub fn tells_version(self) -> bool {
        !matches!(self, Self::Health)
    }
}

/// Where and what a pod is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What is asked.
    pub question: Question,
    /// Port of the container.
    pub port: u16,
    /// Whether the port speaks TLS. The certificate is for Coder's public name and says nothing about the pod's address.
    pub tls: bool,
}

/// How a pod is asked; none for pods that are no server of Coder (nginx, a database, a provisioner).
#[must_use]
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
    let (port, tls) = port(container);
    Some(Endpoint { question, port, tls })
}

/// The port named http, else https, else as Coder Classic names it (tcp-cemanager), else 8080 or whatever else there is.
fn port(container: &Container) -> (u16, bool) {
    let ports = container.ports.as_deref().unwrap_or_default();
    let named = |name: &str| ports.iter().find(|p| p.name.as_deref() == Some(name));
    let classic = format!("tcp-{}", container.name);
    let (port, tls) = if let Some(port) = named("http") {
        (Some(port), false)
    } else if let Some(port) = named("https") {
        (Some(port), true)
    } else {
        let plain =
            named(&classic).or_else(|| ports.iter().find(|p| p.container_port == 8080)).or_else(|| ports.first());
        (plain, false)
    };
    (port.and_then(|p| u16::try_from(p.container_port).ok()).unwrap_or(8080), tls)
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
    #[case("coder", "coder", json!([{"name": "http", "containerPort": 8080}]), Some((8080, false)))]
    #[case("coder", "server", json!([{"name": "https", "containerPort": 8443}]), Some((8443, true)))]
    #[case("coder", "coder", json!([]), Some((8080, false)))]
    #[case("coder-provisioner", "coder", json!([]), None)]
    fn servers_of_v2(
        #[case] chart: &str,
        #[case] container: &str,
        #[case] ports: Value,
        #[case] expected: Option<(u16, bool)>,
    ) {
        let found = endpoint(chart, ProductLine::V2, &pod(container, &ports, "coder"));
        assert_eq!(found.map(|e| (e.port, e.tls)), expected);
        assert!(found.is_none_or(|e| e.question == Question::BuildInfo));
    }

    #[rstest]
    #[case("cemanager", json!([{"name": "tcp-cemanager", "containerPort": 8080}]), Some((Question::ClassicVersion, 8080)))]
    #[case("dashboard", json!([{"name": "tcp-dashboard", "containerPort": 3000}]), Some((Question::Health, 3000)))]
    #[case("envproxy", json!([{"name": "tcp-ssh", "containerPort": 2222}, {"containerPort": 8080}]), Some((Question::Health, 8080)))]
    #[case("timescale", json!([{"containerPort": 5432}]), None)]
    fn servers_of_classic(#[case] container: &str, #[case] ports: Value, #[case] expected: Option<(Question, u16)>) {
        let found = endpoint("coder", ProductLine::V1, &pod(container, &ports, ""));
        assert_eq!(found.map(|e| (e.question, e.port)), expected);
    }
}
