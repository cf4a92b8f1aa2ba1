//! Prometheus scrapes the operator while it upgrades: each query of the dashboard returns data, and each alert is evaluated.

use serde_json::{Value, json};

use coder_upgrade_operator::api::Phase;

use crate::common::World;
use crate::common::prometheus::{Prometheus, file, groups, installed_or_left_out};

/// Panels that are empty for an upgrade of Coder v2 that succeeds at once, each with what has to happen.
const ONLY_IN_TROUBLE: [(&str, &str); 4] = [
    ("Failures", "an attempt that fails: the version does not exist"),
    ("Drains", "a reinstall that waits for a load balancer"),
    ("Claims", "a release with a claim: Coder Classic"),
    ("Changed addresses", "a reinstall without keepAddresses"),
];

/// The panels of the dashboard, each with its expressions.
fn panels() -> Vec<(String, Vec<String>)> {
    let dashboard: Value = serde_json::from_str(&file("deploy/monitoring/dashboard.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    let expressions = |panel: &Value| panel["targets"].as_array().unwrap().iter().map(|t| text(&t["expr"])).collect();
    panels.map(|panel| (text(&panel["title"]), expressions(panel))).collect()
}

/// The expression as Grafana sends it for one CoderUpgrade.
fn filled_in(expression: &str, namespace: &str) -> String {
    let values = [("$namespace", namespace), ("$name", "coder"), ("$__rate_interval", "10s")];
    let filled = values.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
    assert!(!filled.contains('$'), "{filled} has an unknown variable");
    filled
}

/// The panels with an expression that has had no data for the CoderUpgrade of that namespace.
async fn empty(prometheus: &Prometheus, namespace: &str) -> Vec<String> {
    let mut empty = Vec::new();
    for (title, expressions) in panels() {
        for expression in expressions {
            let missing = prometheus.series(&filled_in(&expression, namespace)).await.is_empty();
            if missing && !empty.contains(&title) {
                empty.push(title.clone());
            }
        }
    }
    empty
}

/// An upgrade that goes well.
async fn upgraded() -> World {
    let world = World::with_v2("dashboard", "2.30.0", &[]).await;
    world.upgrade_to("2.31.7").await;
    world.ready("coder").await;
    world
}

/// An upgrade with everything that can come between: a version that does not exist, then a refused change, and a reinstall that
/// waits for a load balancer and gets another address.
async fn troubled(prometheus: &Prometheus) -> World {
    let world = World::with_v1("dashboard-trouble", "1.16.1").await;
    world.kubectl(&["annotate", "service/ingress-nginx", "testbed.coderupgrade.dev/release-delay=12s"]).await;
    let declare = async |version: &str| {
        let spec = json!({
            "version": version, "chart": {"repository": world.repositories().v1}, "recovery": "Stop", "keepAddresses": false,
            "values": {"timescale": {"resources": {"requests": {"storage": "128Mi"}}}},
        });
        world.declare("coder", spec).await
    };
    declare("1.99.0").await;
    // What passes before it is scraped is not seen.
    seen(prometheus, &world, "coder_upgrade_failure", "").await;
    declare("1.16.2").await;
    world.phase("coder", Phase::AwaitingApproval).await;
    seen(prometheus, &world, "ALERTS", r#"alertname="CoderUpgradeStalled",alertstate="firing","#).await;
    world.approve("reinstall").await;
    world.ready("coder").await;
    seen(prometheus, &world, "ALERTS", r#"alertname="CoderAddressChanged",alertstate="firing","#).await;
    world
}

/// Waits until Prometheus has such a series of the CoderUpgrade.
async fn seen(prometheus: &Prometheus, world: &World, metric: &str, labels: &str) {
    let series = format!(r#"{metric}{{{labels}namespace="{}"}}"#, world.namespace);
    let seen = || async { (!prometheus.series(&series).await.is_empty()).then_some(()) };
    world.eventually(&series, seen).await;
}

#[tokio::test]
async fn each_query_of_the_dashboard_returns_data_and_each_alert_is_evaluated() {
    let Some(program) = installed_or_left_out("prometheus") else { return };
    let first = World::new("dashboard-first").await;
    let undisturbed = first.undisturbed().await;
    let prometheus = Prometheus::start(&program, &first.client).await;
    first.eventually("operator that is scraped", || prometheus.scrapes()).await;
    let (upgraded, troubled) = tokio::join!(Box::pin(upgraded()), Box::pin(troubled(&prometheus)));
    let (well, trouble) = (upgraded.namespace.as_str(), troubled.namespace.as_str());
    // What the last scrape does not have yet comes with one of the next.
    let all = || async { empty(&prometheus, trouble).await.is_empty().then_some(()) };
    first.eventually("data in every panel", all).await;
    assert_eq!(empty(&prometheus, well).await, ONLY_IN_TROUBLE.map(|(title, _)| title.to_owned()));
    drop(undisturbed);

    for (name, values) in [("namespace", [well, trouble].as_slice()), ("name", &["coder"])] {
        let found = prometheus.data(&format!("label/{name}/values"), &[("match[]", "coder_upgrade_info")]).await;
        for value in values {
            assert!(found.as_array().unwrap().contains(&json!(value)), "variable {name} has no {value}: {found}");
        }
    }

    let rules = prometheus.data("rules", &[("type", "alert")]).await;
    let rules: Vec<_> =
        rules["groups"].as_array().unwrap().iter().flat_map(|g| g["rules"].as_array().unwrap()).collect();
    assert_eq!(rules.len(), groups()["groups"][0]["rules"].as_array().unwrap().len());
    for rule in rules {
        assert_eq!((&rule["health"], rule["lastError"].as_str().unwrap_or_default()), (&json!("ok"), ""), "{rule}");
    }
    let alerts = format!(r#"ALERTS{{namespace="{well}"}}"#);
    assert_eq!(prometheus.series(&alerts).await, [json!(null); 0], "an upgrade that goes well is no alert");
    for world in [first, upgraded, troubled] {
        world.finish().await;
    }
}
