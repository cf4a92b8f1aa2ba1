//! Whole differences, from hand-made rehearsals.
#![allow(clippy::needless_pass_by_value)] // JSON in a row of cases reads best without borrowing

use proptest::prelude::{Just, any, prop};
use proptest::strategy::Strategy as Generator;
use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::api::{InterruptionLength, PlannedRepair, Remedy};
use crate::core::plan::rehearsal::{Verb, Write};

fn object(kind: &str, name: &str, more: Value) -> Value {
    let api = if matches!(kind, "Deployment" | "StatefulSet") { "apps/v1" } else { "v1" };
    let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "ns"}});
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

fn write(before: Option<Value>, after: Option<Value>) -> Write {
    let verb = match (&before, &after) {
        (None, _) => Verb::Create,
        (_, None) => Verb::Delete,
        _ => Verb::Update,
    };
    let object = before.as_ref().or(after.as_ref()).and_then(ObjectRef::of).unwrap();
    Write { verb, object, before, after }
}

/// What a test sets of the sides.
#[derive(Default)]
struct Case {
    rehearsal: Rehearsal,
    old: Vec<Value>,
    new: Vec<Value>,
    old_values: Value,
    new_values: Value,
    strategy: Strategy,
}

impl Case {
    fn writes(writes: Vec<Write>) -> Self {
        Self { rehearsal: Rehearsal { writes, ..Rehearsal::default() }, ..Self::default() }
    }

    fn between(&self) -> (Difference, Interruption) {
        let documents = |objects: &[Value]| {
            let texts: Vec<String> = objects.iter().map(|object| format!("---\n{object}\n")).collect();
            Documents::parse(&texts.concat(), "ns").unwrap()
        };
        let values = |values: &Value| values.as_object().cloned().unwrap_or_default();
        between(&Sides {
            rehearsal: &self.rehearsal,
            old: &documents(&self.old),
            new: &documents(&self.new),
            old_values: &values(&self.old_values),
            new_values: &values(&self.new_values),
            from: Some("2.30.0"),
            version: "2.31.7",
            hops: &[],
            strategy: self.strategy,
        })
    }

    /// Every object with its fields, a line each.
    fn lines(&self) -> Vec<String> {
        let show = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
        let (difference, _) = self.between();
        let lines = difference.objects.iter().flat_map(|change| {
            let fields =
                change.fields.iter().map(|f| format!("  {}: {} -> {}", f.path, show(&f.before), show(&f.after)));
            std::iter::once(format!("{} {}", change.kind, change.object)).chain(fields.collect::<Vec<_>>())
        });
        lines.collect()
    }
}

fn pods(image: &str, env: Value, more: Value) -> Value {
    let container = json!({"name": "coder", "image": image, "env": env});
    let mut spec = json!({"template": {"spec": {"containers": [container]}}});
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    json!({ "spec": spec })
}

fn deployment(image: &str, more: Value) -> Value {
    object("Deployment", "coder", pods(image, json!([]), more))
}

