//! P1 and P7: what is declared wrongly is refused with the name of the field and with what to do, and nothing is changed.

use crate::common::{World, noise};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use rstest::rstest;
use serde_json::{Value, json};

use coder_upgrade_operator::api::{CoderUpgrade, Failure};

/// What an upgrade would change, with its resourceVersion.
async fn objects(world: &World) -> String {
    let kinds = "deployments,services,serviceaccounts,roles,rolebindings,ingresses,pvc,secrets,configmaps";
    let line = "{range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}";
    world.kubectl(&["get", kinds, "-o", &format!("jsonpath={line}")]).await
}

/// Declares the spec, waits for the failure, and sees that nothing has changed.
async fn refused(world: &World, spec: Value) -> Failure {
    let before = (objects(world).await, world.release().await);
    let generation = world.declare("coder", spec).await.metadata.generation;
    let told = move |o: &CoderUpgrade| {
        o.status.as_ref().is_some_and(|s| s.failure.is_some() && Some(s.observed_generation) == generation)
    };
    let failure = world.until("coder", "refused", told).await.status.unwrap().failure.unwrap();
    assert_eq!((objects(world).await, world.release().await), before);
    assert!(!failure.next_step.is_empty(), "{failure:?}");
    failure
}

fn spec(world: &World) -> Value {
    json!({"version": "2.31.7", "chart": {"repository": world.repositories().v2}})
}

/// The API server itself refuses these, before anything is stored.
#[rstest]
#[case::an_empty_window(json!({"window": {"start": "22:00", "end": "22:00"}}), &["spec.window.end", "must differ", "00:00 to 24:00"])]
#[case::a_time_of_day(json!({"window": {"start": "25:00", "end": "04:00"}}), &["spec.window.start"])]
#[case::a_day(json!({"window": {"days": ["Someday"], "start": "22:00", "end": "04:00"}}), &["spec.window.days[0]", "\"Mon\""])]
#[case::no_day(json!({"window": {"days": [], "start": "22:00", "end": "04:00"}}), &["spec.window.days"])]
#[case::an_unknown_override(json!({"overrides": ["DatabaseTargets"]}), &["spec.overrides[0]", "\"DatabaseTarget\""])]
#[case::values_that_are_no_map(json!({"values": ["a"]}), &["spec.values", "object"])]
#[case::two_backups(json!({"backup": {"cronJob": "a", "volumeSnapshotClass": "b"}}), &["spec.backup", "exactly one of cronJob and volumeSnapshotClass"])]
#[case::no_time_for_a_backup(json!({"backup": {"cronJob": "a", "timeout": "1s"}}), &["spec.backup.timeout", "between 10s and 24h"])]
#[case::a_negative_wait(json!({"quiesce": {"timeout": "-1s"}}), &["spec.quiesce.timeout", "between 0s and 24h"])]
#[case::an_unknown_strategy(json!({"strategy": "Sideways"}), &["spec.strategy", "\"Recreate\""])]
#[tokio::test]
async fn what_the_schema_knows_is_refused_at_once(#[case] spec: Value, #[case] words: &[&str]) {
    let world = World::new("bad-spec").await;
    let object = json!({
        "apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": {"name": "coder"}, "spec": spec
    });
    let apply = PatchParams::apply("tests").force();
    let error =
        world.api::<CoderUpgrade>().patch("coder", &apply, &Patch::Apply(object)).await.unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "{word} is not in {error}");
    }
    assert!(world.api::<CoderUpgrade>().get_opt("coder").await.unwrap().is_none());
    world.finish().await;
}

#[tokio::test]
async fn a_time_zone_that_does_not_exist() {
    let world = World::with_v2("bad-zone", "2.30.0", &[]).await;
    let mut spec = spec(&world);
    spec["window"] = json!({"start": "22:00", "end": "04:00", "timeZone": "Europe/Berlyn"});
    let failure = refused(&world, spec).await;
    assert_eq!(
        (failure.class.to_string().as_str(), failure.field.as_deref()),
        ("SpecInvalid", Some("spec.window.timeZone"))
    );
    assert!(failure.message.contains("Europe/Berlyn") && failure.message.contains("Europe/Berlin"), "{failure:?}");
    world.finish().await;
}

