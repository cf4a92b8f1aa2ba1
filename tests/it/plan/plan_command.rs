//! `coder-upgrade-operator plan` shows what an upgrade would do, and writes nothing.

use crate::common::{
    World,
    terminal::{Shown, Terminal},
};
use rstest::rstest;
use serde_json::{Value, json};

/// Runs `plan -f -` for a spec, in the namespace of the world.
async fn plan_spec(terminal: &Terminal, world: &World, spec: &Value, more: &[&str]) -> Shown {
    let arguments = ["-f", "-", "-n", &world.namespace];
    terminal.plan(&[&arguments, more].concat(), &manifest("coder", spec)).await
}

fn manifest(name: &str, spec: &Value) -> String {
    let object = json!({
        "apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": {"name": name}, "spec": spec
    });
    // As YAML, with another object in the same file.
    format!("kind: Secret\napiVersion: v1\nmetadata: {{name: other}}\n---\n{object}\n")
}

/// Every object of the namespace with its resourceVersion.
async fn objects(world: &World) -> String {
    let kinds = "all,secrets,configmaps,serviceaccounts,roles,rolebindings,ingresses,pvc,jobs,leases,coderupgrades";
    let line = "{range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}";
    world.kubectl(&["get", kinds, "-o", &format!("jsonpath={line}")]).await
}

fn spec(world: &World, version: &str) -> Value {
    json!({"version": version, "chart": {"repository": world.repositories().v2}})
}

#[tokio::test]
async fn a_file_is_shown_in_every_form_and_nothing_is_written() {
    let world = World::with_v2("preview", "2.30.0", &["coder.image.pullPolicy=IfNotPresent"]).await;
    let terminal = Terminal::of(&world).await;
    let mut spec = spec(&world, "2.31.7");
    spec["dropValues"] = json!(["coder.image.pullPolicy"]);
    spec["values"] = json!({"coder": {"annotations": {"password": "hunter2-planted"}}});
    spec["window"] = json!({"start": "22:00", "end": "22:01", "timeZone": "Europe/Berlin", "days": ["Mon"]});
    let before = objects(&world).await;

    let text = plan_spec(&terminal, &world, &spec, &[]).await;
    assert_eq!(text.code, 2);
    for words in [
        "Upgrade from 2.30.0 to 2.31.7.",
        "2.30.0 (revision 1, deployed); 1 server answers 2.30.0",
        "Seconds. Deployment/coder has one pod",
        "~ Deployment/coder",
        "spec.template.spec.containers[coder].image:",
        "- coder.image.pullPolicy: IfNotPresent",
        "+ coder.annotations.password (not shown)",
        "https://github.com/coder/coder/releases/tag/v2.31.7",
        "it opens on Mon",
    ] {
        assert!(text.out.contains(words), "{words}");
    }
    assert!(text.err.contains("fetching the chart"), "tells where it stands");

    let json = plan_spec(&terminal, &world, &spec, &["-o", "json", "--quiet"]).await;
    assert_eq!((json.code, json.err.as_str()), (2, ""));
    let shown = json.json();
    assert_eq!((&shown["verdict"], &shown["plan"]["to"]), (&json!("Changes"), &json!("2.31.7")));
    assert_eq!(shown["plan"]["changes"]["images"][0]["container"], "coder");

    let yaml = plan_spec(&terminal, &world, &spec, &["-o", "yaml", "-q"]).await;
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml.out).unwrap(), shown);

    let markdown = plan_spec(&terminal, &world, &spec, &["-o", "markdown"]).await;
    assert!(markdown.out.starts_with(&format!("### Coder upgrade `{}/coder`: changes\n", world.namespace)));
    assert!(markdown.out.contains("<details><summary>Objects: "));

    for shown in [text, json, yaml, markdown] {
        assert!(!shown.out.contains("hunter2") && !shown.err.contains("hunter2"));
    }
    assert_eq!(objects(&world).await, before);
    world.finish().await;
}

