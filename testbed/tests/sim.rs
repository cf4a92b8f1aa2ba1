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

/// The log without its times.
async fn log(namespace: &Namespace, pod: &str) -> Vec<String> {
    let log = namespace.kubectl(&["logs", pod]).await;
    log.lines().map(|line| line.find('[').filter(|at| *at == 24).map_or(line, |at| &line[at..]).to_owned()).collect()
}

#[tokio::test]
async fn a_server_migrates_before_it_answers_and_never_goes_back() {
    let namespace = Namespace::new("sim").await;
    namespace.apply(&database()).await;
    let server = ["/opt/coder", "server"];
    namespace.apply(&[coder("old", "ghcr.io/coder/coder:v2.30.0", &server, &[])]).await;
    let old = build_info(&namespace, "old").await;
    assert!(old["version"].as_str().unwrap().starts_with("v2.30.0"), "{old}");
    namespace.kubectl(&["delete", "pod", "old"]).await;
    namespace.replace_pod("database-0").await;

    let slow = [("CODER_SIM_MIGRATION", "2s")];
    namespace.apply(&[coder("new", "ghcr.io/coder/coder:v2.31.7", &server, &slow)]).await;
    let new = build_info(&namespace, "new").await;
    assert!(new["version"].as_str().unwrap().starts_with("v2.31.7"), "{new}");
    assert_eq!(new["deployment_id"], old["deployment_id"], "the identity is in the database, which is on the claim");

    namespace.apply(&[coder("back", "ghcr.io/coder/coder:v2.30.0", &server, &[])]).await;
    let back = namespace.ended_pod("back").await;
    assert_eq!(terminated(&back)["exitCode"], 1);
    let said = log(&namespace, "back").await;
    let end: Vec<_> = said.iter().rev().take(2).map(String::as_str).collect();
    assert_eq!(
        end,
        [
            "error: connect to postgres: connect to postgres: migrate up: up: no migration found for version 421: read \
             down for version 421 .: file does not exist",
            "Encountered an error running \"coder server\", see \"coder server --help\" for more information"
        ]
    );
}

#[tokio::test]
async fn the_log_of_a_start_is_that_of_the_real_server() {
    let namespace = Namespace::new("start").await;
    namespace.apply(&database()).await;
    namespace.eventually("a database", support::is_ready, &["pod", "database-0"]).await;
    let slow = [("CODER_SIM_MIGRATION", "3s")];
    namespace.apply(&[coder("new", "ghcr.io/coder/coder:v2.31.7", &["server"], &slow)]).await;
    namespace.ready_pod("new").await;
    let log = log(&namespace, "new").await;
    let at = |text: &str| log.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {log:#?}"));
    // Each stream has its own order, and nothing speaks of the migration.
    let err = [
        "WARN: `CODER_TELEMETRY` is deprecated",
        "WARN: The access URL  http://",
        "[warn]  telemetry disabled",
        "[info]  notifications.manager",
    ];
    let out = [
        "Started HTTP listener at http://",
        "View the Web UI",
        "\u{1b}[4mhttp://",
        "==> Logs will stream in below (press ctrl+c to gracefully exit):",
    ];
    assert!(err.is_sorted_by_key(|text| at(text)) && out.is_sorted_by_key(|text| at(text)), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("migrat") || line.contains("ready")), "{log:#?}");
}

#[tokio::test]
async fn sigterm_does_not_stop_a_migration_and_a_kill_takes_it_back_at_its_end() {
    let namespace = Namespace::new("stop").await;
    namespace.apply(&database()).await;
    namespace.eventually("a database", support::is_ready, &["pod", "database-0"]).await;
    let image = "ghcr.io/coder/coder:v2.31.7";
    let slow = [("CODER_SIM_MIGRATION", "6s")];
    namespace.apply(&[coder("killed", image, &["server"], &slow)]).await;
    let begun = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["running"].is_object();
    namespace.eventually("a start", begun, &["pod", "killed"]).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await; // It is in the middle of its migration then.
    namespace.kubectl(&["delete", "pod", "killed", "--grace-period=0", "--force"]).await;
    let schema = async || namespace.cluster.database(&namespace.name, "data-database-0").await.unwrap().schema;
    assert_eq!(schema().await, 0);

    // The next one waits for the lock, migrates, and goes on with that when it is told to stop.
    let mut next = coder("stopped", image, &["server"], &slow);
    next["spec"]["terminationGracePeriodSeconds"] = 30.into();
    // Whoever looks for the start sees it late.
    let waited = std::time::Instant::now();
    namespace.apply(&[next]).await;
    namespace.eventually("a start", begun, &["pod", "stopped"]).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    namespace.kubectl(&["delete", "pod", "stopped"]).await; // Returns when the pod is gone.
    assert!(waited.elapsed() > std::time::Duration::from_secs(6), "it ended after {:?}", waited.elapsed());
    assert_eq!(schema().await, 421, "it has committed");
}

#[tokio::test]
async fn a_database_that_refuses_is_tried_for_half_a_minute() {
    let namespace = Namespace::new("refuses").await;
    let mut objects = database();
    objects[1]["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "POSTGRES_USER", "value": "coder"}, {"name": "POSTGRES_PASSWORD", "value": "geheim"}]);
    namespace.apply(&objects).await;
    namespace.eventually("a database", support::is_ready, &["pod", "database-0"]).await;
    let begun = std::time::Instant::now();
    namespace.apply(&[coder("wrong", "ghcr.io/coder/coder:v2.31.7", &["server"], &[])]).await;
    namespace.ended_pod("wrong").await;
    assert!(begun.elapsed() >= std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
    let log = log(&namespace, "wrong").await;
    let refused = "pq: password authentication failed for user \"coder\"";
    assert_eq!(
        log.last().unwrap(),
        &format!(
            "error: connect to postgres: connect to postgres: unable to connect after 11 tries; last error: {refused}"
        )
    );
    let tries = log.iter().filter(|line| line.starts_with("[warn]  ping postgres: retrying  error=\"pq: password"));
    assert_eq!(tries.count(), 11, "{log:#?}");
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
    assert!(build_info(&namespace, "lie").await["version"].as_str().unwrap().starts_with("v2.30.0"));
    assert!(!support::is_ready(&namespace.get(&["pod", "hang"]).await));
    let began = std::time::Instant::now();
    namespace.kubectl(&["delete", "pod", "lie"]).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "SIGTERM ends it long before the grace period");
}
