//! P1 and P8: values are kept, the right ones win, and none shows up outside of Secrets.
#![allow(clippy::unwrap_used)] // a test may; clippy does not see helper functions as tests

mod common;

use coder_upgrade_operator::api::FailureClass;
use common::World;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    ResourceExt,
    api::{ListParams, LogParams},
};
use serde_json::json;

#[tokio::test]
async fn kept_values_survive_referenced_ones_win_over_them_and_inline_ones_over_all() {
    let settings = [
        "coder.annotations.kept=kept",
        "coder.annotations.from=kept",
        "coder.annotations.inline=kept",
        "coder.annotations.dropped=kept",
    ];
    let world = World::with_v2("values", "2.30.0", &settings).await;
    // Not JSON, and in helm's dialect of YAML: yes is a truth.
    let file = "coder:\n  annotations:\n    from: referenced\n    inline: referenced\n  terminationGracePeriodSeconds: 5\nflag: yes\n";
    world.create_secret("more-values", json!({"values.yaml": file})).await;
    world.declare("coder", json!({
        "version": "2.31.7",
        "chart": {"repository": world.repositories().v2},
        "dropValues": ["coder.annotations.dropped"],
        "valuesFrom": [{"kind": "Secret", "name": "more-values"}, {"kind": "ConfigMap", "name": "none", "optional": true}],
        "values": {"coder": {"annotations": {"inline": "inline"}}},
    })).await;
    world.ready("coder").await;
    let values = world.values().await;
    assert_eq!(values["coder"]["annotations"], json!({"kept": "kept", "from": "referenced", "inline": "inline"}));
    assert_eq!((&values["flag"], &values["coder"]["terminationGracePeriodSeconds"]), (&json!(true), &json!(5)));
    assert_eq!(values["coder"]["env"].as_array().unwrap().len(), 2, "the administrator's own");
    world.finish().await;
}

#[tokio::test]
async fn values_that_are_not_to_be_kept_are_gone() {
    let world = World::with_v2("values-anew", "2.30.0", &["coder.annotations.old=old"]).await;
    let env = json!([{"name": "CODER_PG_CONNECTION_URL", "valueFrom": {"secretKeyRef": {"name": "coder-db-url", "key": "url"}}}]);
    let chart = json!({"repository": world.repositories().v2});
    let values = json!({"coder": {"env": env}});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "keepValues": false, "values": values})).await;
    world.ready("coder").await;
    assert_eq!(world.values().await, values);

    // No values at all: helm would silently take the old ones.
    let verify = json!({"timeout": "10s"});
    let overrides = ["DatabaseTarget", "ExternalDatabase"];
    let spec =
        json!({"version": "2.31.7", "chart": chart, "keepValues": false, "verify": verify, "overrides": overrides});
    world.declare("coder", spec).await;
    let status = world.stalled("coder").await.status.unwrap();
    let values = world.values().await;
    assert!(values.is_null() || values == json!({}), "{values}");
    // Without the URL of its database Coder starts on an empty one. The checks were told to let that pass, and helm is
    // content; the verification is not.
    let failure = status.failure.unwrap();
    assert_eq!(failure.class, FailureClass::DataMissing);
    assert!(failure.message.contains("deployment"), "{}", failure.message);
    world.finish().await;
}

#[tokio::test]
async fn a_planted_secret_never_leaves_the_secrets() {
    const PLANTED: &str = "hunter2-planted-Zq8";
    // As a value of the release, in a referenced file, and where the failing chart and the crashing pod would say it.
    let world = World::with_v2("planted", "2.30.0", &[&format!("coder.annotations.password={PLANTED}")]).await;
    let env = json!([
        {"name": "CODER_PG_CONNECTION_URL", "valueFrom": {"secretKeyRef": {"name": "coder-db-url", "key": "url"}}},
        {"name": "PASSWORD", "value": PLANTED},
        {"name": "CODER_SIM_CRASH", "value": "cannot log in with $(PASSWORD)"},
    ]);
    let file = json!({"coder": {"env": env}}).to_string();
    world.create_secret("planted-values", json!({"values.yaml": file})).await;
    world
        .declare(
            "coder",
            json!({
                "version": "2.31.7",
                "chart": {"repository": world.repositories().v2},
                "valuesFrom": [{"kind": "Secret", "name": "planted-values"}],
                "helm": {"timeout": "15s"},
            }),
        )
        .await;
    let object = world.stalled("coder").await;
    let failure = object.status.clone().unwrap().failure.unwrap();
    assert!(failure.excerpt.clone().unwrap_or_default().contains("cannot log in"), "the log explains it: {failure:?}");

    let mut seen = serde_json::to_string(&object).unwrap();
    seen += &serde_json::to_string(&world.jobs().await).unwrap();
    seen += &serde_json::to_string(&world.api::<Event>().list(&ListParams::default()).await.unwrap().items).unwrap();
    for job in world.jobs().await {
        let pods = ListParams::default().labels(&format!("job-name={}", job.name_any()));
        for pod in world.api::<Pod>().list(&pods).await.unwrap() {
            seen += &serde_json::to_string(&pod).unwrap();
            seen += &world.api::<Pod>().logs(&pod.name_any(), &LogParams::default()).await.unwrap();
        }
    }
    let leak = seen.find(PLANTED).map(|at| seen.get(at.saturating_sub(300)..at));
    assert_eq!(leak, None, "the text before the leaked secret");
    assert!(seen.contains("[redacted]"), "the text was there and was masked");
    world.finish().await;
}