#[test]
fn fields_are_told_by_their_path_and_bookkeeping_is_not() {
    let mut before = object(
        "Deployment",
        "coder",
        pods("c:1", json!([{"name": "A", "value": "true"}, {"name": "B", "value": "postgres://x"}]), json!({})),
    );
    let mut after = object(
        "Deployment",
        "coder",
        pods(
            "c:2",
            json!([{"name": "B", "value": "postgres://y"}, {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s"}}}]),
            json!({}),
        ),
    );
    before["metadata"]["resourceVersion"] = "1".into();
    after["metadata"]["resourceVersion"] = "2".into();
    after["metadata"]["labels"] = json!({"helm.sh/chart": "coder-2"});
    after["status"] = json!({"replicas": 3});
    after["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"});
    assert_eq!(
        Case::writes(vec![write(Some(before), Some(after))]).lines(),
        [
            "Changed Deployment/coder",
            r#"  metadata.labels.helm\.sh/chart: - -> "coder-2""#,
            "  spec.template.spec.containers[coder].env[B].value: - -> -",
            "  spec.template.spec.containers[coder].env[C].valueFrom.secretKeyRef.name: - -> \"s\"",
            "  spec.template.spec.containers[coder].env[A].value: \"true\" -> -",
            "  spec.template.spec.containers[coder].image: \"c:1\" -> \"c:2\"",
        ]
    );
}

#[test]
fn lists_without_keys_are_compared_between_what_stays() {
    let role = |rules: Value| object("Role", "coder", json!({ "rules": rules }));
    let may = |resource: &str, verbs: &[&str]| json!({"resources": [resource], "verbs": verbs});
    let before = role(json!([may("pods", &["get"]), may("jobs", &["get"])]));
    let after = role(json!([may("pods", &["get"]), may("leases", &["get", "list"]), may("jobs", &["get"])]));
    assert_eq!(
        Case::writes(vec![write(Some(before), Some(after))]).lines(),
        ["Changed Role/coder", "  rules[1].resources: - -> [\"leases\"]", "  rules[1].verbs: - -> [\"get\",\"list\"]"]
    );
}

#[test]
fn every_object_becomes_one_thing() {
    let map = |name: &str| object("ConfigMap", name, json!({}));
    let old = deployment("c:1", json!({"selector": {"matchLabels": {"a": "1"}}}));
    let new = deployment("c:2", json!({"selector": {"matchLabels": {"a": "2"}}}));
    let live =
        deployment("c:1", json!({"selector": {"matchLabels": {"a": "1"}}, "replicas": 1, "revisionHistoryLimit": 10}));
    let refused = Write { verb: Verb::Update, object: ObjectRef::of(&live).unwrap(), before: Some(live), after: None };
    let repair = PlannedRepair {
        remedy: Remedy::Replace,
        object: "Deployment/coder".into(),
        message: "immutable".into(),
        needs_approval: false,
    };
    let writes = vec![
        write(None, Some(map("new"))),
        refused,
        write(Some(map("same")), Some(map("same"))),
        write(Some(map("gone")), None),
    ];
    let case = Case {
        rehearsal: Rehearsal { writes, repairs: vec![repair], ..Rehearsal::default() },
        old: vec![old],
        new: vec![new],
        ..Case::default()
    };
    assert_eq!(
        case.lines(),
        [
            "Added ConfigMap/new",
            "Replaced Deployment/coder",
            "  spec.selector.matchLabels.a: \"1\" -> \"2\"",
            "  spec.template.spec.containers[coder].image: \"c:1\" -> \"c:2\"",
            "Removed ConfigMap/gone",
        ]
    );
    let (difference, interruption) = case.between();
    assert_eq!(difference.counts(), ObjectCounts { added: 1, changed: 0, removed: 1, replaced: 1 });
    assert_eq!(interruption.length, InterruptionLength::None);
    let image = &difference.images[0];
    assert_eq!((image.before.as_deref(), image.after.as_deref()), (Some("c:1"), Some("c:2")));
}

#[test]
fn what_was_not_rehearsed_is_told_from_the_manifests() {
    let map = |name: &str, data: &str| object("ConfigMap", name, json!({"data": {"a": data}}));
    let mut case = Case {
        old: vec![map("seen", "1"), map("unseen", "1"), map("gone", "1")],
        new: vec![map("seen", "2"), map("unseen", "2"), map("new", "1")],
        ..Case::default()
    };
    let all = case.lines();
    assert_eq!(all.iter().filter(|line| !line.starts_with(' ')).count(), 4, "nothing was rehearsed: {all:?}");
    case.rehearsal.writes = vec![write(Some(map("seen", "1")), Some(map("seen", "3")))];
    case.rehearsal.not_rehearsed = vec!["ConfigMap/unseen: a webhook knows no dry run".into()];
    assert_eq!(
        case.lines(),
        ["Changed ConfigMap/seen", "  data.a: \"1\" -> \"3\"", "Changed ConfigMap/unseen", "  data.a: \"1\" -> \"2\"",]
    );
}

#[test]
fn of_values_only_public_ones_are_shown() {
    let case = Case {
        old_values: json!({"coder": {
            "image": {"tag": "v2.30.0"}, "replicaCount": 1, "password": "old-secret", "flag": true,
            "env": [{"name": "URL", "value": "https://old.example"}],
        }}),
        new_values: json!({"coder": {
            "image": {"tag": "v2.31.7"}, "replicaCount": 3, "password": "new-secret", "pin": 12_345_678,
            "env": [{"name": "URL", "value": "https://new.example"}],
        }}),
        ..Case::default()
    };
    let (difference, _) = case.between();
    let lines: Vec<String> =
        difference.values.iter().map(|value| format!("{} {} {}", value.kind, value.path, json!(value.shown))).collect();
    assert_eq!(
        lines,
        [
            "Changed coder.env[URL].value null",
            "Removed coder.flag [true,null]",
            "Changed coder.image.tag [\"v2.30.0\",\"v2.31.7\"]",
            "Changed coder.password null",
            "Added coder.pin null",
            "Changed coder.replicaCount [1,3]",
        ]
    );
}

fn changed(more: Value) -> Vec<Write> {
    vec![write(Some(deployment("c:1", more.clone())), Some(deployment("c:2", more)))]
}

fn service(kind: &str) -> Value {
    object("Service", "coder", json!({"spec": {"type": kind}}))
}

fn set(image: &str) -> Value {
    object("StatefulSet", "timescale", pods(image, json!([]), json!({"volumeClaimTemplates": [{}]})))
}

#[rstest]
#[case::one_pod(changed(json!({"replicas": 1})), InterruptionLength::Seconds, "connections drop")]
#[case::three_pods(changed(json!({"replicas": 3})), InterruptionLength::None, "its 3 pods one after the other")]
#[case::no_pods(changed(json!({"replicas": 0})), InterruptionLength::None, "has no pods")]
#[case::recreate(changed(json!({"strategy": {"type": "Recreate"}})), InterruptionLength::Minutes, "Recreate")]
#[case::all_away(
    changed(json!({"replicas": 2, "strategy": {"rollingUpdate": {"maxUnavailable": "100%"}}})),
    InterruptionLength::Minutes,
    "may end all 2 pods"
)]
#[case::database(vec![write(Some(set("d:1")), Some(set("d:2")))], InterruptionLength::Minutes, "which holds the data, ends its only pod")]
#[case::address(vec![write(Some(service("LoadBalancer")), None)], InterruptionLength::Minutes, "Service/coder goes, and its address")]
#[case::renamed(
    vec![write(Some(object("Deployment", "cemanager", json!({}))), None), write(None, Some(deployment("c:2", json!({}))))],
    InterruptionLength::Minutes,
    "Deployment/cemanager goes while Deployment/coder is only starting"
)]
#[case::nothing_restarts(vec![write(None, Some(service("ClusterIP")))], InterruptionLength::None, "No pod is restarted")]
fn the_interruption_is_that_of_the_worst_object(
    #[case] writes: Vec<Write>,
    #[case] length: InterruptionLength,
    #[case] words: &str,
) {
    let (_, interruption) = Case::writes(writes).between();
    assert_eq!(interruption.length, length, "{interruption:?}");
    assert!(interruption.reason.contains(words) && interruption.reason.ends_with('.'), "{interruption:?}");
}

