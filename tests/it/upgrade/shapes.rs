//! Objects and workloads as people really have them: what helm refuses, waits for, or counts in another way than one might think.

use crate::common::steps::{HelmMajor, Steps};
use crate::common::{World, copy, program};
use coder_upgrade_operator::api::{CheckName, FailureClass, Finding, Phase, PlannedAction, Remedy, Severity};
use coder_upgrade_operator::core::report::PlanReport;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Secret;
use rstest::rstest;
use serde_json::{Value, json};
use testbed::charts::charts_dir;
use testbed::components::Component;

/// A workload of its own beside Coder, called coder-NAME: names that stand in values are hidden in messages.
fn workload(kind: &str, name: &str, spec: &Value) -> Value {
    let labels = json!({"app": "main"});
    let own = format!("{{{{ .Release.Name }}}}-{name}");
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": own},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels, "annotations": {"chart": "{{ .Chart.Version }}"}},
            "spec": {"containers": [{"name": "main", "image": "example.com/thing:{{ .Chart.Version }}"}]},
        }},
    });
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    object
}

fn with(objects: &[Value]) -> Value {
    json!({"extraTemplates": objects})
}

/// A world in which the release has these objects, brought by the helm of the runner.
async fn holding(name: &str, helm: HelmMajor, objects: &[Value]) -> Steps {
    let steps = Steps::with(name, helm, |r| &r.v2, "2.30.0", &[]).await;
    steps.plan(json!({"version": "2.30.0", "values": with(objects)})).await;
    steps.upgrade().await;
    steps
}

fn told(planned: &PlanReport, check: CheckName) -> Vec<&Finding> {
    planned.findings.iter().filter(|finding| finding.check == check).collect()
}

/// The update strategy changes, and with server-side apply the API server's default for the old one is left over.
#[rstest]
#[case::deployment("Deployment", "strategy", "Recreate", HelmMajor::Four)]
#[case::deployment_helm_3("Deployment", "strategy", "Recreate", HelmMajor::Three)]
#[case::stateful_set("StatefulSet", "updateStrategy", "OnDelete", HelmMajor::Four)]
#[tokio::test]
async fn another_update_strategy_is_taken(
    #[case] kind: &str,
    #[case] field: &str,
    #[case] strategy: &str,
    #[case] helm: HelmMajor,
) {
    let of = |strategy: &str| workload(kind, "worker", &json!({field: {"type": strategy}}));
    let steps = holding("strategy", helm, &[of("RollingUpdate")]).await;
    let object = format!("{kind}/coder-worker").to_lowercase();
    let planned = steps.plan(json!({"version": "2.31.7", "values": with(&[of(strategy)])})).await;
    let repairs: Vec<_> = planned.plan.forecast.repairs.iter().map(|r| (r.remedy, r.object.as_str())).collect();
    let named = format!("{kind}/coder-worker");
    match helm {
        HelmMajor::Four if kind == "Deployment" => assert_eq!(repairs, [(Remedy::Replace, named.as_str())]),
        _ => assert!(repairs.iter().all(|repair| *repair == (Remedy::Replace, named.as_str())), "{repairs:?}"),
    }
    steps.upgrade().await;
    let now = steps.world.kubectl(&["get", &object, "-o", &format!("jsonpath={{.spec.{field}}}")]).await;
    assert_eq!(now, format!(r#"{{"type":"{strategy}"}}"#));
    steps.world.finish().await;
}

/// What the values say themselves is no left-over: it is refused as it stands.
#[tokio::test]
async fn a_strategy_that_contradicts_itself_is_refused() {
    let of = |strategy: Value| workload("Deployment", "worker", &json!({"strategy": strategy}));
    let steps = holding("strategy-wrong", HelmMajor::Four, &[of(json!({"type": "RollingUpdate"}))]).await;
    let wrong = json!({"type": "Recreate", "rollingUpdate": {"maxSurge": 1}});
    let problem = steps.refused(json!({"version": "2.31.7", "values": with(&[of(wrong)])})).await;
    assert_eq!(problem.class, FailureClass::ObjectInvalid, "{problem:?}");
    assert_eq!(problem.object.as_deref(), Some("Deployment/coder-worker"));
    assert_eq!(steps.world.release().await, (2, "deployed".into()));
    steps.world.finish().await;
}

#[rstest]
#[case::on_delete(json!({"type": "OnDelete"}), "OnDelete")]
#[case::partition(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}), "partition")]
#[tokio::test]
async fn pods_that_the_update_strategy_holds_back_are_no_failure(#[case] strategy: Value, #[case] words: &str) {
    let set =
        workload("StatefulSet", "cache", &json!({"replicas": 2, "serviceName": "cache", "updateStrategy": strategy}));
    for helm in [HelmMajor::Four, HelmMajor::Three] {
        let steps = holding("held-back", helm, std::slice::from_ref(&set)).await;
        let planned = steps.plan(json!({"version": "2.31.7"})).await;
        let found = told(&planned, CheckName::Rollout);
        assert!(found.len() == 1 && found[0].message.contains(words), "{found:?}");
        assert!(!planned.plan.forecast.interruption.reason.contains("2 pods one after"), "{:?}", planned.plan.forecast);
        steps.upgrade().await;
        let now = steps.world.api::<StatefulSet>().get("coder-cache").await.unwrap();
        let updated = now.status.unwrap().updated_replicas.unwrap_or_default();
        assert_eq!(updated, i32::from(words == "partition"), "the others wait for a person");
        steps.world.finish().await;
    }
}

/// A kind of its own, whose objects say in their status whether they are ready. Nobody makes them ready.
async fn define(world: &World) -> String {
    let group = format!("{}.example.com", world.namespace);
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}});
    world
        .apply(&json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("certificates.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Certificate", "plural": "certificates"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema, "subresources": {"status": {}}}]}
        }))
        .await;
    let definition = format!("crd/certificates.{group}");
    world.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &definition]).await;
    let runner = format!("--serviceaccount={}:coder-upgrade-runner", world.namespace);
    world.kubectl(&["create", "role", "custom", "--verb=*", &format!("--resource=certificates.{group}")]).await;
    world.kubectl(&["create", "rolebinding", "custom", "--role=custom", &runner]).await;
    group
}

