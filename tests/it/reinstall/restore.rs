//! P2 and P5: when the new version cannot be brought up and never started, the saved release comes back, and nothing of
//! the new one stays.

use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::api::FailureClass;
use rstest::rstest;
use serde_json::{Value, json};

/// Values with which no new pod ever starts, an Ingress and a claim come in, and the Service goes.
fn hopeless() -> Value {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "extra"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}}
    });
    json!({
        "coder": {
            "podAnnotations": {"testbed.coderupgrade.dev/pull-error": "manifest unknown"},
            "service": {"enable": false},
            "ingress": {"enable": true, "host": "coder.example.com"},
        },
        "extraTemplates": [claim],
    })
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn the_saved_release_comes_back_after_a_failed_upgrade(#[case] helm: HelmMajor) {
    let steps = Steps::with("restore-upgrade", helm, |r| &r.v2, "2.30.0", &[]).await;
    let values = steps.world.values().await;
    steps.plan(json!({"version": "2.31.7", "values": hopeless()})).await;
    let problem = steps.fails("upgrade", &["--helm-timeout", "5s"]).await;
    assert_eq!(problem.class, FailureClass::RolloutTimedOut, "{}", problem.message);
    let claim = steps.uid("pvc/extra").await;
    assert!(!claim.is_empty() && !steps.uid("ingress/coder").await.is_empty());

    let restored = steps.restore(&[]).await;
    assert_eq!((restored.current.version.as_str(), restored.current.revision), ("2.30.0", 3));
    assert!(restored.verified.starts_with("1 pod answers 2.30.0, same deployment"), "{}", restored.verified);
    assert!(!steps.uid("service/coder").await.is_empty(), "it is part of the saved release");
    assert!(steps.uid("ingress/coder").await.is_empty(), "the failed upgrade had made it");
    assert_eq!(steps.uid("pvc/extra").await, claim, "no claim is ever deleted");
    assert_eq!(steps.world.values().await, values);
    let labels = steps.world.kubectl(&["get", "secret", "sh.helm.release.v1.coder.v3", "--show-labels"]).await;
    assert!(labels.contains("coderupgrade.dev/restored=3"), "{labels}");

    assert_eq!(steps.restore(&[]).await.current.revision, 3, "an earlier try has done it");

    steps.plan(json!({"version": "2.31.7"})).await;
    let upgraded = steps.upgrade().await;
    assert_eq!((upgraded.current.version.as_str(), upgraded.current.revision), ("2.31.7", 4), "no restore any more");
    steps.world.finish().await;
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn the_saved_release_comes_back_after_an_uninstall(#[case] helm: HelmMajor) {
    let steps = Steps::with("restore-uninstalled", helm, |r| &r.v2, "2.30.0", &[]).await;
    let address = steps.identities(&["service/coder"]).await;
    let mut values = hopeless();
    values["coder"]["service"] = json!({});
    steps.plan(json!({"version": "2.31.7", "values": values})).await;
    steps.uninstall(&[]).await;
    steps.fails("install", &["--helm-timeout", "5s"]).await;
    let claim = steps.uid("pvc/extra").await;

    let restored = steps.restore(&[]).await;
    assert_eq!((restored.current.version.as_str(), restored.current.status.as_str()), ("2.30.0", "deployed"));
    assert_eq!(steps.identities(&["service/coder"]).await, address);
    assert!(steps.uid("ingress/coder").await.is_empty());
    assert_eq!(steps.uid("pvc/extra").await, claim, "no claim is ever deleted");
    steps.world.finish().await;
}

#[tokio::test]
async fn nothing_is_restored_over_a_database_that_may_be_newer() {
    let steps = Steps::with("restore-refused", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    steps.plan(json!({"version": "2.31.7"})).await;
    let problem = steps.fails("restore", &["--new-version-started", "true"]).await;
    assert_eq!((problem.class, problem.changed), (FailureClass::Downgrade, false));
    steps.world.finish().await;
}
