//! Pods on the process node behave as on a kubelet.
#![allow(clippy::unwrap_used)] // a test may; clippy does not take its helper functions for one

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Namespace, fetch, processes_of, shell_pod, terminated};
use testbed::node::Control;

/// An HTTP server that needs no more than a shell and Python, on the pod's own address.
const SERVER: &str = "exec python3 -m http.server --bind $(POD_IP) --directory /work 8080";

#[tokio::test]
async fn a_deployment_with_init_container_and_named_port_probes_becomes_ready() {
    let namespace = Namespace::new("deployment").await;
    let work = json!([{"name": "work", "mountPath": "/work"}]);
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "initContainers": [{"name": "init", "image": "testbed-host:1", "volumeMounts": work,
                "command": ["sh", "-c", "echo made by init > /work/index.html"]}],
            "containers": [
                {"name": "web", "image": "testbed-host:1", "volumeMounts": work, "command": ["sh", "-c", SERVER],
                 "ports": [{"name": "http", "containerPort": 8080}],
                 "startupProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1, "failureThreshold": 30},
                 "readinessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 1},
                 "livenessProbe": {"exec": {"command": ["test", "-f", "/work/index.html"]}, "periodSeconds": 1}},
                {"name": "beside", "image": "registry.example/unknown:1"},
            ],
            "volumes": [{"name": "work", "emptyDir": {}}],
        },
    });
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    namespace
        .apply(&[json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})])
        .await;
    namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).await;

    let pods = namespace.get(&["pods", "-l", "app=web"]).await;
    let addresses: Vec<&str> =
        pods["items"].as_array().unwrap().iter().map(|pod| pod["status"]["podIP"].as_str().unwrap()).collect();
    assert_eq!(addresses.len(), 2);
    assert_ne!(addresses[0], addresses[1]);
    for address in addresses {
        let answer = fetch(&format!("http://{address}:8080/")).await;
        assert_eq!(answer, "made by init\n");
    }
}

#[tokio::test]
async fn a_jobs_pod_ends_with_the_exit_code_and_log_of_its_container() {
    let namespace = Namespace::new("job").await;
    for (name, code) in [("good", 0), ("bad", 3)] {
        let script = format!("echo to stdout; echo to stderr >&2; exit {code}");
        let mut pod = shell_pod(name, &script);
        let template = json!({"metadata": {"labels": {"app": name}}, "spec": pod["spec"].take()});
        let spec = json!({"backoffLimit": 0, "template": template});
        namespace
            .apply(&[json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})])
            .await;
    }
    namespace.kubectl(&["wait", "--for=condition=Complete", "job/good", "--timeout=60s"]).await;
    namespace.kubectl(&["wait", "--for=condition=Failed", "job/bad", "--timeout=60s"]).await;
    let pods = namespace.get(&["pods", "-l", "app=bad"]).await;
    let pod = &pods["items"][0];
    assert_eq!(pod["status"]["phase"], "Failed");
    assert_eq!(terminated(pod)["exitCode"], 3);
    assert_eq!(terminated(pod)["reason"], "Error");
    let log = namespace.kubectl(&["logs", "job/bad"]).await;
    assert!(log.contains("to stdout\n") && log.contains("to stderr\n"), "{log}");
}

