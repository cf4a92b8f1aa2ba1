//! The commands that let an upgrade go on, and those that look back.

use crate::common::{World, terminal::Terminal};
use coder_upgrade_operator::api::{CoderUpgrade, Phase, annotation};
use kube::ResourceExt;
use serde_json::json;

fn spec(world: &World, more: &serde_json::Value) -> serde_json::Value {
    let mut spec = json!({"version": "2.31.7", "chart": {"repository": world.repositories().v2}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

#[tokio::test]
async fn what_waits_for_a_person_goes_on_by_the_commands_that_are_shown() {
    let world = World::with_v2("plugin-waits", "2.30.0", &[]).await;
    let terminal = Terminal::of(&world).await;
    let run =
        async |words: &[&str], input: &str| terminal.run(&[words, &["-n", &world.namespace]].concat(), input).await;
    let command = |verb: &str| format!("\n    coder-upgrade-operator {verb} coder -n {}\n", world.namespace);
    world.declare("coder", spec(&world, &json!({"suspend": true, "approval": "Manual"}))).await;
    let suspended = run(&["status", "coder", "--watch"], "").await;
    assert!(suspended.code == 3 && suspended.out.contains(&command("resume")), "{}", suspended.out);

    let resumed = run(&["resume", "coder", "--wait"], "").await;
    assert!(resumed.code == 3 && resumed.out.contains(&command("approve")), "{}", resumed.out);
    let approved = |object: &CoderUpgrade| object.annotations().get(annotation::APPROVE).cloned();
    for answer in ["n\n", "", "maybe\n"] {
        let refused = run(&["approve", "coder"], answer).await;
        assert_eq!((refused.code, refused.err.as_str()), (1, "error: not approved; nothing was changed\n"));
        for words in ["2.30.0 -> 2.31.7", "interruption", "Approve this? [y/N]"] {
            assert!(refused.out.contains(words), "{words}");
        }
    }
    assert_eq!(approved(&world.get("coder").await), None);
    let done = run(&["approve", "coder", "--wait"], "y\n").await;
    assert!(done.code == 0 && done.out.contains("standing   Verified"), "{}", done.out);
    let plan = world.get("coder").await.status.unwrap().plan.unwrap().id;
    assert_eq!(approved(&world.get("coder").await), Some(plan));
    let nothing = run(&["approve", "coder", "--yes"], "").await;
    assert_eq!(nothing.code, 1);
    assert!(nothing.err.contains("nothing of CoderUpgrade coder waits for an approval: it is Succeeded"));

    let paused = run(&["suspend", "coder"], "").await;
    assert_eq!((paused.code, world.get("coder").await.spec.suspend), (0, true));
    world.finish().await;
}

#[tokio::test]
async fn logs_and_history_tell_what_was_done_also_when_the_pod_is_gone() {
    let world = World::with_v2("plugin-logs", "2.30.0", &[]).await;
    let terminal = Terminal::of(&world).await;
    let run = async |words: &[&str]| terminal.run(&[words, &["-n", &world.namespace]].concat(), "").await;
    world.declare("coder", spec(&world, &json!({"suspend": true}))).await;
    world.phase("coder", Phase::Suspended).await;
    let early = run(&["logs", "coder", "--step", "upgrade"]).await;
    assert_eq!(early.code, 1);
    assert!(
        early.err.contains("the present attempt of CoderUpgrade coder has no step Upgrade with a Job"),
        "{}",
        early.err
    );
    assert_eq!(run(&["resume", "coder", "--wait"]).await.code, 0);

    let log = run(&["logs", "coder"]).await;
    assert!(log.code == 0 && log.out.contains("upgraded to 2.31.7: 1 pod answers 2.31.7"), "{}", log.out);
    let plan = run(&["logs", "coder", "--step", "Plan", "--follow"]).await;
    assert!(plan.code == 0 && plan.out.contains("planned: Upgrade to 2.31.7"), "{}", plan.out);
    world.kubectl(&["delete", "pods", "--selector", "coderupgrade.dev/upgrade=coder", "--wait"]).await;
    let saved = run(&["logs", "coder"]).await;
    assert!(
        saved.code == 0 && saved.out.contains("is gone; this was saved in status)\n1 pod answers 2.31.7"),
        "{}",
        saved.out
    );

    let history = run(&["history", "coder"]).await;
    let lines: Vec<Vec<&str>> = history.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..5], ["ATTEMPT", "FROM", "TO", "REVISION", "OUTCOME"]);
    assert_eq!(lines[1][1..5], ["2.30.0", "2.31.7", "2", "Succeeded"]);
    assert_eq!(run(&["history", "coder", "-o", "json"]).await.json()[0]["to"], "2.31.7");
    world.finish().await;
}
