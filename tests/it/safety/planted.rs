//! P8: no secret leaves the Secrets, whatever it looks like, whoever repeats it and in whichever spelling.
//!
//! Secrets are planted in values, in Secrets that only pods use, in credentials and in objects of others; helm, the API server
//! and Coder are made to repeat them; and everything that the operator writes is searched.

use std::os::unix::fs::symlink;

use crate::common::{
    World, program,
    steps::{HelmMajor, Steps},
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use coder_upgrade_operator::api::CoderUpgrade;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};
use serde_json::{Value, json};
use testbed::components::Component;
use tokio::process::Command;

const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIIBVQIBADANBgkqhkiG9w0BAQEFAASCAT8wggE7AgEAAkEAq7BFUpkGp3LmQlQx\nYx2eqzDVxeG8kxsQFV18S5JhzGeIJNA72wSeukEPojtqUyX2J0CciPBh7eqclQ2n\nzpAswIDAQAB\n-----END PRIVATE KEY-----\n";

/// Whatever no text may contain: the secrets of [`planted`] and the parts of them that tell as much.
const SECRETS: [&str; 12] = [
    "8473625198",
    "9182736455",
    "9.182736455",
    "12e45678",
    "swordfish-planted",
    "hunter/2&<planted>",
    "planted passphrase of some words",
    "MIIBVQIBADANBgkq",
    "Yx2eqzDVxeG8kxsQ",
    "zpAswIDAQAB",
    "hunter/2url",
    "nobody-knows-9Q",
];

/// Values with secrets of every kind, and words that are none.
fn planted() -> Value {
    json!({
        "pin": "8473625198",
        "number": 9_182_736_455_u64,
        "otp": "12e45678",
        "smtp": {"password": "swordfish-planted"},
        "odd": "hunter/2&<planted>",
        "phrase": "planted passphrase of some words",
        "tls": {"key": KEY},
        "url": "postgres://coder:hunter/2url@database.example.com/coder",
        "hook": "pre-upgrade",
        "host": "coder.example.com",
        "tag": "v2.31.7",
    })
}

/// A template that fails with all of them, in every spelling that a template can make.
const TELL: &str = r#"{{- $p := .Values.planted -}}
{{- $text := printf "license pin %v and number %v (%d), one-time %s, mail %s\nfor %s at %s with %s\n" $p.pin $p.number (int64 $p.number) $p.otp $p.smtp.password $p.hook $p.host $p.tag -}}
{{- $text = printf "%s%q %s\n%s\n%s %s\n%s\n" $text $p.odd (urlquery $p.odd) (toJson $p) (b64enc $p.odd) (b64enc (toJson $p)) (toYaml $p) -}}
{{- fail (printf "%s%s\n%s %s" $text $p.tls.key $p.url $p.phrase) -}}"#;

/// The text around the first secret that a text contains, in whatever spelling.
fn leak(text: &str) -> Option<String> {
    let spellings = SECRETS.iter().flat_map(|secret| {
        let escaped = Value::from(*secret).to_string().trim_matches('"').to_owned();
        let go = secret.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
        let percent = secret.replace('/', "%2F").replace('&', "%26").replace('<', "%3C").replace('>', "%3E");
        // Of each alignment in a larger text, the part that does not depend on what stands around it.
        let base64 = [0_usize, 1, 2].map(|before| {
            let whole = STANDARD_NO_PAD.encode(format!("{}{secret}", "x".repeat(before)));
            whole[before.min(1) * 4..whole.len() - 2].to_owned()
        });
        [secret.to_string(), escaped, go, percent].into_iter().chain(base64).filter(|spelling| spelling.len() > 5)
    });
    let mut found = spellings.filter_map(|spelling| Some((text.find(&spelling)?, spelling)));
    found.next().map(|(at, spelling)| {
        let start = (0..=at.saturating_sub(200)).rev().find(|start| text.is_char_boundary(*start)).unwrap_or_default();
        format!("{spelling} after: {}", &text[start..at])
    })
}