async fn is_ready(world: &World, group: &str, status: &str) {
    let condition = json!({"type": "Ready", "status": status, "reason": "Pending", "message": "no issuer"});
    let patch = json!({"status": {"conditions": [condition]}}).to_string();
    let object = format!("certificates.{group}");
    world.kubectl(&["patch", &object, "coder-tls", "--subresource=status", "--type=merge", "--patch", &patch]).await;
}

#[tokio::test]
async fn a_custom_resource_that_never_becomes_ready_is_told_before_during_and_after() {
    let steps = Steps::with("custom-wait", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    let world = &steps.world;
    let group = define(world).await;
    let certificate = json!({"apiVersion": format!("{group}/v1"), "kind": "Certificate", "metadata": {"name": "{{ .Release.Name }}-tls"},
        "spec": {"chart": "{{ .Chart.Version }}"}});
    let values = with(&[certificate]);
    steps.plan(json!({"version": "2.30.0", "values": values})).await;
    steps.upgrade().await;
    is_ready(world, &group, "False").await;
    let spec = json!({"version": "2.31.7", "values": values});
    let planned = steps.plan(spec.clone()).await;
    let found = told(&planned, CheckName::Rollout);
    assert!(found.len() == 1 && found[0].severity == Severity::Warning, "{found:?}");
    assert_eq!(found[0].object.as_deref(), Some("Certificate/coder-tls"));
    assert!(found[0].message.contains("no issuer"), "{found:?}");
    let problem = steps.fails("upgrade", &["--helm-timeout", "25s"]).await;
    assert_eq!(
        (problem.class, problem.object.as_deref()),
        (FailureClass::ObjectNotReady, Some("Certificate/coder-tls"))
    );
    assert!(problem.class.next_step().contains("object that the message names"));
    let log = steps.log.borrow().clone();
    assert!(
        log.contains("all pods are ready; helm waits for Certificate/coder-tls: Ready is False: Pending, no issuer")
    );
    // Once it is ready, nothing is left of that.
    is_ready(world, &group, "True").await;
    let planned = steps.plan(spec).await;
    assert!(told(&planned, CheckName::Rollout).is_empty(), "{:?}", planned.findings);
    assert!(steps.upgrade().await.verified.starts_with("1 pod answers 2.31.7"));
    steps.world.finish().await;
}

#[tokio::test]
async fn helm_3_waits_for_no_custom_resource() {
    let steps = Steps::with("custom-three", HelmMajor::Three, |r| &r.v2, "2.30.0", &[]).await;
    let group = define(&steps.world).await;
    let certificate = json!({"apiVersion": format!("{group}/v1"), "kind": "Certificate", "metadata": {"name": "{{ .Release.Name }}-tls"}, "spec": {}});
    let values = with(&[certificate]);
    steps.plan(json!({"version": "2.30.0", "values": values})).await;
    steps.upgrade().await;
    is_ready(&steps.world, &group, "False").await;
    let planned = steps.plan(json!({"version": "2.31.7", "values": values})).await;
    assert!(told(&planned, CheckName::Rollout).is_empty(), "{:?}", planned.findings);
    steps.upgrade().await;
    steps.world.finish().await;
}

/// A Secret that the chart made and into which somebody else has written; its type changes, so it must be replaced.
fn secret(kind: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "{{ .Release.Name }}-tls"}, "type": kind, "stringData": data})
}