#[tokio::test]
async fn what_would_be_taken_over_is_shown_as_it_runs() {
    let secret = ["testbed.env[0].name=CODER_OIDC_CLIENT_SECRET", "testbed.env[0].value=planted-hunter2-secret"];
    let world = World::with_v2("preview-adopt", "2.30.0", &[&secret[..], &["coder.replicaCount=2"]].concat()).await;
    let terminal = Terminal::of(&world).await;
    world.kubectl(&["delete", "secret", "--selector", "owner=helm,name=coder"]).await;
    let before = objects(&world).await;
    let values = std::fs::read_to_string(testbed::charts::charts_dir().join("coder-v2-values.yaml")).unwrap();
    let mut spec = spec(&world, "2.31.7");
    spec["values"] = serde_saphyr::from_str(&values).unwrap();
    let refused = plan_spec(&terminal, &world, &spec, &["--quiet"]).await;
    assert_eq!(refused.code, 4);
    assert!(refused.out.contains("REFUSED: ReleaseRecords (Deployment/coder)"), "{}", refused.out);
    spec["adopt"] = true.into();
    let shown = plan_spec(&terminal, &world, &spec, &["--quiet"]).await;
    assert_eq!(shown.code, 2);
    for words in [
        "Install 2.31.7 over what runs, of which helm has no record.",
        "nothing that helm has a record of; 2 servers answer 2.30.0",
        "Deployment/coder replaces its 2 pods one after the other",
        "The values would be: coder.env",
        "spec.replicas: 2 -> 1",
        "2.31.7: https://github.com/coder/coder/releases/tag/v2.31.7",
    ] {
        assert!(shown.out.contains(words), "{words}");
    }
    for shown in [refused, shown] {
        assert!(!shown.out.contains("hunter2") && !shown.err.contains("hunter2"));
    }
    assert_eq!(objects(&world).await, before);
    world.finish().await;
}

#[tokio::test]
async fn the_operator_finds_the_same_plan_and_the_exit_code_tells_where_it_stands() {
    let world = World::with_v2("preview-same", "2.30.0", &[]).await;
    let terminal = Terminal::of(&world).await;
    let mut spec = spec(&world, "2.31.7");
    spec["approval"] = "Manual".into();
    spec["verify"] = json!({"timeout": "60s", "soak": "1s"});
    let before = plan_spec(&terminal, &world, &spec, &["-o", "json"]).await;
    assert_eq!(before.code, 3);
    let id = before.json()["plan"]["id"].as_str().unwrap().to_owned();

    world.declare("coder", spec.clone()).await;
    let planned = |o: &coder_upgrade_operator::api::CoderUpgrade| o.status.as_ref().is_some_and(|s| s.plan.is_some());
    let status = world.until("coder", "planned", planned).await.status.unwrap();
    assert_eq!(status.plan.unwrap().id, id, "the operator's plan");
    let waiting = terminal.plan(&["coder", "-n", &world.namespace, "-o", "json"], "").await;
    assert_eq!((waiting.code, &waiting.json()["plan"]["id"]), (3, &json!(id)));
    let command = waiting.json()["approve"].as_str().unwrap().to_owned();
    assert!(command.ends_with(&format!("coderupgrade.dev/approve={id}")), "{command}");

    let arguments: Vec<&str> =
        command.split(' ').skip(1).filter(|word| !["-n", &world.namespace].contains(word)).collect();
    world.kubectl(&arguments).await;
    world.ready("coder").await;
    let done = terminal.plan(&["coder", "-n", &world.namespace], "").await;
    assert_eq!(done.code, 0);
    assert!(done.out.contains("nothing to do"));
    world.finish().await;
}

#[tokio::test]
async fn coder_classic_is_shown_with_its_volumes_and_addresses() {
    let world = World::with_v1("preview-v1", "1.16.1").await;
    let terminal = Terminal::of(&world).await;
    let before = objects(&world).await;
    let spec = json!({"version": "1.16.2", "chart": {"repository": world.repositories().v1}});
    let shown = plan_spec(&terminal, &world, &spec, &[]).await;
    assert_eq!(shown.code, 2);
    for words in
        ["timescale-data-timescale-0: Bound", "Service/ingress-nginx: ", "https://coder.com/docs/v1/changelog/1.16.2"]
    {
        assert!(shown.out.contains(words), "{words}");
    }
    assert_eq!(objects(&world).await, before);
    world.finish().await;
}

#[tokio::test]
async fn what_the_operator_would_refuse_has_an_exit_code_of_its_own() {
    let world = World::with_v2("preview-refused", "2.31.7", &[]).await;
    let terminal = Terminal::of(&world).await;
    let classic = json!({"version": "1.17.0", "chart": {"repository": world.repositories().v1}});
    let mut broken = spec(&world, "2.32.0");
    broken["values"] = json!({"coder": {"env": "no list"}});
    for (spec, words) in [(spec(&world, "2.31.6"), "2.31.6"), (classic, "Coder Classic"), (broken, "values")] {
        let shown = plan_spec(&terminal, &world, &spec, &[]).await;
        assert_eq!(shown.code, 4);
        assert!(shown.out.contains(words) && shown.out.contains("Next: "), "{words}");
    }
    world.finish().await;
}