#[tokio::test]
async fn a_stateful_set_keeps_its_data_when_its_pod_is_deleted() {
    let namespace = Namespace::new("stateful").await;
    let mut pod = shell_pod("db", "echo started >> /data/starts; sleep 1000 & wait");
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data", "subPath": "inner"}]);
    pod["spec"].as_object_mut().unwrap().remove("restartPolicy");
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}});
    let spec = json!({
        "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": pod["spec"]},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
    });
    namespace
        .apply(&[json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": spec})])
        .await;
    namespace.ready_pod("db-0").await;
    namespace.replace_pod("db-0").await;

    let claim = namespace.get(&["pvc", "data-db-0"]).await;
    let volume = namespace.get(&["pv", claim["spec"]["volumeName"].as_str().unwrap()]).await;
    let path = volume["spec"]["hostPath"]["path"].as_str().unwrap();
    let starts = std::fs::read_to_string(format!("{path}/inner/starts")).unwrap();
    assert_eq!(starts, "started\nstarted\n");
}

#[tokio::test]
async fn a_container_gets_its_environment_its_volumes_and_a_token_that_works() {
    let namespace = Namespace::new("environment").await;
    let script =
        "echo $A $B_LEVEL $C $D $E; cat /etc/conf/renamed; echo; env | grep -c CARGO; kubectl auth whoami -o name";
    let mut pod = shell_pod("main", script);
    let kubectl = namespace.cluster.kubectl_command().as_std().get_program().to_string_lossy().into_owned();
    let script = script.replace("kubectl auth whoami -o name", &format!("{kubectl} auth whoami"));
    pod["spec"]["containers"][0]["command"] = json!(["sh", "-c", script]);
    pod["spec"]["containers"][0]["envFrom"] = json!([{"prefix": "B_", "configMapRef": {"name": "conf"}}]);
    pod["spec"]["containers"][0]["env"] = json!([
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}},
        {"name": "C", "value": "$(A)-$(B_LEVEL)"},
        {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "E", "value": "--config=/etc/conf/renamed"}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "conf", "mountPath": "/etc/conf"}]);
    pod["spec"]["volumes"] = json!([
    {"name": "conf", "configMap": {"name": "conf", "items": [{"key": "LEVEL", "path": "renamed"}]}}
    ]);
    let conf =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"LEVEL": "high"}});
    let keys =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"a": "secret"}});
    namespace.apply(&[conf, keys, pod]).await;
    namespace.ended_pod("main").await;
    let log = namespace.kubectl(&["logs", "main"]).await;
    let lines: Vec<&str> = log.lines().collect();
    let words: Vec<&str> = lines[0].split(' ').collect();
    assert_eq!(words[..4], ["secret", "high", "secret-high", "main"], "{log}");
    assert!(words[4].starts_with("--config=/") && words[4].ends_with("/renamed"), "{log}");
    assert_eq!(lines[1], "high", "{log}");
    assert_eq!(lines[2], "0", "nothing of the developer's environment is inherited: {log}");
    assert!(log.contains(&format!("system:serviceaccount:{}:default", namespace.name)), "{log}");
}

#[tokio::test]
async fn a_missing_secret_keeps_the_pod_waiting_until_it_is_there() {
    let namespace = Namespace::new("missing").await;
    let mut pod = shell_pod("main", "cat /etc/keys/a");
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "keys", "mountPath": "/etc/keys"}]);
    pod["spec"]["volumes"] = json!([{"name": "keys", "secret": {"secretName": "keys"}}]);
    namespace.apply(&[pod]).await;
    let message = "MountVolume.SetUp failed for volume \"keys\" : secret \"keys\" not found";
    namespace.eventually("an event", |events| is_said(events, "FailedMount", message), &["events"]).await;
    let waiting = namespace.get(&["pod", "main"]).await;
    assert_eq!(waiting["status"]["phase"], "Pending");
    namespace.apply(&[keys("a")]).await;
    assert_eq!(namespace.ended_pod("main").await["status"]["phase"], "Succeeded");
    assert_eq!(namespace.kubectl(&["logs", "main"]).await, "found");
}

/// Whether one of the events, of which there may be none yet, has exactly this reason and message.
fn is_said(events: &Value, reason: &str, message: &str) -> bool {
    let mut events = events["items"].as_array().into_iter().flatten();
    events.any(|event| event["reason"] == reason && event["message"] == message)
}

/// A pod that waits for the Secret `keys` in a volume or in its environment.
fn waiting_pod(name: &str, in_volume: bool) -> Value {
    let mut pod = shell_pod(name, "true");
    if in_volume {
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "keys", "mountPath": "/etc/keys"}]);
        let secret = json!({"secretName": "keys", "items": [{"key": "a", "path": "a"}]});
        pod["spec"]["volumes"] = json!([{"name": "keys", "secret": secret}]);
    } else {
        pod["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "keys"}}]);
    }
    pod
}

fn keys(key: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {key: "found"}})
}

