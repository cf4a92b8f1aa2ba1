//! Prometheus of the distribution, for those who have it: a server that scrapes the operator as docs/metrics.md has it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use form_urlencoded::Serializer;
use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use kube::{Api, Client, api::ListParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::process::{log_to, spawn};
use tokio::process::Child;

use super::node::leave_out;
use super::{OPERATOR_NAMESPACE, free_address, installed};

/// How often the operator is scraped and rules are evaluated.
const INTERVAL: &str = "1s";

/// A file of the repository.
pub fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The program, or nothing after saying that the test is left out without it.
pub fn installed_or_left_out(program: &str) -> Option<PathBuf> {
    let found = installed(program);
    if found.is_none() {
        let install = "apt-get install -y --no-install-recommends prometheus";
        leave_out(&format!("machine without {program}"), &format!("install it: {install}"));
    }
    found
}

/// The groups of deploy/monitoring/rules.yaml, as a rule file has them.
pub fn groups() -> Value {
    let rules: Value = serde_saphyr::from_str(&file("deploy/monitoring/rules.yaml")).unwrap();
    json!({"groups": rules["spec"]["groups"]})
}

/// A server, which ends with this.
pub struct Prometheus {
    url: String,
    http: reqwest::Client,
    _files: TempDir,
    _process: Child,
}

impl Prometheus {
    /// Scrapes the controllers of the cluster that run now, and evaluates the alerts.
    pub async fn start(program: &Path, client: &Client) -> Self {
        let files = tempfile::tempdir().unwrap();
        let at = |name: &str| files.path().join(name);
        std::fs::write(at("rules.yaml"), groups().to_string()).unwrap();
        std::fs::write(at("prometheus.yaml"), configuration(client).await.to_string()).unwrap();
        let address = free_address();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", at("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", at("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .current_dir(files.path());
        log_to(&mut command, &at("log")).unwrap();
        let mut process = spawn(command).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{address}");
        while !http.get(format!("{url}/-/ready")).send().await.is_ok_and(|answer| answer.status().is_success()) {
            let log = std::fs::read_to_string(at("log")).unwrap();
            assert!(process.try_wait().unwrap().is_none(), "Prometheus has ended:\n{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { url, http, _files: files, _process: process }
    }

    /// What a path answers to these parameters.
    pub async fn data(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let query = Serializer::new(String::new()).extend_pairs(parameters).finish();
        let answer = self.http.get(format!("{}/api/v1/{path}?{query}", self.url)).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["status"], "success", "{path} {parameters:?}: {answer}");
        answer["data"].clone()
    }

    /// Whether the operator was scraped.
    pub async fn scrapes(&self) -> Option<()> {
        (!self.series("coder_upgrade_operator_leading == 1").await.is_empty()).then_some(())
    }

    /// The series that an expression has had since the server was started, each with one number at least.
    pub async fn series(&self, expression: &str) -> Vec<Value> {
        let now = jiff::Timestamp::now().as_second();
        let (start, end) = ((now - 600).to_string(), now.to_string());
        let parameters = [("query", expression), ("start", &start), ("end", &end), ("step", "1")];
        let data = self.data("query_range", &parameters).await;
        let mut series = data["result"].as_array().unwrap().clone();
        let number = |value: &Value| value[1].as_str().is_some_and(|text| text != "NaN");
        series.retain(|one| one["values"].as_array().unwrap().iter().any(number));
        series
    }
}

/// The configuration of docs/metrics.md, with the pods that it would find: Debian builds Prometheus without that. As the Prometheus
/// Operator does it, each target has the namespace of its pod as a label.
async fn configuration(client: &Client) -> Value {
    let document = file("docs/metrics.md");
    let block = document.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let mut configuration: Value = serde_saphyr::from_str(block).unwrap();
    let scraped = &mut configuration["scrape_configs"][0];
    let found = scraped.as_object_mut().unwrap().remove("kubernetes_sd_configs").unwrap();
    assert_eq!(found, json!([{"role": "pod", "namespaces": {"names": [OPERATOR_NAMESPACE]}}]));
    let pods = Api::<Pod>::namespaced(client.clone(), OPERATOR_NAMESPACE).list(&ListParams::default()).await.unwrap();
    scraped["static_configs"] = pods.iter().flat_map(targets).collect();
    let namespace = json!({"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"});
    scraped["relabel_configs"].as_array_mut().unwrap().push(namespace);
    let monitor: Value = serde_saphyr::from_str(&file("deploy/monitoring/pod-monitor.yaml")).unwrap();
    assert_eq!(scraped["honor_labels"], monitor["spec"]["podMetricsEndpoints"][0]["honorLabels"]);
    configuration["global"] = json!({"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL});
    configuration["rule_files"] = json!(["rules.yaml"]);
    configuration
}

/// What Prometheus finds of a pod: an address for each port.
fn targets(pod: &Pod) -> Vec<Value> {
    let Some(address) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()) else { return Vec::new() };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let target = |port: &ContainerPort| {
        let labels = json!({
            "__meta_kubernetes_namespace": pod.metadata.namespace, "__meta_kubernetes_pod_container_port_name": port.name,
        });
        json!({"targets": [format!("{address}:{}", port.container_port)], "labels": labels})
    };
    ports.map(target).collect()
}
