//! Servers of Coder that speak TLS alone, with a certificate that they have made themselves.

use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::api::CheckName;
use rstest::rstest;
use serde_json::json;

#[rstest]
#[case::by_its_name("https")]
#[case::by_its_probe("web")]
#[tokio::test]
async fn a_server_that_speaks_tls_alone_is_verified(#[case] port: &str) {
    let setting = format!("testbed.tlsOnly={port}");
    let steps = Steps::with(&format!("tls-{port}"), HelmMajor::Four, |r| &r.v2, "2.30.0", &[&setting]).await;
    let planned = steps.plan(json!({"version": "2.31.7"})).await;
    let silent = planned.findings.iter().find(|finding| finding.check == CheckName::ServerAnswers);
    assert_eq!(silent, None, "it is asked before the change as well");
    let verified = steps.upgrade().await.verified;
    assert!(verified.starts_with("1 pod answers 2.31.7, same deployment; Pod/coder-"), "{verified}");
    assert!(verified.ends_with("was asked over TLS without a check of its certificate"), "{verified}");
    steps.world.finish().await;
}