#[tokio::test]
async fn pods_that_cannot_start_cost_few_requests_and_start_soon_after_they_can() {
    let namespace = Namespace::new("idle").await;
    let mut unpulled = shell_pod("image", "true");
    unpulled["metadata"]["annotations"] = json!({"testbed.coderupgrade.dev/pull-error": "manifest unknown"});
    let mut crashing = shell_pod("crash", "exit 5");
    crashing["spec"]["restartPolicy"] = json!("Always");
    namespace.apply(&[waiting_pod("volume", true), waiting_pod("environment", false), unpulled, crashing]).await;
    // Long enough for any loop without a pause to show: it made more than a hundred requests a second.
    tokio::time::sleep(Duration::from_secs(20)).await;

    let requests = namespace.requests_of_nodes();
    let count = |wanted: &str| requests.iter().filter(|request| request.contains(wanted)).count();
    // Each pod: six attempts, each with an event and what it reads; at most five more until the authorizer knows the pod.
    assert!(requests.len() <= 4 * 20, "{requests:#?}");
    assert!(count("get secrets") >= 4, "both pods were tried again: {requests:#?}");
    assert!(count("get secrets") <= 2 * 12 && count("events") <= 4 * 8 && count("pods") <= 4 * 10, "{requests:#?}");
    let events = namespace.get(&["events"]).await;
    let of = |reason: &str| {
        let events = events["items"].as_array().unwrap().iter().filter(|event| event["reason"] == reason);
        events.map(|event| event["count"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert!(matches!(of("FailedMount")[..], [4..=8]), "one event that counts: {events:#}");
    assert!(!events.to_string().contains("no relationship found"), "{events:#}");

    namespace.apply(&[keys("a")]).await;
    let created = Instant::now();
    for name in ["volume", "environment"] {
        assert_eq!(namespace.ended_pod(name).await["status"]["phase"], "Succeeded");
    }
    assert!(created.elapsed() < Duration::from_secs(25), "no pause is longer than 15 s: {:?}", created.elapsed());
}

#[tokio::test]
async fn an_event_tells_the_cause_of_now_not_the_first_one() {
    let namespace = Namespace::new("cause").await;
    namespace.apply(&[waiting_pod("main", true)]).await;
    let failed = "MountVolume.SetUp failed for volume \"keys\" : ";
    for (cause, correction) in [("secret \"keys\" not found", "other"), ("references non-existent secret key: a", "a")]
    {
        let message = format!("{failed}{cause}");
        namespace.eventually(cause, |events| is_said(events, "FailedMount", &message), &["events"]).await;
        namespace.apply(&[keys(correction)]).await;
    }
    assert_eq!(namespace.ended_pod("main").await["status"]["phase"], "Succeeded");
}

#[tokio::test]
async fn a_crashing_container_is_restarted_and_backs_off() {
    let namespace = Namespace::new("crash").await;
    let mut pod = shell_pod("main", "echo run $$; echo the reason >&2; exit 5");
    pod["spec"]["restartPolicy"] = json!("Always");
    pod["spec"]["containers"][0]["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    namespace.apply(&[pod]).await;
    let backs_off = |pod: &Value| {
        let status = &pod["status"]["containerStatuses"][0];
        status["state"]["waiting"]["reason"] == "CrashLoopBackOff" && status["restartCount"].as_i64() > Some(1)
    };
    let pod = namespace.eventually("a crash loop", backs_off, &["pod", "main"]).await;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 5);
    assert!(status["lastState"]["terminated"]["message"].as_str().unwrap().contains("the reason"));
    assert!(status["state"]["waiting"]["message"].as_str().unwrap().contains("back-off"), "{status}");
    assert!(namespace.kubectl(&["logs", "main"]).await.contains("the reason"));
}

#[tokio::test]
async fn a_liveness_probe_that_fails_restarts_the_container() {
    let namespace = Namespace::new("liveness").await;
    let mut pod = shell_pod("main", "sleep 1000 & wait");
    pod["spec"]["restartPolicy"] = json!("Always");
    pod["spec"]["containers"][0]["livenessProbe"] =
        json!({"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 2});
    namespace.apply(&[pod]).await;
    let restarted = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64() > Some(0);
    let pod = namespace.eventually("a restart", restarted, &["pod", "main"]).await;
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 143);
}

#[tokio::test]
async fn a_deleted_pod_has_its_grace_period_and_not_longer() {
    let namespace = Namespace::new("grace").await;
    let directory = tempfile::tempdir().unwrap();
    let polite = directory.path().join("polite");
    let script =
        format!("trap 'echo asked > {}; exit 0' TERM; echo up; while true; do sleep 0.1; done", polite.display());
    let mut polite_pod = shell_pod("polite", &script);
    polite_pod["spec"]["terminationGracePeriodSeconds"] = json!(30);
    let mut stubborn_pod =
        shell_pod("stubborn", "trap '' TERM; echo up; setsid sleep 1000 & while true; do sleep 0.1; done");
    stubborn_pod["spec"]["terminationGracePeriodSeconds"] = json!(2);
    namespace.apply(&[polite_pod, stubborn_pod]).await;
    for name in ["polite", "stubborn"] {
        namespace.ready_pod(name).await;
        while namespace.kubectl(&["logs", name]).await != "up\n" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let began = Instant::now();
    namespace.kubectl(&["delete", "pod", "polite"]).await;
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(std::fs::read_to_string(polite).unwrap(), "asked\n");

    let uid = namespace.get(&["pod", "stubborn"]).await["metadata"]["uid"].as_str().unwrap().to_owned();
    let began = Instant::now();
    namespace.kubectl(&["delete", "pod", "stubborn"]).await;
    assert!(began.elapsed() > Duration::from_secs(2));
    assert_eq!(processes_of(&uid), 0, "a pod leaves no process behind, in whatever session it hides");
}

/// Measured on a kubelet: SIGTERM at once, SIGKILL 2 s later, though the object is gone from the start.
#[tokio::test]
async fn a_pod_that_is_deleted_by_force_is_asked_to_end_first() {
    let namespace = Namespace::new("forced").await;
    let directory = tempfile::tempdir().unwrap();
    let asked = directory.path().join("asked");
    let script = format!("trap 'echo asked > {}' TERM; echo up; while true; do sleep 0.1; done", asked.display());
    namespace.apply(&[shell_pod("main", &script)]).await;
    let uid = namespace.ready_pod("main").await["metadata"]["uid"].as_str().unwrap().to_owned();
    while namespace.kubectl(&["logs", "main"]).await != "up\n" {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let began = Instant::now();
    namespace.kubectl(&["delete", "pod", "main", "--grace-period=0", "--force"]).await;
    while processes_of(&uid) > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "it goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() > Duration::from_millis(1500), "{:?}", began.elapsed());
    assert_eq!(std::fs::read_to_string(asked).unwrap(), "asked\n");
}

#[tokio::test]
async fn a_killed_container_takes_all_its_processes_along() {
    let namespace = Namespace::new("killed").await;
    namespace.apply(&[shell_pod("main", "setsid sleep 1000 & sleep 1000 & wait")]).await;
    let pod = namespace.ready_pod("main").await;
    let control = Control::of(&namespace.cluster.dir().join("node")).unwrap();
    control.kill(&namespace.name, "main", "main", Some("OOMKilled")).await.unwrap();
    let ended = namespace.ended_pod("main").await;
    assert_eq!(terminated(&ended)["exitCode"], 137);
    assert_eq!(terminated(&ended)["reason"], "OOMKilled");
    assert_eq!(processes_of(pod["metadata"]["uid"].as_str().unwrap()), 0);
}

#[tokio::test]
async fn logs_are_served_as_by_a_kubelet() {
    let namespace = Namespace::new("logs").await;
    namespace.apply(&[shell_pod("main", "echo one; echo two; sleep 1; echo three")]).await;
    namespace.ready_pod("main").await;
    let followed = namespace.kubectl(&["logs", "-f", "main"]).await;
    assert_eq!(followed, "one\ntwo\nthree\n");
    assert_eq!(namespace.kubectl(&["logs", "main", "--tail=1"]).await, "three\n");
    let stamped = namespace.kubectl(&["logs", "main", "--timestamps", "--tail=1"]).await;
    let (time, text) = stamped.split_once(' ').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok() && text == "three\n", "{stamped}");
    let refused = namespace.try_kubectl(&["logs", "main", "--previous"]).await.unwrap_err();
    assert!(refused.contains("previous terminated container"), "{refused}");
}

#[tokio::test]
async fn a_pod_over_its_deadline_fails_after_it_was_asked_to_end_and_keeps_its_log() {
    let namespace = Namespace::new("deadline").await;
    let mut pod = shell_pod("main", "trap 'echo asked; exit 7' TERM; while true; do sleep 0.1; done");
    pod["spec"]["activeDeadlineSeconds"] = json!(2);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(20);
    namespace.apply(&[pod]).await;
    let ended = namespace.ended_pod("main").await;
    assert_eq!(ended["status"]["phase"], "Failed");
    assert_eq!(ended["status"]["reason"], "DeadlineExceeded");
    assert_eq!(terminated(&ended)["exitCode"], 7);
    assert_eq!(namespace.kubectl(&["logs", "main"]).await, "asked\n");
}

#[tokio::test]
async fn faults_asked_for_by_annotations_happen() {
    let namespace = Namespace::new("faults").await;
    let mut pod = shell_pod("main", "true");
    pod["metadata"]["annotations"] = json!({"testbed.coderupgrade.dev/pull-error": "manifest unknown"});
    namespace.apply(&[pod]).await;
    let fails = |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff";
    let pod = namespace.eventually("a pull error", fails, &["pod", "main"]).await;
    let message = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
    assert!(message.as_str().unwrap().contains("manifest unknown"), "{message}");
}
