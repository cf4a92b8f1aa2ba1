//! Patches that a post-renderer of helm has made are no part of chart and values: an upgrade without it would undo them.

use crate::common::post_renderer::PostRenderer;
use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::api::{CheckName, FailureClass, Finding, Severity};
use rstest::rstest;
use serde_json::{Value, json};
use testbed::charts::charts_dir;

fn found(findings: &[Finding]) -> Option<&Finding> {
    findings.iter().find(|finding| finding.check == CheckName::PostRenderer)
}

/// Coder 2.30.0, installed by that helm with a post-renderer.
async fn installed(name: &str, helm: HelmMajor, kustomization: &Value) -> Steps {
    let steps = Steps::empty(name, helm, |r| &r.v2).await;
    let world = &steps.world;
    world.database().await;
    let values = charts_dir().join("coder-v2-values.yaml");
    let repository = &world.repositories().v2;
    let mut install = vec!["install", "coder", "coder", "--repo", repository, "--version", "2.30.0"];
    install.extend(["--values", values.to_str().unwrap(), "--wait", "--timeout", "3m"]);
    PostRenderer::new(world, helm, kustomization.clone()).helm(world, &install).await;
    steps
}

fn priority() -> Value {
    let add = r#"[{"op": "add", "path": "/spec/template/spec/priorityClassName", "value": "system-cluster-critical"}]"#;
    json!({"patches": [{"target": {"kind": "Deployment", "name": "coder"}, "patch": add}]})
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn a_patched_field_is_kept_by_a_value_or_let_go_by_name(#[case] helm: HelmMajor) {
    let steps = installed("patched", helm, &priority()).await;
    let world = &steps.world;
    let class = async || {
        world.kubectl(&["get", "deployment", "coder", "-o", "jsonpath={.spec.template.spec.priorityClassName}"]).await
    };
    assert_eq!(class().await, "system-cluster-critical");
    let problem = steps.refused(json!({"version": "2.31.7"})).await;
    assert_eq!(problem.class, FailureClass::CheckRefused, "{problem:?}");
    let refusal = found(&problem.findings).unwrap();
    assert_eq!((refusal.severity, refusal.object.as_deref()), (Severity::Refusal, Some("Deployment/coder")));
    assert_eq!(refusal.field.as_deref(), Some("spec.template.spec.priorityClassName"));
    assert!(
        refusal.message.contains("Deployment/coder has another spec.template.spec.priorityClassName. "),
        "{refusal:?}"
    );
    assert_eq!((world.release().await, class().await), ((1, "deployed".into()), "system-cluster-critical".into()));

    let planned = steps.plan(json!({"version": "2.31.7", "overrides": ["PostRenderer"]})).await;
    assert_eq!(found(&planned.findings).unwrap().severity, Severity::Overridden);

    let kept = json!({"version": "2.31.7", "values": {"coder": {"priorityClassName": "system-cluster-critical"}}});
    let planned = steps.plan(kept).await;
    assert_eq!(found(&planned.findings), None);
    steps.upgrade().await;
    assert_eq!(class().await, "system-cluster-critical");
    // The release is what its chart gives from now on.
    assert_eq!(found(&steps.plan(json!({"version": "2.32.0"})).await.findings), None);
    steps.world.finish().await;
}

/// Labels on all objects, an object more, one less, and another image.
#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn each_kind_of_patch_is_named(#[case] helm: HelmMajor) {
    let delete = "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: any}, $patch: delete}";
    let kustomization = json!({
        "labels": [{"pairs": {"team": "platform"}, "includeTemplates": true}],
        "configMapGenerator": [{"name": "authorities", "literals": ["ca.crt=x"], "options": {"disableNameSuffixHash": true}}],
        "patches": [{"target": {"kind": "RoleBinding"}, "patch": delete}],
    });
    let steps = installed("kustomized", helm, &kustomization).await;
    let problem = steps.refused(json!({"version": "2.31.7"})).await;
    let message = &found(&problem.findings).unwrap().message;
    for words in ["metadata.labels.team", "ConfigMap/authorities is added", "RoleBinding/coder is left out"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    steps.world.finish().await;
}

/// What a chart renders differently each time, whoever rendered it.
#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn what_a_chart_renders_by_chance_or_by_the_cluster_is_no_patch(#[case] helm: HelmMajor) {
    let templates = [
        // By chance, by the clock, and what depends on them.
        r"{apiVersion: v1, kind: Secret, metadata: {name: passwords}, stringData: {a: {{ randAlphaNum 20 | quote }}}}",
        r#"{apiVersion: v1, kind: ConfigMap, metadata: {name: chance, labels: {day: {{ now | unixEpoch | quote }}}},
            data: {a: {{ randAlphaNum 20 | quote }}, b: {{ randNumeric 1 | quote }}, c: {{ genCA "coder" 365 | toString | sha256sum }}}}"#,
        r#"{apiVersion: v1, kind: ConfigMap, metadata: {name: {{ printf "named-%s" (randAlpha 9 | lower) }}}}"#,
        // By the cluster: it is there only until it is there, and from then on has a note.
        r#"{{ if not (lookup "v1" "ConfigMap" .Release.Namespace "once") }}{apiVersion: v1, kind: ConfigMap, metadata: {name: once,
            annotations: {helm.sh/resource-policy: keep}}}{{ end }}"#,
        r#"{apiVersion: v1, kind: ConfigMap, metadata: {name: looks}, data: {deployment:
            {{ lookup "apps/v1" "Deployment" .Release.Namespace "coder" | empty | quote }}}}"#,
        // By helm and its release.
        r#"{apiVersion: v1, kind: ConfigMap, metadata: {name: release}, data: {revision: {{ .Release.Revision | quote }},
            install: {{ .Release.IsInstall | quote }}, helm: {{ .Capabilities.HelmVersion.Version | quote }},
            kubernetes: {{ .Capabilities.KubeVersion.Version | quote }}, most: {{ .Values.most | quote }},
            coder: {{ .Capabilities.APIVersions.Has "coderupgrade.dev/v1alpha1" | quote }}}}"#,
    ];
    let values = json!({"extraTemplates": templates});
    let extra = format!("extraTemplates={}", values["extraTemplates"]);
    let steps = Steps::empty("unsteady", helm, |r| &r.v2).await;
    let world = &steps.world;
    world.database().await;
    let file = charts_dir().join("coder-v2-values.yaml");
    let repository = &world.repositories().v2;
    let mut install =
        vec!["install", "coder", "coder", "--repo", repository, "--version", "2.30.0", "--set", "most=10000000"];
    install.extend(["--set-json", &extra, "--values", file.to_str().unwrap(), "--wait", "--timeout", "3m"]);
    steps.helm(&install).await;
    for _ in 0..2 {
        let planned = steps.plan(json!({"version": "2.31.7"})).await;
        assert_eq!(found(&planned.findings), None);
        // The next revision, by the administrator.
        steps.upgrade_by_hand("2.30.0", &["--wait"]).await;
    }
    // Either helm has rendered it.
    let other = match helm {
        HelmMajor::Three => HelmMajor::Four,
        HelmMajor::Four => HelmMajor::Three,
    };
    steps.run_with(other).await;
    assert_eq!(found(&steps.plan(json!({"version": "2.31.7"})).await.findings), None);
    steps.world.finish().await;
}
