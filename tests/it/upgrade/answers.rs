//! P6 with what servers really answer: behind a redirect, a mesh or a network policy, without their database, and not well
//! already before the change. What cannot be verified is said in the plan, and never fails a change that went well.

use std::time::Duration;

use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::api::{CheckName, FailureClass, Finding, Severity};
use coder_upgrade_operator::core::report::PlanReport;
use rstest::rstest;
use serde_json::{Value, json};
use testbed::sim::owner::TOKEN;

/// The claim of the database.
const CLAIM: &str = "data-database-0";

async fn installed(name: &str, settings: &[&str]) -> Steps {
    Steps::with(name, HelmMajor::Four, |r| &r.v2, "2.30.0", settings).await
}

fn spec() -> Value {
    json!({"version": "2.31.7", "verify": {"timeout": "20s"}})
}

fn with_token() -> Value {
    let token = json!({"name": "owner", "key": "token"});
    json!({"version": "2.31.7", "quiesce": {"timeout": "30s"}, "verify": {"timeout": "20s", "tokenSecretKeyRef": token}})
}

fn about_answers(planned: &PlanReport) -> Option<&Finding> {
    planned.findings.iter().find(|finding| finding.check == CheckName::ServerAnswers)
}

#[rstest]
#[case::https("redirect-tls", "https://coder.example.com", true)]
#[case::http("redirect-plain", "http://coder.example.com", false)]
#[tokio::test]
async fn a_server_that_redirects_is_verified_by_what_it_still_tells(
    #[case] name: &str,
    #[case] url: &str,
    #[case] withheld: bool,
) {
    let url = format!("coder.env[0].value={url}");
    let redirect = ["coder.env[2].name=CODER_REDIRECT_TO_ACCESS_URL", "coder.env[2].value=t", url.as_str()];
    let steps = installed(name, &redirect).await;
    let planned = steps.plan(spec()).await;
    let reason = &planned.plan.forecast.interruption.reason;
    assert!(reason.contains("may answer requests of people who are signed in with 401 or 500"), "{reason}");
    let upgraded = steps.upgrade().await;
    if withheld {
        let finding = about_answers(&planned).unwrap();
        assert_eq!(finding.severity, Severity::Warning);
        let words = "does not tell its deployment (CODER_REDIRECT_TO_ACCESS_URL): the version of every pod is verified";
        assert!(finding.message.contains(words), "{}", finding.message);
        assert!(upgraded.verified.starts_with("1 pod answers 2.31.7; Pod/coder-"), "{}", upgraded.verified);
        let end = " does not tell its deployment (CODER_REDIRECT_TO_ACCESS_URL)";
        assert!(upgraded.verified.ends_with(end), "{}", upgraded.verified);
    } else {
        assert_eq!(about_answers(&planned), None, "asked by its name, it answers");
        assert_eq!(upgraded.verified, "1 pod answers 2.31.7, same deployment");
    }
    steps.world.finish().await;
}

#[tokio::test]
async fn a_server_that_redirects_and_has_an_owners_token_is_no_failure() {
    let redirect = ["coder.env[2].name=CODER_REDIRECT_TO_ACCESS_URL", "coder.env[2].value=t"];
    let steps = installed("redirect-token", &redirect).await;
    steps.world.create_secret("owner", json!({"token": TOKEN})).await;
    steps.plan(with_token()).await;
    let verified = steps.upgrade().await.verified;
    assert!(verified.contains("redirects /api/v2/debug/health?force=true"), "{verified}");
    steps.world.finish().await;
}

#[tokio::test]
async fn servers_that_the_runner_cannot_ask_are_found_in_the_plan_and_verified_by_what_is_left() {
    let steps = installed("deaf", &["coder.env[2].name=CODER_SIM_DEAF", "coder.env[2].value=yes"]).await;
    let planned = steps.plan(spec()).await;
    let finding = about_answers(&planned).unwrap();
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.message.contains("the runner cannot ask any server of Coder"), "{}", finding.message);
    assert!(finding.next_step.contains("app.kubernetes.io/name=coder-upgrade-runner"), "{}", finding.next_step);
    let verified = steps.upgrade().await.verified;
    let words = "1 pod is ready with the wanted images and cannot be asked by the runner (Pod/coder-";
    assert!(verified.starts_with(words), "{verified}");
    steps.world.finish().await;
}

#[tokio::test]
async fn a_database_that_is_away_is_no_bad_token() {
    let steps = installed("no-database", &[]).await;
    steps.world.create_secret("owner", json!({"token": TOKEN})).await;
    steps.plan(with_token()).await;
    let scale = |replicas: &'static str| ["scale", "statefulset/database", replicas];
    steps.world.kubectl(&scale("--replicas=0")).await;
    steps.world.kubectl(&["wait", "--for=delete", "pod/database-0", "--timeout=60s"]).await;
    let back = async {
        // Coder is asked three times, two seconds apart, before its silence counts.
        tokio::time::sleep(Duration::from_secs(8)).await;
        steps.world.kubectl(&scale("--replicas=1")).await;
    };
    let (upgraded, ()) = tokio::join!(steps.upgrade(), back);
    assert_eq!(upgraded.verified, "1 pod answers 2.31.7, same deployment");
    let told = "401 Unauthorized because of an internal error, such as a database that is away";
    assert!(steps.log.borrow().contains(told));
    steps.world.finish().await;
}

#[tokio::test]
async fn health_that_was_bad_before_is_a_remark_and_what_is_new_a_failure() {
    let steps = installed("health-before", &[]).await;
    steps.world.create_secret("owner", json!({"token": TOKEN})).await;
    let fault = async |faults: &[(&str, &str)]| {
        steps.world.cluster.fault(&steps.world.namespace, CLAIM, faults).await.unwrap();
    };
    fault(&[("CODER_SIM_HEALTH", "error EACS03 EWS01 EPD01 derp")]).await;
    steps.plan(with_token()).await;
    fault(&[("CODER_SIM_HEALTH", "error EACS03 EDB01")]).await;
    let problem = steps.fails("upgrade", &["--verify-timeout", "4s"]).await;
    assert_eq!(problem.class, FailureClass::VerificationFailed, "{}", problem.message);
    let words = "says that Coder is not well: database EDB01: as asked for";
    assert!(problem.message.ends_with(words), "only what is new: {}", problem.message);

    fault(&[("CODER_SIM_HEALTH", "error EACS03 EWS01 EPD01 derp")]).await;
    let verified = steps.upgrade().await.verified;
    let words =
        "; not well, as before the change: access url EACS03: as asked for; derp; provisioner daemons EPD01; websocket";
    assert!(verified.contains(words), "{verified}");
    steps.world.finish().await;
}

#[rstest]
#[case::suffix("custom-build", "v2.31.7-acme1")]
#[case::digest("custom-digest", "v2.31.7@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")]
#[tokio::test]
async fn a_build_of_ones_own_is_the_release(#[case] name: &str, #[case] tag: &str) {
    let steps = installed(name, &[]).await;
    let values = json!({"coder": {"image": {"tag": tag}}});
    steps.plan(json!({"version": "2.31.7", "values": values, "verify": {"timeout": "20s"}})).await;
    let verified = steps.upgrade().await.verified;
    assert!(verified.starts_with("1 pod answers 2.31.7, same deployment"), "{verified}");
    steps.world.finish().await;
}
