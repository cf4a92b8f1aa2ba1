//! What cannot be done is said in a sentence, with an exit code, and nothing is lost.

use crate::common::{World, terminal::Terminal};
use coder_upgrade_operator::api::crd;
use kube::ResourceExt;
use rstest::rstest;
use serde_json::{Value, json};
use testbed::{Cluster, ClusterOptions};

#[rstest]
#[case::status(&["status"])]
#[case::watch(&["status", "coder", "--watch"])]
#[case::upgrade(&["upgrade", "coder", "--version", "2.31.7", "--wait"])]
#[case::approve(&["approve", "coder", "--yes"])]
#[case::retry(&["retry", "coder"])]
#[case::suspend(&["suspend", "coder"])]
#[case::resume(&["resume", "coder"])]
#[case::history(&["history", "coder"])]
#[case::logs(&["logs", "coder"])]
#[case::setup(&["setup"])]
#[tokio::test]
async fn an_api_server_that_is_not_there_is_told(#[case] words: &[&str]) {
    let shown = Terminal::offline().run(&[words, &["-n", "coder"]].concat(), "").await;
    assert_eq!((shown.code, shown.out.as_str()), (1, ""));
    assert!(shown.err.starts_with("error: cannot "), "{}", shown.err);
    assert!(shown.err.contains("the API server at http://127.0.0.1:1 cannot be reached ("), "{}", shown.err);
    assert!(shown.err.contains("\n  next: ") && shown.err.lines().count() == 2, "{}", shown.err);
}

#[rstest]
#[case::no_version(&["upgrade", "coder"], "--version <VERSION>")]
#[case::unknown(&["status", "--wach"], "--watch")]
#[case::no_command(&["stauts"], "status")]
#[case::no_time(&["status", "coder", "--watch", "--timeout", "soon"], "write it as 90s, 10m or 1h30m")]
#[case::no_watch(&["status", "coder", "--timeout", "1m"], "--watch")]
#[case::no_step(&["logs", "coder", "--step", "Fly"], "Fly")]
#[case::no_kubeconfig(&["status", "--kubeconfig", "/no/such/file"], "/no/such/file")]
#[case::no_context(&["status", "--context", "elsewhere"], "elsewhere")]
#[case::no_shell(&["completion", "tcl"], "bash")]
#[tokio::test]
async fn wrong_flags_are_named(#[case] words: &[&str], #[case] told: &str) {
    let shown = Terminal::offline().run(words, "").await;
    assert_eq!((shown.code, shown.out.as_str()), (1, ""));
    assert!(shown.err.starts_with("error: ") && shown.err.contains(told), "{}", shown.err);
}

#[tokio::test]
async fn what_is_refused_is_told_and_nothing_is_changed() {
    let world = World::new("plugin-refused").await;
    let terminal = Terminal::of(&world).await;
    let run = async |words: &[&str]| terminal.run(&[words, &["-n", &world.namespace]].concat(), "").await;
    let empty = run(&["status"]).await;
    let told = format!("error: there is no CoderUpgrade in namespace {}\n  next: ", world.namespace);
    assert!(empty.code == 1 && empty.err.starts_with(&told), "{}", empty.err);
    for command in [&["status", "other"][..], &["suspend", "other"], &["history", "other"], &["logs", "other"]] {
        let absent = run(command).await;
        let told = format!("error: there is no CoderUpgrade other in namespace {}\n  next: ", world.namespace);
        assert!(absent.code == 1 && absent.err.starts_with(&told), "{}", absent.err);
    }

    world.declare("coder", json!({"version": "2.31.7", "suspend": true})).await;
    let before = world.get("coder").await.spec;
    let invalid = run(&["upgrade", "coder", "--version", "latest"]).await;
    assert!(
        invalid.code == 1 && invalid.err.contains("spec.version must be one exact chart version"),
        "{}",
        invalid.err
    );
    for (words, right) in [
        (&["status", "coder"][..], "get coderupgrades.coderupgrade.dev"),
        (&["suspend", "coder"], "patch coderupgrades.coderupgrade.dev"),
        (&["status"], "list coderupgrades.coderupgrade.dev"),
        (&["setup"], "patch"),
    ] {
        let refused = run(&[words, &["--as", "jane"]].concat()).await;
        let told = format!("user jane lacks the right to {right}");
        assert!(refused.code == 1 && refused.err.contains(&told), "{}", refused.err);
    }
    assert_eq!(world.get("coder").await.spec, before);
    world.finish().await;
}

/// A field that the cluster does not know would be dropped without a word, and what was asked for would not happen.
#[tokio::test]
async fn an_older_or_missing_definition_is_told_and_nothing_is_dropped() {
    let options = ClusterOptions { owner_pid: Some(std::process::id()), ..ClusterOptions::default() };
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::up(options).await.unwrap()));
    let world = World::on(cluster, "plugin-older").await;
    let terminal = Terminal::of(&world).await;
    let run = async |words: &[&str]| terminal.run(&[words, &["-n", &world.namespace]].concat(), "").await;
    let unknown = run(&["status"]).await;
    assert!(
        unknown.code == 1
            && unknown.err.starts_with("error: the cluster does not know the kind CoderUpgrade\n  next: "),
        "{}",
        unknown.err
    );

    let mut older = serde_json::to_value(crd()).unwrap();
    let spec = &mut older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["properties"].as_object_mut().unwrap().remove("suspend");
    cluster.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &older.to_string()).await.unwrap();
    let established = ["wait", "--for=condition=Established", "--timeout=30s", "crd/coderupgrades.coderupgrade.dev"];
    cluster.kubectl(&established).await.unwrap();
    let object = json!({"apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade",
        "metadata": {"name": "coder"}, "spec": {"version": "2.31.7"}});
    world.apply(&object).await;
    let before = world.get("coder").await;
    let refused = run(&["suspend", "coder"]).await;
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("is older than this program") && refused.err.contains("spec.suspend"),
        "{}",
        refused.err
    );
    assert!(refused.err.contains("coder-upgrade-operator crd | kubectl apply"), "{}", refused.err);
    assert_eq!(world.get("coder").await.resource_version(), before.resource_version(), "nothing was changed");
    assert_eq!(run(&["status", "coder"]).await.code, 4, "what is there is shown");
    assert_eq!(run(&["upgrade", "coder", "--version", "2.31.8"]).await.code, 0);
    assert_eq!(world.get("coder").await.spec.version.as_deref(), Some("2.31.8"));

    // One that is newer, as a program sees it that was not replaced with it.
    let present = world.kubectl(&["get", "crd", "coderupgrades.coderupgrade.dev", "-o", "json"]).await;
    let mut newer: Value = serde_json::from_str(&present).unwrap();
    let spec = &mut newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["properties"]["novelty"] = json!({"type": "string"});
    cluster.kubectl_with_input(&["replace", "-f", "-"], &newer.to_string()).await.unwrap();
    let patch = r#"{"spec": {"novelty": "yes"}}"#;
    let patched = || async {
        world.kubectl(&["patch", "cu", "coder", "--type=merge", "-p", patch]).await;
        world.kubectl(&["get", "cu", "coder", "-o", "yaml"]).await.contains("novelty").then_some(())
    };
    world.eventually("definition with the new field", patched).await;
    let other = run(&["status", "coder"]).await;
    assert!(
        other.code == 1 && other.err.contains("are of different versions") && other.err.contains("novelty"),
        "{}",
        other.err
    );
}