#[tokio::test]
async fn keys_of_others_in_a_secret_that_is_replaced_are_asked_about() {
    let keys = json!({"tls.crt": "certificate", "tls.key": "key"});
    let world = World::with_v2("secret-keys", "2.30.0", &[]).await;
    let chart = json!({"repository": world.repositories().v2});
    let spec = |version: &str, secret: Value| json!({"version": version, "chart": chart, "values": with(&[secret])});
    world.declare("coder", spec("2.30.0", secret("Opaque", &keys))).await;
    world.ready("coder").await;
    world
        .kubectl(&["patch", "secret", "coder-tls", "--patch", r#"{"stringData": {"extra": "from-somebody-else"}}"#])
        .await;
    world.declare("coder", spec("2.31.7", secret("kubernetes.io/tls", &keys))).await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;
    let status = object.status.unwrap();
    let repair = &status.plan.as_ref().unwrap().forecast.repairs[0];
    assert_eq!((repair.remedy, repair.object.as_str()), (Remedy::Replace, "Secret/coder-tls"));
    assert!(repair.needs_approval && repair.message.contains("key extra"), "{repair:?}");
    assert!(!repair.message.contains("from-somebody-else"));
    let kept = world.api::<Secret>().get("coder-tls").await.unwrap();
    assert!(kept.data.unwrap().contains_key("extra"), "nothing was changed");
    // As the message says: into the values.
    let all = json!({"tls.crt": "certificate", "tls.key": "key", "extra": "from-somebody-else"});
    world.declare("coder", spec("2.31.7", secret("kubernetes.io/tls", &all))).await;
    world.ready("coder").await;
    let now = world.api::<Secret>().get("coder-tls").await.unwrap();
    assert_eq!(now.type_.as_deref(), Some("kubernetes.io/tls"));
    assert!(now.data.unwrap().contains_key("extra"));
    world.finish().await;
}

#[tokio::test]
async fn a_secret_without_keys_of_others_is_replaced_at_once() {
    let keys = json!({"tls.crt": "certificate", "tls.key": "key"});
    let steps = holding("secret-own", HelmMajor::Four, &[secret("Opaque", &keys)]).await;
    let planned = steps.plan(json!({"version": "2.31.7", "values": with(&[secret("kubernetes.io/tls", &keys)])})).await;
    assert!(!planned.plan.forecast.needs_approval(), "{:?}", planned.plan.forecast.repairs);
    steps.upgrade().await;
    steps.world.finish().await;
}

/// A sub-chart that demands its password on an upgrade, as many do.
const PASSWORD: &str = r#"
{{- if and .Release.IsUpgrade (not .Values.coder.labels.password) }}
{{- fail "PASSWORDS ERROR: you must provide your current passwords when upgrading the release" }}
{{- end }}
apiVersion: v1
kind: Secret
metadata: {name: generated}
stringData: {password: {{ .Values.coder.labels.password | default (randAlphaNum 10) | quote }}}
"#;

#[rstest]
#[case::repair("Repair")]
#[case::reinstall("Reinstall")]
#[tokio::test]
async fn a_chart_that_asks_for_its_password_is_heard_and_nothing_is_changed(#[case] recovery: &str) {
    let steps = Steps::empty("password", HelmMajor::Four, |r| &r.v2).await;
    steps.world.database().await;
    let values = json!({"extraTemplates": [PASSWORD], "coder": {"env": [
        {"name": "CODER_PG_CONNECTION_URL", "valueFrom": {"secretKeyRef": {"name": "coder-db-url", "key": "url"}}}]}});
    steps.plan(json!({"version": "2.30.0", "values": values})).await;
    steps.upgrade().await;
    let before = steps.identities(&["secret/generated"]).await;
    let problem = steps.refused(json!({"version": "2.31.7", "recovery": recovery})).await;
    assert_eq!(problem.class, FailureClass::RenderFailed);
    // The rest of its words stands in the values here, and is hidden.
    assert!(
        problem.message.contains("execution error at (coder/templates/extra.yaml:3:3): PASSWORDS ERROR"),
        "{problem:?}"
    );
    assert_eq!(steps.identities(&["secret/generated"]).await, before);
    steps.world.finish().await;
}

/// A password that is recreated with each rendering is no reason to upgrade again and again, and the plan says what changes.
#[tokio::test]
async fn a_random_password_is_no_change_of_the_release() {
    let template = "apiVersion: v1\nkind: Secret\nmetadata: {name: generated}\nstringData: {password: {{ randAlphaNum 10 | quote }}}\n";
    let steps = Steps::with("random", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    let values = json!({"extraTemplates": [template]});
    steps.plan(json!({"version": "2.31.7", "values": values})).await;
    steps.upgrade().await;
    assert_eq!(steps.plan(json!({"version": "2.31.7", "values": values})).await.plan.action, PlannedAction::Nothing);
    steps.world.finish().await;
}

#[rstest]
#[case::helm_3(HelmMajor::Three, true)]
#[case::helm_4(HelmMajor::Four, false)]
#[tokio::test]
async fn an_address_that_never_comes_is_told_where_helm_waits_for_it(#[case] helm: HelmMajor, #[case] waits: bool) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "{{ .Release.Name }}-lonely", "annotations": {"chart": "{{ .Chart.Version }}"}},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/none", "ports": [{"port": 80}]},
    });
    let steps = Steps::with("no-address", helm, |r| &r.v2, "2.30.0", &[]).await;
    let values = with(std::slice::from_ref(&service));
    steps.upgrade_by_hand("2.30.0", &["--set-json", &format!("extraTemplates=[{service}]")]).await;
    let planned = steps.plan(json!({"version": "2.31.7", "values": values})).await;
    let found = told(&planned, CheckName::Rollout);
    assert_eq!(found.len(), usize::from(waits), "{found:?}");
    if waits {
        assert_eq!(found[0].object.as_deref(), Some("Service/coder-lonely"));
        let problem = steps.fails("upgrade", &["--helm-timeout", "25s"]).await;
        let named = (problem.class, problem.object.as_deref());
        assert_eq!(named, (FailureClass::ObjectNotReady, Some("Service/coder-lonely")), "{}", problem.message);
    } else {
        steps.upgrade().await;
    }
    steps.world.finish().await;
}

#[tokio::test]
async fn a_claim_that_nobody_mounts_is_told() {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "{{ .Release.Name }}-scratch"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "none-such", "resources": {"requests": {"storage": "1Mi"}}},
    });
    let steps = Steps::with("unmounted", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    let planned = steps.plan(json!({"version": "2.31.7", "values": with(&[claim])})).await;
    let found = told(&planned, CheckName::Rollout);
    assert!(found.len() == 1 && found[0].message.contains("mounted by no pod"), "{found:?}");
    let problem = steps.fails("upgrade", &["--helm-timeout", "20s"]).await;
    let named = (problem.class, problem.object.as_deref());
    assert_eq!(
        named,
        (FailureClass::ObjectNotReady, Some("PersistentVolumeClaim/coder-scratch")),
        "{}",
        problem.message
    );
    steps.world.finish().await;
}