/// Everything that the operator wrote: the object but for its spec, events, Jobs with their annotations, their pods with
/// termination messages, the logs of these pods and of the controller.
async fn written(world: &World) -> String {
    let mut object = serde_json::to_value(world.get("coder").await).unwrap();
    object["spec"].take();
    let mut seen = object.to_string();
    seen += &serde_json::to_string(&world.jobs().await).unwrap();
    seen += &serde_json::to_string(&world.api::<Event>().list(&ListParams::default()).await.unwrap().items).unwrap();
    for job in world.jobs().await {
        let pods = ListParams::default().labels(&format!("job-name={}", job.name_any()));
        for pod in world.api::<Pod>().list(&pods).await.unwrap() {
            seen += &serde_json::to_string(&pod).unwrap();
            seen += &match world.api::<Pod>().logs(&pod.name_any(), &LogParams::default()).await {
                // The step is tried again, and its container has not written anything yet.
                Err(kube::Error::Api(refused)) if refused.message.contains("is waiting to start") => refused.message,
                log => log.unwrap(),
            };
        }
    }
    let controllers: Api<Pod> = Api::namespaced(world.client.clone(), "coder-upgrade-operator");
    for pod in controllers.list(&ListParams::default()).await.unwrap() {
        seen += &controllers.logs(&pod.name_any(), &LogParams::default()).await.unwrap_or_default();
    }
    seen
}

/// What the command `plan` prints for the object that is in the cluster, in every form, to both of its streams.
async fn shown(world: &World) -> String {
    let bin = tempfile::tempdir().unwrap();
    let helm = tokio::task::spawn_blocking(|| program(Component::Helm)).await.unwrap();
    symlink(helm, bin.path().join("helm")).unwrap();
    let mut seen = String::new();
    for form in ["text", "json", "yaml", "markdown"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coder-upgrade-operator"));
        command.args(["plan", "coder", "-n", &world.namespace, "-o", form]);
        command
            .env_clear()
            .env("PATH", bin.path())
            .env("KUBECONFIG", world.cluster.kubeconfig())
            .env("RUST_LOG", "debug");
        let output = command.output().await.unwrap();
        seen += &String::from_utf8_lossy(&output.stdout);
        seen += &String::from_utf8_lossy(&output.stderr);
    }
    seen
}

/// A release whose values hold everything that is planted.
async fn world(name: &str) -> World {
    let world = World::with_v2(name, "2.30.0", &[]).await;
    world.create_secret("planted-values", json!({"values.yaml": json!({"planted": planted()}).to_string()})).await;
    world
}

/// Declares 2.31.7 with the planted values, and these besides.
async fn declare(world: &World, more: Value) {
    world.create_secret("more-values", json!({"values.yaml": more.to_string()})).await;
    let names = ["planted-values", "more-values"].map(|name| json!({"kind": "Secret", "name": name}));
    let chart = json!({"repository": world.repositories().v2});
    let helm = json!({"timeout": "15s"});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "valuesFrom": names, "helm": helm})).await;
}

#[tokio::test]
async fn a_chart_that_fails_with_its_values_tells_none() {
    let world = world("planted-chart").await;
    declare(&world, json!({ "extraTemplates": [TELL] })).await;
    let failure = world.stalled("coder").await.status.unwrap().failure.unwrap();
    for words in ["license pin [redacted] and number [redacted]", "for pre-upgrade at coder.example.com with v2.31.7"] {
        assert!(failure.message.contains(words), "{words}: {}", failure.message);
    }
    assert_eq!(leak(&written(&world).await), None);
    assert_eq!(leak(&shown(&world).await), None);
    world.finish().await;
}

#[tokio::test]
async fn a_log_in_json_tells_none_and_names_its_step_in_each_line() {
    let steps = Steps::with("planted-json", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    steps.set("RUNNER_LOG_FORMAT", "json");
    let values = json!({"planted": planted(), "extraTemplates": [TELL]});
    steps.refused(json!({"version": "2.31.7", "values": values})).await;
    let log = steps.log.borrow().clone();
    assert_eq!(leak(&log), None);
    assert!(log.contains("license pin [redacted] and number [redacted]"), "the failure is told");
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let step = json!({"name": "step", "step": "Plan", "upgrade": "coder", "namespace": steps.world.namespace,
            "job": "step-1-plan"});
        assert_eq!(event["spans"], json!([step]), "{line}");
    }
    steps.world.finish().await;
}

