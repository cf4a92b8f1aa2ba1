//! The chain as a whole: whatever the facts are, it ends, says the same each time, and heeds overrides one by one.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use strum::IntoEnumIterator;

use super::*;
use crate::core::helm::documents::Documents;

/// Any JSON, with the keys that the checks look at.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9:/.@-]{0,12}".prop_map(Value::from),
        prop::sample::select(&["v2.30.0", "CODER_PG_CONNECTION_URL", "DB_HOST", "coder", "9Ei", "-1", "150%"][..])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let keys = prop::sample::select(
            &[
                "coder",
                "image",
                "tag",
                "postgres",
                "useDefault",
                "cemanager",
                "name",
                "value",
                "env",
                "envFrom",
                "secretRef",
                "containers",
                "initContainers",
                "resources",
                "requests",
                "limits",
                "cpu",
                "memory",
                "livenessProbe",
                "ports",
                "port",
                "httpGet",
                "replicas",
                "volumes",
                "nodeSelector",
                "strategy",
                "rollingUpdate",
                "maxUnavailable",
                "template",
                "spec",
                "annotations",
                "persistentVolumeClaim",
                "claimName",
                "args",
                "failureThreshold",
            ][..],
        );
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..5).prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

fn documents() -> impl Strategy<Value = Documents> {
    let kinds = prop::sample::select(
        &["Deployment", "StatefulSet", "DaemonSet", "Service", "PersistentVolumeClaim", "Secret"][..],
    );
    let names = prop::sample::select(&["coder", "coderd", "timescale", "coder-replica-private-key"][..]);
    let object = (kinds, names, json(), json()).prop_map(|(kind, name, spec, containers)| {
        // Half of what is made up looks like a workload.
        let spec = if containers.is_array() { json!({"template": {"spec": {"containers": containers}}}) } else { spec };
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
    });
    prop::collection::vec(object, 0..5).prop_map(|objects| sample::documents(&objects))
}

fn map() -> impl Strategy<Value = Map<String, Value>> {
    json().prop_map(|value| value.as_object().cloned().unwrap_or_default())
}

fn everything() -> impl Strategy<Value = (Facts, Foreseen)> {
    let versions = || prop::sample::select(&["1.16.1", "1.27.0", "1.44.3", "2.30.0", "2.31.7", "0.14.3"][..]);
    (versions(), versions(), documents(), documents(), map(), map(), json(), json()).prop_map(
        |(from, to, old, new, kept, values, old_defaults, defaults)| {
            let facts = Facts { old, kept, ..sample::facts(from, to) };
            let mut foreseen = Foreseen { values, old_defaults, defaults, new, ..sample::foreseen() };
            let hard = json!({"pods": "1", "requests.cpu": "1", "limits.memory": "1Gi"});
            let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"used": {"pods": "1", "requests.cpu": "1"}}});
            let limits = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}, "default": {"memory": "1Gi"}}]}});
            foreseen.surroundings.quotas = Some(vec![serde_json::from_value(quota).unwrap()]);
            foreseen.surroundings.limits = Some(vec![serde_json::from_value(limits).unwrap()]);
            foreseen.surroundings.nodes = Some(vec![]);
            (facts, foreseen)
        },
    )
}

proptest! {
    #[test]
    fn the_chain_ends_in_order_and_says_the_same_each_time((facts, foreseen) in everything()) {
        let found = run(&facts, Some(&foreseen));
        prop_assert_eq!(&found, &run(&facts, Some(&foreseen)));
        let mut sorted = found.clone();
        order::sort(&mut sorted);
        prop_assert_eq!(&found, &sorted);
        for finding in &found {
            prop_assert!(!finding.message.is_empty() && finding.next_step.ends_with('.'), "{:?}", finding);
            prop_assert!(finding.severity != Severity::Overridden, "nobody has overridden anything");
        }
        let refuses = found.iter().any(|finding| finding.severity == Severity::Refusal);
        let problem = refused(&found, Some(&foreseen));
        prop_assert_eq!(problem.is_some(), refuses);
        prop_assert_eq!(problem.map(|problem| problem.findings), refuses.then(|| found.clone()));
        let before = run(&facts, None);
        prop_assert!(before.iter().all(|finding| found.contains(finding) || found.len() == MOST), "nothing is taken back");
    }

    #[test]
    fn an_override_changes_the_weight_of_its_check_alone(
        (facts, foreseen) in everything(),
        which in prop::sample::select(CheckName::iter().collect::<Vec<_>>()),
    ) {
        let mut plain = run(&facts, Some(&foreseen));
        let mut overridden = facts;
        overridden.spec.overrides = vec![which];
        let mut found = run(&overridden, Some(&foreseen));
        for finding in plain.iter_mut().filter(|finding| finding.check == which && finding.severity == Severity::Refusal) {
            finding.severity = Severity::Overridden;
        }
        let key = |finding: &Finding| format!("{finding:?}");
        plain.sort_by_key(key);
        found.sort_by_key(key);
        prop_assert!(plain == found || plain.len() == MOST);
    }
}

#[test]
fn several_refusals_are_counted() {
    let refusal = |check| Finding::refusal(check, format!("{check} says no"), "Do it.");
    let findings = judged(
        vec![
            Finding::warning(CheckName::Quota, "it is tight", "Look."),
            refusal(CheckName::ImagePin),
            refusal(CheckName::Downgrade),
            refusal(CheckName::ProductLine),
        ],
        &[CheckName::ImagePin],
    );
    let order: Vec<_> = findings.iter().map(|finding| (finding.check, finding.severity)).collect();
    assert_eq!(
        order,
        [
            (CheckName::ProductLine, Severity::Refusal),
            (CheckName::Downgrade, Severity::Refusal),
            (CheckName::ImagePin, Severity::Overridden),
            (CheckName::Quota, Severity::Warning),
        ]
    );
    let problem = refused(&findings, None).unwrap();
    assert_eq!(problem.class, FailureClass::ProductLineChanged);
    assert_eq!(problem.message, "ProductLine says no (and one more refusal: Downgrade)");
    assert!(refused(&findings[2..], None).is_none());
}
