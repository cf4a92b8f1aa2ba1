//! P1: values are kept, and the right ones win.

use crate::common::World;
use coder_upgrade_operator::api::{CheckName, FailureClass};
use k8s_openapi::api::core::v1::Secret;
use proptest::{
    prelude::{Just, Strategy, any, prop},
    prop_oneof,
    strategy::ValueTree,
    test_runner::TestRunner,
};
use serde_json::{Value, json};
use testbed::charts::charts_dir;

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
    let world = World::with_v2("values-again", "2.30.0", &["coder.annotations.old=old"]).await;
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

/// Scalars that readers of YAML take for different things. What counts is what helm takes them for.
const SCALARS: &str = "[yes, No, on, OFF, y, n, 017, 0o17, 0x1F, 1_000, 1e3, .5, 1.0, -0, +7, ~, null, 12:30:45, 2001-01-01, \
                       0b11, 12345678901234567890, 'yes', \"017\", !!str 1, 1.2.3, =, <<]";

/// Strings that are no strings any more if they lose their quotes on the way.
const STRINGS: [&str; 14] = [
    "yes",
    "no",
    "null",
    "~",
    "1e3",
    "017",
    "0x1f",
    "2001-01-01",
    " blanks ",
    "two\nlines\n",
    "",
    "é",
    "- a",
    "{{ x }} #",
];

/// Nested values: maps that meet maps, lists that meet lists, and nulls that meet either.
fn nested() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (-1000..1000_i32).prop_map(|n| Value::from(f64::from(n) / 8.0)),
        prop::sample::select(STRINGS.as_slice()).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = prop::sample::select(["a", "b", "c", "d.e", "yes", "1"].as_slice()).prop_map(ToOwned::to_owned);
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            3 => prop::collection::btree_map(key, inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Many cases, each under a key of its own, the same in every run.
fn layers() -> [Value; 3] {
    let mut runner = TestRunner::deterministic();
    let mut layers = [(); 3].map(|()| serde_json::Map::new());
    for case in 0..60 {
        for layer in &mut layers {
            let value = nested().new_tree(&mut runner).unwrap().current();
            layer.insert(format!("case{case}"), value);
        }
    }
    layers.map(|layer| json!({ "free": layer }))
}

#[tokio::test]
async fn merged_values_are_what_helm_itself_makes_of_the_same_files() {
    let world = World::new("values-merged").await;
    world.database().await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let [mut kept, referenced, inline] = layers();
    kept["free"]["dropped"] = json!({"a": 1, "b.c": 2, "d": {"e": [1, 2]}});
    let base = charts_dir().join("coder-v2-values.yaml").display().to_string();
    let before = file("before.json", kept.to_string());
    let chart = ["coder", "--repo", &world.repositories().v2, "--version"];
    let install = [&["install", "coder"], &chart[..], &["2.30.0", "--values", &base, "--values", &before]].concat();
    world.helm(&[&install[..], &["--wait", "--timeout", "3m"]].concat()).await;

    let text = format!("{}\nscalars: {SCALARS}\n", serde_saphyr::to_string(&referenced).unwrap());
    world.create_secret("referenced", json!({"values.yaml": text})).await;
    world
        .declare(
            "coder",
            json!({
                "version": "2.31.7",
                "chart": {"repository": world.repositories().v2},
                "dropValues": ["free.dropped.a", r"free.dropped.b\.c", "free.dropped.d.e", "free.none"],
                "valuesFrom": [{"kind": "Secret", "name": "referenced"}],
                "values": inline,
            }),
        )
        .await;
    let plan = world.ready("coder").await.status.unwrap().plan.unwrap();

    // The same files, merged by helm for a release that is never installed.
    kept["free"]["dropped"] = json!({"d": {}});
    let (after, referenced, inline) =
        (file("after.json", kept.to_string()), file("referenced.yaml", text), file("inline.json", inline.to_string()));
    let files = [&base, &after, &referenced, &inline];
    let files = files.into_iter().flat_map(|file| ["--values", file.as_str()]).collect::<Vec<_>>();
    let trial = [&["install", "trial"], &chart[..], &["2.31.7", "--dry-run=client", "-o", "json"], &files].concat();
    let expected: Value = serde_json::from_str(&world.helm(&trial).await).unwrap();
    let expected = &expected["config"];

    let secret = world.api::<Secret>().get(&plan.secret_name).await.unwrap();
    let planned: Value = serde_json::from_slice(&secret.data.unwrap()["values.json"].0).unwrap();
    let given = world.values().await;
    for (what, found) in [("the plan", &planned), ("the release", &given)] {
        for (key, value) in expected.as_object().unwrap() {
            let cases = value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
            for case in cases {
                assert_eq!(found[key][&case], value[&case], "{key}.{case} of {what}");
            }
        }
        assert_eq!(found, expected, "{what}");
    }
    world.finish().await;
}

/// Applies a declaration with nulls as a person does, with kubectl.
async fn apply(world: &World, drop_defaults: &[&str], server_side: bool) {
    let values = json!({"coder": {"replicaCount": null, "securityContext": {"runAsUser": null, "runAsGroup": null}}});
    let object = json!({
        "apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": {"name": "coder"},
        "spec": {
            "version": "2.31.7", "chart": {"repository": world.repositories().v2}, "verify": {"soak": "1s"},
            "dropDefaults": drop_defaults, "values": values,
        },
    });
    let mut arguments = vec!["apply", "--namespace", &world.namespace, "-f", "-"];
    if server_side {
        arguments.extend(["--server-side", "--force-conflicts"]);
    }
    world.cluster.kubectl_with_input(&arguments, &object.to_string()).await.unwrap();
}

/// What the Deployment asks for: replicas, user and group.
async fn asked_for(world: &World) -> String {
    let fields = "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].securityContext.runAsUser} {.spec.template.spec.containers[0].securityContext.runAsGroup}";
    world.kubectl(&["get", "deployment", "coder", "-o", fields]).await
}

#[tokio::test]
async fn a_null_that_kubectl_apply_removes_is_told_and_can_be_declared_otherwise() {
    let world = World::with_v2("nulls", "2.30.0", &["coder.replicaCount=2"]).await;
    assert_eq!(asked_for(&world).await, "2 1000 1000");
    apply(&world, &[], false).await;
    let status = world.stalled("coder").await.status.unwrap();
    let failure = status.failure.unwrap();
    assert_eq!(failure.field.as_deref(), Some("spec.values.coder.replicaCount"));
    let found: Vec<_> = status.checks.iter().filter(|found| found.check == CheckName::NullValues).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].next_step.contains("spec.dropDefaults"), "{found:?}");
    assert_eq!(asked_for(&world).await, "2 1000 1000", "nothing was changed");

    apply(
        &world,
        &["coder.replicaCount", "coder.securityContext.runAsUser", "coder.securityContext.runAsGroup"],
        false,
    )
    .await;
    let status = world.ready("coder").await.status.unwrap();
    assert_eq!(status.current.unwrap().version, "2.31.7");
    assert_eq!(asked_for(&world).await, "1  ");
    world.finish().await;
}

#[tokio::test]
async fn a_null_that_server_side_apply_keeps_takes_the_default_away() {
    let world = World::with_v2("nulls-kept", "2.30.0", &["coder.replicaCount=2"]).await;
    apply(&world, &[], true).await;
    let status = world.ready("coder").await.status.unwrap();
    assert!(!status.checks.iter().any(|found| found.check == CheckName::NullValues));
    assert_eq!(asked_for(&world).await, "1  ");
    world.finish().await;
}