#[tokio::test]
async fn a_pod_that_ends_with_secrets_that_only_it_knows_tells_none() {
    let world = world("planted-pod").await;
    world.create_secret("only-pods", json!({"url": "postgres://coder:hunter/2url@db/x", "key": KEY})).await;
    world.create_secret("all-of-it", json!({"FROM_ALL": "nobody-knows-9Q", "OTP": "12e45678"})).await;
    let reference =
        |name: &str, key: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "only-pods", "key": key}}});
    let crash = "cannot log in with $(DB) nor $(FROM_ALL), $(OTP), $(PLAIN):\n$(TLS_KEY)is no key";
    let env = json!([
        {"name": "CODER_PG_CONNECTION_URL", "valueFrom": {"secretKeyRef": {"name": "coder-db-url", "key": "url"}}},
        reference("DB", "url"),
        reference("TLS_KEY", "key"),
        {"name": "PLAIN", "value": "swordfish-planted"},
        {"name": "CODER_SIM_CRASH", "value": crash},
    ]);
    declare(&world, json!({"coder": {"env": env, "envFrom": [{"secretRef": {"name": "all-of-it"}}]}})).await;
    let failure = world.stalled("coder").await.status.unwrap().failure.unwrap();
    let excerpt = failure.excerpt.unwrap_or_default();
    assert!(excerpt.contains("cannot log in with ") && excerpt.contains("[redacted]"), "{excerpt}");
    assert_eq!(leak(&written(&world).await), None);
    assert_eq!(leak(&shown(&world).await), None);
    world.finish().await;
}

#[tokio::test]
async fn what_the_api_server_repeats_of_a_job_tells_nothing() {
    let world = world("planted-job").await;
    let job = |image: &str| {
        let container = json!({"name": "seed", "image": image, "env": [
            {"name": "PASSWORD", "value": "swordfish-planted"}, {"name": "ODD", "value": "hunter/2&<planted>"},
        ]});
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "seed"}, "spec": {
            "suspend": true, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        }})
    };
    let may = json!({"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["*"]});
    let named = |kind: &str, more: Value| {
        let mut object =
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "jobs"}});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    };
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "jobs"});
    let account = json!([{"kind": "ServiceAccount", "name": "coder-upgrade-runner", "namespace": world.namespace}]);
    world.apply(&named("Role", json!({"rules": [may]}))).await;
    world.apply(&named("RoleBinding", json!({"roleRef": role, "subjects": account}))).await;
    world.apply(&job("seed:1")).await;
    declare(&world, json!({"extraTemplates": [job("seed:2")]})).await;
    // Whether it is adopted, replaced or left: nothing is told of it.
    world
        .until("coder", "decided", |object| {
            crate::common::is(object, "Ready", "True") || crate::common::is(object, "Stalled", "True")
        })
        .await;
    let seen = written(&world).await;
    assert!(seen.contains("Job/seed"), "the Job is in the way");
    assert_eq!(leak(&seen), None);
    world.finish().await;
}

#[tokio::test]
async fn credentials_of_a_repository_are_told_nowhere() {
    let world = World::with_v2("planted-login", "2.30.0", &[]).await;
    let login = json!({"username": "robot", "password": "hunter/2&<planted>"});
    let kind = "kubernetes.io/basic-auth";
    world.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "type": kind, "stringData": login})).await;
    let chart = json!({"repository": world.repositories().private_v2, "credentialsSecretRef": {"name": "login"}, "plainHTTP": true});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart})).await;
    let failed = |object: &CoderUpgrade| object.status.as_ref().is_some_and(|status| status.failure.is_some());
    let failure = world.until("coder", "refused", failed).await.status.unwrap().failure.unwrap();
    assert!(failure.message.contains("401"), "the password was sent, and is wrong: {failure:?}");
    assert_eq!(leak(&written(&world).await), None);
    assert_eq!(leak(&shown(&world).await), None);
    world.finish().await;
}