/// Templates that ask which APIs there are get an answer although one API is broken.
#[tokio::test]
async fn a_broken_api_is_no_obstacle_and_capabilities_are_those_of_the_cluster() {
    let template = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: capabilities}
data:
  deployments: {{ .Capabilities.APIVersions.Has "apps/v1/Deployment" | quote }}
  nonsense: {{ .Capabilities.APIVersions.Has "nonsense.example.com/v1" | quote }}
"#;
    let steps = Steps::with("capabilities", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    let group = format!("{}.example.com", steps.world.namespace);
    let service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": format!("v1.{group}")},
        "spec": {"group": group, "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"name": "nobody", "namespace": steps.world.namespace}},
    });
    steps.world.apply(&service).await;
    steps.plan(json!({"version": "2.31.7", "values": {"extraTemplates": [template]}})).await;
    steps.upgrade().await;
    let found = steps.world.kubectl(&["get", "configmap", "capabilities", "-o", "jsonpath={.data}"]).await;
    assert_eq!(found, r#"{"deployments":"true","nonsense":"false"}"#);
    steps.world.kubectl(&["delete", "apiservice", &format!("v1.{group}")]).await;
    steps.world.finish().await;
}

/// Two values that exclude each other: the one that is kept is named as such.
#[tokio::test]
async fn a_kept_value_that_contradicts_a_new_one_is_told_and_can_be_dropped() {
    let rule = r#"
{{- if and .Values.coder.labels.psk .Values.coder.labels.key }}
{{- fail "Either specify coder.labels.key or coder.labels.psk, but not both." }}
{{- end }}
"#;
    let settings = ["coder.labels.psk=old"];
    let steps = Steps::with("either", HelmMajor::Four, |r| &r.v2, "2.30.0", &settings).await;
    let spec = |drop: &[&str]| {
        json!({"version": "2.31.7", "dropValues": drop,
        "values": {"extraTemplates": [rule], "coder": {"labels": {"key": "new"}}}})
    };
    let problem = steps.refused(spec(&[])).await;
    assert_eq!(problem.class, FailureClass::RenderFailed);
    assert!(problem.message.contains("but not both"), "{problem:?}");
    assert!(
        problem.message.contains("coder.labels.psk is a value that the installed release was given"),
        "{problem:?}"
    );
    steps.plan(spec(&["coder.labels.psk"])).await;
    steps.upgrade().await;
    let labels = steps.world.api::<Deployment>().get("coder").await.unwrap().metadata.labels.unwrap();
    assert!(labels.contains_key("key") && !labels.contains_key("psk"), "{labels:?}");
    steps.world.finish().await;
}

