//! Charts that refuse an upgrade by a rule of their own, as those do that want their passwords again: such a refusal is no reason to
//! repair, and no repair goes before it.

use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::api::{FailureClass, Recovery, Remedy};
use rstest::rstest;
use serde_json::json;

/// A password that is made by chance, and the rule that an upgrade is given it.
const TEMPLATES: [&str; 2] = [
    "{apiVersion: v1, kind: Secret, metadata: {name: passwords}, stringData: {password: {{ .Values.password | default (randAlphaNum 20) }}}}",
    "{{ if and .Release.IsUpgrade (not .Values.password) }}{{ fail \"PASSWORDS ERROR: set password\" }}{{ end }}",
];
const PASSWORD: [&str; 5] = ["get", "secret", "passwords", "-o", "jsonpath={.metadata.uid} {.data.password}"];
const RECORD: &str = "sh.helm.release.v1.coder.v1";

/// A release of that chart, and the password that it got.
async fn installed(name: &str, helm: HelmMajor) -> (Steps, String) {
    let steps = Steps::empty(name, helm, |r| &r.faults).await;
    let world = &steps.world;
    world.database().await;
    let extra = format!("extraTemplates={}", json!(TEMPLATES));
    let values = testbed::charts::charts_dir().join("coder-v2-values.yaml");
    let mut install = vec!["install", "coder", "coder", "--repo", &world.repositories().faults, "--version", "2.31.6"];
    install.extend(["--set-json", &extra, "--values", values.to_str().unwrap(), "--wait", "--timeout", "3m"]);
    steps.helm(&install).await;
    let password = world.kubectl(&PASSWORD).await;
    (steps, password)
}

/// What the rule lets pass is repaired as always; what it refuses changes nothing, whatever is allowed.
async fn only_the_chart_refuses(steps: &Steps, password: &str, version: &str, remedy: Remedy) {
    let world = &steps.world;
    let record = async || world.kubectl(&["get", "secret", RECORD, "-o", "jsonpath={.metadata.resourceVersion}"]).await;
    let before = record().await;
    for recovery in [Recovery::Stop, Recovery::Repair, Recovery::Reinstall] {
        let problem = steps.refused(json!({"version": version, "recovery": recovery.to_string()})).await;
        assert_eq!((problem.class, problem.remedy), (FailureClass::RenderFailed, None), "{problem:?}");
        assert!(problem.message.contains("PASSWORDS ERROR: set password"), "{}", problem.message);
    }
    assert_eq!(world.kubectl(&PASSWORD).await, password);
    assert_eq!((world.release().await, record().await), ((1, "deployed".into()), before), "nothing was changed");

    let planned = steps.plan(json!({"version": version, "values": {"password": "of-the-administrator"}})).await;
    let repairs = &planned.plan.forecast.repairs;
    assert!(!repairs.is_empty() && repairs.iter().all(|repair| repair.remedy == remedy), "{repairs:?}");
    assert_eq!(steps.upgrade().await.current.revision, 2);
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn a_selector_that_changes_is_not_repaired_against_the_rule(#[case] helm: HelmMajor) {
    let (steps, password) = installed("rule-selector", helm).await;
    only_the_chart_refuses(&steps, &password, "2.31.13", Remedy::Replace).await;
    steps.world.finish().await;
}

/// helm cannot look at an upgrade then: rendered as an install, the chart would have no objection.
#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn removed_apis_are_not_rewritten_against_the_rule(#[case] helm: HelmMajor) {
    let (steps, password) = installed("rule-apis", helm).await;
    let old = |manifest: &str| {
        let old = manifest.replace("rbac.authorization.k8s.io/v1\n", "rbac.authorization.k8s.io/v1beta1\n");
        assert!(old.contains("rbac.authorization.k8s.io/v1beta1"), "{old}");
        old
    };
    steps.world.edit_manifest(RECORD, old).await;
    only_the_chart_refuses(&steps, &password, "2.31.7", Remedy::RewriteApis).await;
    steps.world.finish().await;
}