#[test]
fn a_strategy_of_recreate_takes_minutes_whatever_changes() {
    let case = Case { strategy: Strategy::Recreate, ..Case::writes(changed(json!({"replicas": 3}))) };
    assert_eq!(case.between().1.length, InterruptionLength::Minutes);
}

/// Anything that JSON can hold, with the secret in some of its strings.
fn anything(secret: &'static str) -> impl Generator<Value = Value> {
    let texts = prop_oneof![
        "[a-z]{0,8}".prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::from(secret)),
        "[a-z]{0,4}".prop_map(move |text| Value::from(format!("{text}{secret}"))),
    ];
    texts.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(keys(), inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn keys() -> impl Generator<Value = String> {
    prop_oneof![
        Just("env"),
        Just("name"),
        Just("value"),
        Just("image"),
        Just("data"),
        Just("containers"),
        Just("spec"),
        Just("template"),
        Just("annotations"),
        Just("example.com/a"),
        Just("args"),
        Just("volumes"),
        Just("mountPath"),
    ]
    .prop_map(Into::into)
}

const GIVEN: &str = "given-hunter2";
const STORED: &str = "stored-hunter3";

proptest! {
    /// A secret in the values, wherever the chart puts it, and one that only a Secret or a variable of the cluster holds.
    #[test]
    fn planted_secrets_never_show_up(
        old_values in anything(GIVEN), new_values in anything(GIVEN), before in anything(GIVEN), after in anything(GIVEN),
        data in anything(STORED), other in anything(STORED), name in "[A-Z]{1,3}",
    ) {
        let around = |value: &Value| json!({"password": [GIVEN], "rest": value});
        let variable = |value: &str| json!([{"name": name, "value": value}, {"name": "TWICE", "value": value}, {"name": "TWICE"}]);
        let secret = |data: &Value| object("Secret", "s", json!({"data": data, "stringData": {"x": data}}));
        let writes = vec![
            write(Some(object("Deployment", "d", json!({ "spec": before }))), Some(object("Deployment", "d", json!({ "spec": after })))),
            write(Some(object("Thing", "t", before.clone())), Some(object("Thing", "t", after.clone()))),
            write(Some(secret(&data)), Some(secret(&other))),
            write(
                Some(object("Deployment", "e", pods("i:1", variable(STORED), json!({})))),
                Some(object("Deployment", "e", pods("i:2", variable("nothing"), json!({})))),
            ),
            write(Some(object("Deployment", "f", pods("i:1", json!([]), json!({})))), Some(object("Deployment", "f", pods("i:1", variable(STORED), json!({}))))),
        ];
        let case = Case { old_values: around(&old_values), new_values: around(&new_values), ..Case::writes(writes) };
        let text = serde_json::to_string(&case.between()).unwrap();
        prop_assert!(!text.contains("hunter"), "{text}");
    }

    #[test]
    fn an_object_that_stays_as_it_is_is_not_told_of(value in anything(GIVEN)) {
        let thing = object("Thing", "t", json!({ "spec": value }));
        let (difference, interruption) = Case::writes(vec![write(Some(thing.clone()), Some(thing))]).between();
        prop_assert!(difference.objects.is_empty() && difference.values.is_empty());
        prop_assert_eq!(interruption.length, InterruptionLength::None);
    }
}