#[tokio::test]
async fn what_the_api_server_would_refuse_is_told_in_its_words() {
    let world = World::new("preview-invalid").await;
    let terminal = Terminal::of(&world).await;
    for (spec, words) in [
        (json!({"verison": "2.31.7"}), "unknown field \"spec.verison\""),
        (json!({"version": "latest"}), "spec.version must be one exact chart version"),
        (json!({"values": ["a"]}), "spec.values"),
        (json!({"overrides": ["Nonsense"]}), "spec.overrides[0]"),
        (json!({"window": {"start": "22:00", "end": "22:00"}}), "window.start and window.end must differ"),
    ] {
        let shown = plan_spec(&terminal, &world, &spec, &[]).await;
        assert_eq!((shown.code, shown.out.as_str()), (1, ""));
        assert!(shown.err.contains("error: CoderUpgrade/coder is invalid") && shown.err.contains(words), "{words}");
    }
    let missing = plan_spec(&terminal, &world, &spec(&world, "2.31.99"), &[]).await;
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("2.31.99") && missing.err.contains("spec.version"));
    for command in ["plan", "rights"] {
        let other = terminal.run(&[command, "other", "-n", &world.namespace], "").await;
        let told =
            format!("error: there is no CoderUpgrade other in namespace {}\n  next: give the name", world.namespace);
        assert!(other.code == 1 && other.err.contains(&told) && !other.err.contains("Status {"), "{}", other.err);
    }
    let nowhere = terminal.plan(&["-f", "-", "-n", "no-such-namespace"], &manifest("coder", &json!({}))).await;
    assert!(nowhere.code == 1 && nowhere.err.contains("no-such-namespace"));
    world.finish().await;
}

#[rstest]
#[case::usage(&[], "", "required arguments")]
#[case::no_file(&["-f", "no-such-file.yaml"], "", "cannot read no-such-file.yaml")]
#[case::no_yaml(&["-f", "-"], "a: [", "standard input is no valid YAML")]
#[case::another_object(&["-f", "-"], "kind: Secret", "holds no CoderUpgrade, but Secret")]
#[case::another_namespace(&["-f", "-", "-n", "b"], "{apiVersion: coderupgrade.dev/v1alpha1, kind: CoderUpgrade, metadata: {name: a, namespace: a}}", "metadata.namespace: a, but --namespace says b")]
#[case::no_cluster(&["coder", "-n", "coder"], "", "CoderUpgrade/coder")]
#[tokio::test]
async fn what_cannot_be_planned_at_all_is_an_error(
    #[case] arguments: &[&str],
    #[case] input: &str,
    #[case] words: &str,
) {
    let shown = Terminal::offline().plan(arguments, input).await;
    assert_eq!((shown.code, shown.out.as_str()), (1, ""));
    assert!(shown.err.contains(words), "{words}");
}

#[tokio::test]
async fn without_helm_the_remedy_is_told() {
    let world = World::new("preview-no-helm").await;
    let terminal = Terminal::of(&world).await;
    std::fs::remove_file(terminal.bin.path().join("helm")).unwrap();
    let shown = plan_spec(&terminal, &world, &spec(&world, "2.31.7"), &[]).await;
    assert_eq!(shown.code, 1);
    assert!(shown.err.contains("helm 3 or 4"));
    world.finish().await;
}

#[tokio::test]
async fn what_a_controller_with_these_flags_would_refuse_is_said() {
    let world = World::with_v2("plan-allowed", "2.30.0", &[]).await;
    let terminal = Terminal::of(&world).await;
    let repository = world.repositories().v2.clone();
    let spec = json!({"version": "2.31.7", "chart": {"repository": repository}});
    let shown = plan_spec(&terminal, &world, &spec, &["--allowed-repositories", "https://helm.coder.com"]).await;
    assert_eq!(shown.code, 4, "{}", shown.err);
    for words in ["NotAllowed", "spec.chart.repository", "--allowed-repositories: https://helm.coder.com"] {
        assert!(shown.out.contains(words), "{words} is not in {}", shown.out);
    }
    let below = repository.trim_end_matches("/v2").to_owned();
    assert_eq!(plan_spec(&terminal, &world, &spec, &["--allowed-repositories", &below]).await.code, 2);
    let account = json!({"version": "2.31.7", "chart": {"repository": repository}, "job": {"serviceAccountName": "x"}});
    let allowed = ["--allowed-service-accounts", "coder-upgrade-runner"];
    assert_eq!(plan_spec(&terminal, &world, &account, &allowed).await.code, 4);
    assert_eq!(plan_spec(&terminal, &world, &account, &[]).await.code, 2, "nothing is said of the controller");
    world.finish().await;
}
