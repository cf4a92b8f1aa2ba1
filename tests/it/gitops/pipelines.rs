//! The pipelines in `deploy/gitops`: the plan before the merge, and the wait after it.

use std::path::Path;
use std::time::Duration;

use coder_upgrade_operator::cli::Cli;
use serde_json::{Value, json};

use crate::common::{World, files, terminal::Terminal};

const PLUGIN: &str = "kubectl coder-upgrade";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pipeline(name: &str) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(root().join("deploy/gitops").join(name)).unwrap()).unwrap()
}

fn script(value: &Value) -> String {
    value.as_str().expect("a script").to_owned()
}

/// The scripts of the two jobs: GitHub's, and GitLab's.
fn scripts(job: &str, step: usize) -> [String; 2] {
    let (github, gitlab) = (pipeline("github-actions.yaml"), pipeline("gitlab-ci.yml"));
    [script(&github["jobs"][job]["steps"][step]["run"]), script(&gitlab[job]["script"][0])]
}

/// The arguments of each call of the plugin in a text.
fn calls(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let calls = text.lines().filter_map(|line| line.trim().trim_start_matches("$ ").strip_prefix(PLUGIN));
    calls.map(|call| call.split_whitespace().take_while(|word| !word.starts_with(['|', '>', '#'])).collect())
}

#[test]
fn every_command_of_a_pipeline_and_of_the_documents_exists() {
    let (mut paths, mut count) = (files(&root().join("docs")), 0);
    paths.extend(files(&root().join("deploy/gitops")));
    for path in paths {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for call in calls(&text) {
            let arguments = std::iter::once(PLUGIN).chain(call.iter().copied()).map(Into::into);
            let read = Cli::read(PLUGIN, arguments);
            assert!(read.is_ok(), "{}: {PLUGIN} {call:?}: {}", path.display(), read.unwrap_err());
            count += 1;
        }
    }
    assert!(count > 4, "{count} commands were found");
    assert!(Cli::read(PLUGIN, [PLUGIN, "status", "--follow"].map(Into::into)).is_err());
}

#[tokio::test]
async fn a_pipeline_shows_the_plan_and_waits_for_the_version_that_was_merged() {
    let world = World::with_v2("gitops-pipeline", "2.31.6", &[]).await;
    let (terminal, directory) = (Terminal::of(&world).await, tempfile::tempdir().unwrap());
    world.upgrade_to("2.31.6").await;
    let installed = serde_json::to_value(&world.ready("coder").await.spec).unwrap();
    let commit = |version: &str| {
        let mut spec = installed.clone();
        spec["version"] = version.into();
        let metadata = json!({"name": "coder", "namespace": world.namespace});
        let object = json!({
            "apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": metadata, "spec": spec,
        });
        std::fs::write(directory.path().join("coder.yaml"), object.to_string()).unwrap();
        object
    };
    let run = async |script: &str| {
        let script = script.replace(" -n coder ", &format!(" -n {} ", world.namespace));
        terminal.script(&script, directory.path()).await
    };

    let merged = commit("2.31.7");
    let [plan, _] = scripts("plan", 1);
    assert_eq!(run(&plan).await.code, 0);
    let written = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    assert_eq!(written("output"), "code=2\n");
    assert!(written("comment.md").contains("2.31.7"), "{}", written("comment.md"));
    assert_eq!(world.release().await, (1, "deployed".into()), "a plan changes nothing");

    // The version before is verified, and the merged one has not come to the cluster yet.
    let [github, gitlab] = scripts("wait", 1);
    assert_eq!(github, gitlab);
    let mut waiting = Box::pin(run(&github));
    let early = tokio::time::timeout(Duration::from_secs(5), &mut waiting).await;
    assert!(early.is_err(), "the verification of 2.31.6 counts for 2.31.7");
    let (waited, ()) = tokio::join!(waiting, world.apply(&merged));
    assert_eq!(waited.code, 0);
    assert_eq!(world.get("coder").await.status.unwrap().current.unwrap().version, "2.31.7");

    // Coder has no way back.
    let merged = commit("2.30.0");
    let refused = run(&plan).await;
    assert_eq!((refused.code, written("output").as_str()), (0, "code=2\ncode=4\n"));
    let refuse = script(&pipeline("github-actions.yaml")["jobs"]["plan"]["steps"][3]["run"]);
    for (code, ends_with) in [(2, 0), (4, 1)] {
        assert_eq!(run(&format!("CODE={code}\n{refuse}")).await.code, ends_with, "after a plan that ended with {code}");
    }
    world.apply(&merged).await;
    let failed = run(&gitlab).await;
    assert_eq!(failed.code, 2, "the pipeline fails with the upgrade");
    assert!(failed.out.contains("Downgrade"), "and says why: {}", failed.out);
    world.finish().await;
}
