//! coder-sim on the process node: what an upgrade meets of Coder and its database.
#![allow(clippy::unwrap_used)] // a test may; clippy does not take its helper functions for one

mod support;

use serde_json::{Value, json};
use support::{Namespace, fetch, terminated};

/// A database that keeps its record on a claim, with a Service to find it by.
fn database() -> Vec<Value> {
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}});
    let container = json!({
        "name": "postgres", "image": "docker.io/library/postgres:16", "ports": [{"name": "sql", "containerPort": 5432}],
        "readinessProbe": {"tcpSocket": {"port": "sql"}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/postgresql/data"}],
    });
    let labels = json!({"app": "database"});
    vec![
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "database"},
            "spec": {"selector": labels, "ports": [{"port": 5432}]}}),
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "database"}, "spec": {
            "serviceName": "database", "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}]}}),
    ]
}

/// A pod of Coder with a database at the Service `database`.
fn coder(name: &str, image: &str, command: &[&str], environment: &[(&str, &str)]) -> Value {
    let url = ("CODER_PG_CONNECTION_URL", "postgres://coder:secret@database:5432/coder?sslmode=disable");
    let usual = [url, ("DB_HOST", "database"), ("CODER_HTTP_ADDRESS", "0.0.0.0:8080")];
    let environment = usual.iter().chain(environment);
    let environment: Vec<Value> = environment.map(|(name, value)| json!({"name": name, "value": value})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [{
            "name": "coder", "image": image, "command": command, "env": environment,
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}}]},
    })
}

async fn build_info(namespace: &Namespace, pod: &str) -> Value {
    let pod = namespace.ready_pod(pod).await;
    let address = pod["status"]["podIP"].as_str().unwrap();
    serde_json::from_str(&fetch(&format!("http://{address}:8080/api/v2/buildinfo")).await).unwrap()
}

#[tokio::test]
async fn a_server_migrates_before_it_answers_and_never_goes_back() {
    let namespace = Namespace::new("sim").await;
    namespace.apply(&database()).await;
    let server = ["/opt/coder", "server"];
    namespace.apply(&[coder("old", "ghcr.io/coder/coder:v2.31.7", &server, &[])]).await;
    let old = build_info(&namespace, "old").await;
    assert_eq!(old["version"], "v2.31.7+sim");
    namespace.kubectl(&["delete", "pod", "old", "database-0"]).await;

    let slow = [("CODER_SIM_MIGRATION", "2s")];
    namespace.apply(&[coder("new", "ghcr.io/coder/coder:v2.32.0", &server, &slow)]).await;
    let new = build_info(&namespace, "new").await;
    assert_eq!(new["version"], "v2.32.0+sim");
    assert_eq!(new["deployment_id"], old["deployment_id"], "the identity is in the database, which is on the claim");
    let log = namespace.kubectl(&["logs", "new"]).await;
    assert!(log.contains("migrated database from 3107 to 3200 in 2."), "{log}");

    namespace.apply(&[coder("back", "ghcr.io/coder/coder:v2.31.7", &server, &[])]).await;
    let back = namespace.ended_pod("back").await;
    assert_eq!(terminated(&back)["exitCode"], 1);
    let log = namespace.kubectl(&["logs", "back"]).await;
    assert!(
        log.contains("no migration found for version 3200: read down for version 3200 .: file does not exist"),
        "{log}"
    );
}

#[tokio::test]
async fn the_lines_refuse_each_others_databases() {
    let namespace = Namespace::new("lines").await;
    namespace.apply(&database()).await;
    let image = "docker.io/coderenvs/coder-service:1.16.1";
    namespace.apply(&[coder("migrate", image, &["cemanager", "migrate", "up"], &[])]).await;
    assert_eq!(namespace.ended_pod("migrate").await["status"]["phase"], "Succeeded");
    let classic = [("SKIP_MIGRATIONS", "true")];
    let mut api = coder("api", image, &["cemanager", "run"], &classic);
    api["spec"]["containers"][0]["env"]
        .as_array_mut()
        .unwrap()
        .retain(|variable| variable["name"] != "CODER_PG_CONNECTION_URL");
    namespace.apply(&[api]).await;
    let pod = namespace.ready_pod("api").await;
    let address = pod["status"]["podIP"].as_str().unwrap();
    assert_eq!(fetch(&format!("http://{address}:8080/api/private/version")).await, r#"{"version":"1.16.1"}"#);

    namespace.apply(&[coder("two", "ghcr.io/coder/coder:v2.31.7", &["server"], &[])]).await;
    namespace.ended_pod("two").await;
    let log = namespace.kubectl(&["logs", "two"]).await;
    assert!(log.contains("currently connected to a Coder v1 database, aborting database setup"), "{log}");
}

#[tokio::test]
async fn faults_are_asked_for_by_variables_and_sigterm_ends_it_at_once() {
    let namespace = Namespace::new("faults").await;
    namespace.apply(&database()).await;
    let server = ["server"];
    let image = "ghcr.io/coder/coder:v2.31.7";
    namespace
        .apply(&[
            coder("crash", image, &server, &[("CODER_SIM_CRASH", "panic: out of luck")]),
            coder("lie", image, &server, &[("CODER_SIM_ANSWER_VERSION", "2.30.0")]),
            coder("hang", image, &server, &[("CODER_SIM_HANG", "1")]),
        ])
        .await;
    assert_eq!(terminated(&namespace.ended_pod("crash").await)["exitCode"], 1);
    assert!(namespace.kubectl(&["logs", "crash"]).await.contains("panic: out of luck"));
    assert_eq!(build_info(&namespace, "lie").await["version"], "v2.30.0+sim");
    assert!(!support::is_ready(&namespace.get(&["pod", "hang"]).await));
    let began = std::time::Instant::now();
    namespace.kubectl(&["delete", "pod", "hang"]).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "SIGTERM ends it long before the grace period");
}
