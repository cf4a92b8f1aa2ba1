//! The rehearsal: what helm would be refused for is known before anything changes, and nothing is written to find it out.
#![allow(clippy::unwrap_used)] // a test may; clippy does not see helper functions as tests

mod common;

use coder_upgrade_operator::api::{PlannedRepair, Remedy};
use common::World;
use common::audit::{requests, runner};
use common::steps::{HelmMajor, Steps};
use rstest::rstest;
use serde_json::{Value, json};

/// Every object of the namespace, with its version. What the runner writes beside the release is left out, and what others
/// write all the time.
async fn everything(world: &World) -> Vec<String> {
    let kinds = ["api-resources", "--namespaced", "--verbs=list", "--output=name", "--cached=false"];
    let kinds = world.cluster.kubectl(&kinds).await.unwrap();
    let left_out = |kind: &&str| {
        !kind.starts_with("events")
            && !kind.starts_with("jobs.")
            && !kind.starts_with("leases")
            && !kind.starts_with("coderupgrades")
    };
    let kinds: Vec<&str> = kinds.lines().map(str::trim).filter(|kind| !kind.is_empty()).filter(left_out).collect();
    let line = "{range .items[*]}{.kind}/{.metadata.name} {.metadata.uid} {.metadata.resourceVersion}{\"\\n\"}{end}";
    let all = world.kubectl(&["get", &kinds.join(","), "-o", &format!("jsonpath={line}")]).await;
    let ours = |line: &&str| !line.starts_with("Secret/coder-plan-");
    let mut all: Vec<String> = all.lines().filter(ours).map(ToOwned::to_owned).collect();
    all.sort();
    all
}

/// Waits until nobody writes any more.
async fn at_rest(world: &World) -> Vec<String> {
    world
        .eventually("rest", || async {
            let before = everything(world).await;
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            (before == everything(world).await).then_some(before)
        })
        .await
}

/// Writes of the runner that were no dry runs, and not its own business.
fn writes(world: &World, since: usize) -> Vec<String> {
    let own = |entry: &Value| {
        let object = &entry["objectRef"];
        object["resource"] == "jobs"
            || (object["resource"] == "secrets"
                && entry["verb"] == "create"
                && object["name"].as_str().is_some_and(|name| name.starts_with("coder-plan-")))
    };
    let real = |entry: &&Value| {
        let verb = entry["verb"].as_str().unwrap();
        !matches!(verb, "get" | "list" | "watch")
            && !entry["requestURI"].as_str().unwrap().contains("dryRun=All")
            && !own(entry)
    };
    let all = requests(world, &runner(world));
    all[since..].iter().filter(real).map(|entry| format!("{} {}", entry["verb"], entry["requestURI"])).collect()
}

fn dry_runs(world: &World, since: usize) -> usize {
    let all = requests(world, &runner(world));
    all[since..].iter().filter(|entry| entry["requestURI"].as_str().unwrap().contains("dryRun=All")).count()
}

fn found(repairs: &[PlannedRepair]) -> Vec<(Remedy, &str)> {
    repairs.iter().map(|repair| (repair.remedy, repair.object.as_str())).collect()
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn a_rehearsal_writes_nothing(#[case] helm: HelmMajor) {
    let steps = Steps::with("dry", helm, |r| &r.faults, "2.31.6", &[]).await;
    let world = &steps.world;
    let before = at_rest(world).await;
    let since = requests(world, &runner(world)).len();
    let planned = steps.plan(json!({"version": "2.31.11"})).await;
    assert_eq!(found(&planned.plan.forecast.repairs), [(Remedy::Replace, "Deployment/coder")]);
    assert_eq!(everything(world).await, before);
    assert_eq!(writes(world, since), [] as [String; 0]);
    assert!(dry_runs(world, since) > 5, "it was rehearsed");
    let upgraded = steps.upgrade().await;
    assert_eq!(
        (upgraded.current.revision, upgraded.current.version.as_str()),
        (2, "2.31.11"),
        "no failed revision is left"
    );
    steps.world.finish().await;
}
