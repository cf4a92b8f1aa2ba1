//! P1 and P2: a release is uninstalled without losing what cannot be made again, and comes back.
#![allow(clippy::unwrap_used)] // a test may; clippy does not see helper functions as tests

mod common;

use coder_upgrade_operator::api::FailureClass;
use common::steps::{HelmMajor, Steps};
use rstest::rstest;

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn a_reinstall_keeps_data_address_and_secrets(#[case] helm: HelmMajor) {
    let steps = Steps::with("reinstall-keep", helm, |r| &r.v1, "1.16.2", &[]).await;
    let claims = steps.world.claims().await;
    let objects = ["service/ingress-nginx", "ingress/web-ingress", "secret/built-in-envproxy-token"];
    let mut before = Vec::new();
    for object in objects {
        before.push(steps.uid(object).await);
    }
    steps.plan_to("1.17.0").await;

    let uninstalled = steps.uninstall(&[]).await;
    assert_eq!((uninstalled.current.revision, uninstalled.current.status.as_str()), (1, "uninstalled"));
    assert_eq!(uninstalled.kept, ["Secret/built-in-envproxy-token", "Service/ingress-nginx", "Ingress/web-ingress"]);
    assert!(steps.uid("deployment/cemanager").await.is_empty());
    assert_eq!(steps.world.claims().await, claims);
    steps.gone("pod/timescale-0").await;

    let again = steps.uninstall(&[]).await;
    assert_eq!((again.current, again.kept, again.leftovers), (uninstalled.current, uninstalled.kept, vec![]));

    let installed = steps.install(&[]).await;
    assert_eq!((installed.current.version.as_str(), installed.current.revision), ("1.17.0", 2));
    assert_eq!(steps.world.claims().await, claims);
    for (object, uid) in objects.iter().zip(&before) {
        println!("{object} {uid} {}", steps.uid(object).await);
    }
    steps.world.finish().await;
}

#[tokio::test]
async fn a_release_that_somebody_else_changed_is_left_alone() {
    let steps = Steps::with("reinstall-outdated", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    steps.plan_to("2.31.7").await;
    steps.upgrade_by_hand("2.31.6", &[]).await;
    let problem = steps.fails("uninstall", &[]).await;
    assert_eq!((problem.class, problem.changed), (FailureClass::PlanOutdated, false));
    assert_eq!(steps.world.release().await, (2, "deployed".into()));
    steps.world.finish().await;
}