/// A chart with a definition in `crds/` and an object of that kind: helm applies the definition before everything else.
#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn a_chart_may_bring_a_definition_and_an_object_of_its_kind(#[case] helm: HelmMajor) {
    let steps = Steps::empty("definitions", helm, |r| &r.v2).await;
    let world = &steps.world;
    world.database().await;
    let group = format!("{}.example.com", world.namespace);
    let chart = tempfile::tempdir().unwrap();
    let chart = chart.path().join("coder");
    copy(&charts_dir().join("coder-v2"), &chart);
    let about = std::fs::read_to_string(chart.join("Chart.yaml")).unwrap().replace("0.0.0", "2.31.7");
    std::fs::write(chart.join("Chart.yaml"), about).unwrap();
    std::fs::create_dir(chart.join("crds")).unwrap();
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": open}}]},
    });
    std::fs::write(chart.join("crds/widgets.yaml"), definition.to_string()).unwrap();
    let widget =
        json!({"apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": {"name": "coder"}, "spec": {}});
    std::fs::write(chart.join("templates/widget.yaml"), widget.to_string()).unwrap();
    let repository = world.repositories().extra(&world.namespace);
    let program = tokio::task::spawn_blocking(|| program(Component::Helm)).await.unwrap();
    repository.publish_directory(&program, &chart, "coder-2.31.7.tgz").await.unwrap();
    // Definitions are the cluster's: whoever installs such a chart needs the right to make them.
    let runner = format!("--serviceaccount={}:coder-upgrade-runner", world.namespace);
    let name = format!("definitions-{}", world.namespace);
    world
        .cluster
        .kubectl(&["create", "clusterrolebinding", &name, "--clusterrole=cluster-admin", &runner])
        .await
        .unwrap();
    let url = json!({"name": "CODER_PG_CONNECTION_URL", "valueFrom": {"secretKeyRef": {"name": "coder-db-url", "key": "url"}}});
    let spec =
        json!({"version": "2.31.7", "chart": {"repository": repository.url()}, "values": {"coder": {"env": [url]}}});
    let planned = steps.plan(spec).await;
    let unseen = planned.plan.forecast.not_rehearsed.join("; ");
    assert!(unseen.contains("Widget/coder") && unseen.contains("definitions in crds/widgets.yaml"), "{unseen}");
    steps.upgrade().await;
    assert!(!steps.uid(&format!("widgets.{group}/coder")).await.is_empty());
    world.cluster.kubectl(&["delete", "clusterrolebinding", &name]).await.unwrap();
    world.kubectl(&["delete", "crd", &format!("widgets.{group}")]).await;
    steps.world.finish().await;
}