#[tokio::test]
async fn values_that_helm_cannot_read() {
    let world = World::with_v2("bad-values", "2.30.0", &[]).await;
    for (name, text) in [
        ("no-yaml", "coder:\n  env: [hunter2-planted\n  x: y\n"),
        ("a-list", "- hunter2-planted\n"),
        ("a-word", "hunter2-planted"),
        ("a-tab", "coder:\n\tenv: hunter2-planted\n"),
    ] {
        world.create_secret(name, json!({"values.yaml": text})).await;
        let mut spec = spec(&world);
        spec["valuesFrom"] = json!([{"kind": "Secret", "name": name}]);
        let failure = refused(&world, spec).await;
        let about = (
            failure.class.to_string(),
            failure.field.clone().unwrap_or_default(),
            failure.object.clone().unwrap_or_default(),
        );
        assert_eq!(
            about,
            ("ValuesInvalid".into(), "spec.valuesFrom[0]".into(), format!("Secret/{name}")),
            "{failure:?}"
        );
        assert!(failure.message.contains("values.yaml is not a YAML map of values"), "{failure:?}");
        assert!(!serde_json::to_string(&failure).unwrap().contains("hunter2"), "{failure:?}");
    }
    world.finish().await;
}

/// A packaged chart that is none.
async fn archive(world: &World, name: &str, content: &[u8]) -> Value {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "binaryData": {"coder.tgz": STANDARD.encode(content)},
    });
    let map: ConfigMap = serde_json::from_value(map).unwrap();
    world.api().create(&PostParams::default(), &map).await.unwrap();
    json!({"version": "2.31.7", "chart": {"archive": {"configMapKeyRef": {"name": name, "key": "coder.tgz"}}}})
}

#[tokio::test]
async fn an_archive_that_is_no_chart() {
    let world = World::with_v2("bad-archive", "2.30.0", &[]).await;
    let text = archive(&world, "text", b"this is no archive").await;
    let failure = refused(&world, text).await;
    assert_eq!(
        (failure.class.to_string().as_str(), failure.field.as_deref()),
        ("ChartInvalid", Some("spec.chart.archive"))
    );

    let empty = packed(&[("coder/README.md", b"no Chart.yaml")]);
    let empty = archive(&world, "empty", &empty).await;
    let failure = refused(&world, empty).await;
    assert_eq!(
        (failure.class.to_string().as_str(), failure.field.as_deref()),
        ("ChartInvalid", Some("spec.chart.archive"))
    );
    assert!(failure.message.contains("Chart.yaml"), "{failure:?}");

    let other = packed(&[("coder/Chart.yaml", b"apiVersion: v2\nname: other\nversion: 2.31.7\n")]);
    let other = archive(&world, "other", &other).await;
    let failure = refused(&world, other).await;
    assert_eq!(
        (failure.class.to_string().as_str(), failure.field.as_deref()),
        ("ChartInvalid", Some("spec.chart.name"))
    );
    world.finish().await;
}

#[tokio::test]
async fn a_chart_that_does_not_fit_into_a_secret() {
    let world = World::with_v2("bad-size", "2.30.0", &[]).await;
    // Below the limit of a ConfigMap, and above that of helm's record.
    let noise = noise(1_040_000, 1);
    let map = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let chart = packed(&[
        ("coder/Chart.yaml", b"apiVersion: v2\nname: coder\nversion: 2.31.7\n"),
        ("coder/templates/map.yaml", map),
        ("coder/.helmignore", b"noise\n"),
        ("coder/noise", &noise),
    ]);
    let mut spec = archive(&world, "large", &chart).await;
    spec["overrides"] = json!(["DatabaseTarget", "ExternalDatabase", "ImagePin", "RemovedValues"]);
    let failure = refused(&world, spec).await;
    assert_eq!(failure.class.to_string(), "TooLarge", "{failure:?}");
    assert!(failure.message.contains("would not fit into a Secret of 1024 KiB"), "{failure:?}");
    assert_eq!(failure.field.as_deref(), Some("spec.chart"));
    world.finish().await;
}

/// A gzipped tar of these files.
fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let tar =
        std::process::Command::new("tar").args(["-cz", "-C"]).arg(directory.path()).arg("coder").output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    tar.stdout
}
