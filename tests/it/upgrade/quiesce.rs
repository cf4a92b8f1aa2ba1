//! What an owner's token is for: running builds are waited for before a change, and Coder must find itself well after it.

use std::time::Duration;

use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::api::FailureClass;
use serde_json::{Value, json};
use testbed::sim::owner::TOKEN;

/// The claim of the database.
const CLAIM: &str = "data-database-0";

async fn steps(name: &str, token: &str) -> Steps {
    let steps = Steps::with(name, HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    steps.world.create_secret("owner", json!({"token": token})).await;
    steps
}

fn spec(timeout: &str) -> Value {
    let token = json!({"name": "owner", "key": "token"});
    json!({"version": "2.31.7", "quiesce": {"timeout": timeout}, "verify": {"timeout": "60s", "tokenSecretKeyRef": token}})
}

async fn fault(steps: &Steps, faults: &[(&str, &str)]) {
    steps.world.cluster.fault(&steps.world.namespace, CLAIM, faults).await.unwrap();
}

#[tokio::test]
async fn builds_are_waited_for_and_the_token_is_told_to_nobody() {
    let steps = steps("quiesce", TOKEN).await;
    fault(&steps, &[("CODER_SIM_BUILDS", "3"), ("CODER_SIM_HEALTH", "warning EWP01")]).await;
    steps.plan(spec("3s")).await;
    let problem = steps.fails("upgrade", &[]).await;
    assert_eq!((problem.class, problem.changed), (FailureClass::BuildsRunning, false), "{}", problem.message);
    assert!(problem.message.starts_with("3 workspace builds still run after 3 s"), "{}", problem.message);
    assert_eq!(steps.world.release().await, (1, "deployed".into()), "nothing was changed");

    steps.plan(spec("60s")).await;
    let ended = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        fault(&steps, &[("CODER_SIM_HEALTH", "warning EWP01")]).await;
    };
    let (upgraded, ()) = tokio::join!(steps.upgrade(), ended);
    assert_eq!(upgraded.verified, "1 pod answers 2.31.7, same deployment, with health warnings EWP01");
    assert!(steps.log.borrow().contains("3 workspace builds still run"));
    let jobs = steps.world.kubectl(&["get", "jobs,cu,events", "-o", "yaml"]).await;
    assert!(!steps.log.borrow().contains(TOKEN) && !jobs.contains(TOKEN));
    steps.world.finish().await;
}

#[tokio::test]
async fn a_token_that_does_not_count_is_named_and_nothing_is_changed() {
    let steps = steps("quiesce-token", "a-token-that-has-run-out").await;
    steps.plan(spec("60s")).await;
    let problem = steps.fails("upgrade", &[]).await;
    assert_eq!((problem.class, problem.changed), (FailureClass::SpecInvalid, false), "{}", problem.message);
    assert_eq!(problem.field.as_deref(), Some("spec.verify.tokenSecretKeyRef"));
    assert!(problem.message.contains("401 Unauthorized with the token in Secret/owner"), "{}", problem.message);
    assert!(!steps.log.borrow().contains("a-token-that-has-run-out"));

    steps.world.kubectl(&["delete", "secret", "owner"]).await;
    let problem = steps.fails("upgrade", &[]).await;
    assert_eq!(problem.class, FailureClass::ReferenceMissing, "{}", problem.message);
    assert_eq!(steps.world.release().await, (1, "deployed".into()));
    steps.world.finish().await;
}

#[tokio::test]
async fn a_coder_that_answers_nobody_is_not_waited_for() {
    let steps = steps("quiesce-down", TOKEN).await;
    fault(&steps, &[("CODER_SIM_BUILDS", "3")]).await;
    steps.world.kubectl(&["scale", "deployment/coder", "--replicas=0"]).await;
    steps.world.kubectl(&["wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=coder", "--timeout=60s"]).await;
    steps.plan(spec("60s")).await;
    steps.upgrade().await;
    assert!(steps.log.borrow().contains("they are not waited for"));
    steps.world.finish().await;
}

#[tokio::test]
async fn a_coder_that_is_not_well_is_no_success() {
    let steps = steps("health", TOKEN).await;
    steps.plan(spec("60s")).await;
    fault(&steps, &[("CODER_SIM_HEALTH@2.31.7", "error EDB01")]).await;
    let problem = steps.fails("upgrade", &["--verify-timeout", "4s"]).await;
    assert_eq!(problem.class, FailureClass::VerificationFailed, "{}", problem.message);
    assert!(
        problem.message.ends_with("says that Coder is not well: database EDB01: as asked for"),
        "{}",
        problem.message
    );

    fault(&steps, &[]).await;
    let upgraded = steps.upgrade().await;
    assert_eq!(upgraded.verified, "1 pod answers 2.31.7, same deployment");
    steps.world.finish().await;
}
