//! A namespace of its own for each test, in the cluster for tests.
#![allow(clippy::unwrap_used, dead_code)] // tests may; not every test uses all of it

use std::time::Duration;

use serde_json::{Value, json};
use testbed::cluster::Cluster;
use tokio::time::{Instant, sleep};

/// How long anything may take that is expected to happen; generous, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace that is deleted (without waiting for it) when the test is over.
pub struct Namespace {
    pub cluster: Cluster,
    pub name: String,
}

impl Namespace {
    /// Makes a namespace whose name begins with `prefix` in the cluster for tests.
    pub async fn new(prefix: &str) -> Self {
        Self::of(Cluster::for_tests().await.unwrap(), prefix).await
    }

    /// Makes a namespace whose name begins with `prefix` in `cluster`.
    pub async fn of(cluster: &Cluster, prefix: &str) -> Self {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": format!("{prefix}-")}});
        let created =
            cluster.kubectl_with_input(&["create", "-f", "-", "-o", "name"], &object.to_string()).await.unwrap();
        let name = created.trim().trim_start_matches("namespace/").to_owned();
        let namespace = Self { cluster: cluster.clone(), name };
        // Pods are refused before their service account is there.
        namespace.eventually("the service account", |object| !object.is_null(), &["serviceaccount", "default"]).await;
        namespace
    }

    /// Runs kubectl in the namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).await.unwrap()
    }

    /// Runs kubectl in the namespace; the error is what it said.
    pub async fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let arguments = [&["-n", self.name.as_str()], arguments].concat();
        self.cluster.kubectl(&arguments).await.map_err(|error| error.to_string())
    }

    /// Applies objects, as JSON.
    pub async fn apply(&self, objects: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let arguments = ["-n", &self.name, "apply", "-f", "-"];
        self.cluster.kubectl_with_input(&arguments, &list.to_string()).await.unwrap();
    }

    /// An object, `Null` if there is none.
    pub async fn get(&self, what: &[&str]) -> Value {
        let arguments = [&["get", "--ignore-not-found", "-o", "json"], what].concat();
        serde_json::from_str(&self.kubectl(&arguments).await).unwrap_or(Value::Null)
    }

    /// Waits until an object is as wanted, and returns it.
    pub async fn eventually(&self, what: &str, is_wanted: impl Fn(&Value) -> bool, object: &[&str]) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.get(object).await;
            if is_wanted(&found) {
                return found;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}; last seen: {found:#}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// What nodes have asked the API server for in the namespace, as verb and resource, from the server's audit log.
    pub fn requests_of_nodes(&self) -> Vec<String> {
        let lines = self.cluster.audit_lines("system:node:").unwrap();
        let entries = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let ours = entries.filter(|entry| {
            let user = entry["user"]["username"].as_str().unwrap_or_default();
            user.starts_with("system:node:") && entry["objectRef"]["namespace"] == *self.name
        });
        ours.map(|entry| format!("{} {}", entry["verb"], entry["objectRef"]["resource"]).replace('"', "")).collect()
    }

    /// Waits until a pod is ready, and returns it.
    pub async fn ready_pod(&self, name: &str) -> Value {
        self.eventually("a ready pod", is_ready, &["pod", name]).await
    }

    /// Deletes a pod of a `StatefulSet`, and waits until its successor is ready.
    pub async fn replace_pod(&self, name: &str) {
        let first = self.get(&["pod", name]).await["metadata"]["uid"].clone();
        // Not waited for by kubectl, which may wait for the namesake that comes at once.
        self.kubectl(&["delete", "pod", name, "--wait=false"]).await;
        let is_new = |pod: &Value| is_ready(pod) && pod["metadata"]["uid"] != first;
        self.eventually("the pod's successor", is_new, &["pod", name]).await;
    }

    /// Waits until a pod has ended, and returns it.
    pub async fn ended_pod(&self, name: &str) -> Value {
        let ended = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        self.eventually("an ended pod", ended, &["pod", name]).await
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let mut command = self.cluster.kubectl_command();
        command.args(["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"]);
        // Nothing depends on it: the cluster is thrown away.
        let _ = command.as_std_mut().stdout(std::process::Stdio::null()).status();
    }
}

/// Whether the object's condition `Ready` is true.
pub fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// A pod with one container that runs a shell script on this machine.
pub fn shell_pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "testbed-host:1", "command": ["sh", "-c", script]}],
        },
    })
}

/// How the only container of a pod ended.
pub fn terminated(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]["terminated"]
}

/// What an HTTP server answers.
pub async fn fetch(url: &str) -> String {
    // An error says that another test has installed the provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap().text().await.unwrap()
}

/// How many processes of a pod there are, by the mark in their environment.
pub fn processes_of(uid: &str) -> usize {
    let mark = format!("TESTBED_CONTAINER={uid}/");
    let processes = std::fs::read_dir("/proc").unwrap();
    let environments = processes.filter_map(|entry| std::fs::read(entry.ok()?.path().join("environ")).ok());
    environments.filter(|environment| String::from_utf8_lossy(environment).contains(&mark)).count()
}
