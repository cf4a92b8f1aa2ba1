//! Somebody else changes what was verified.

use coder_upgrade_operator::api::CoderUpgrade;
use serde_json::{Value, json};

use super::{World, is, observed};

/// Coder v2 at 2.31.6, declared and verified so.
pub async fn verified(name: &str, spec: Value) -> World {
    let world = World::with_v2(name, "2.31.6", &[]).await;
    let mut all = json!({"version": "2.31.6", "chart": {"repository": world.repositories().v2}});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    world.declare("coder", all).await;
    let object = world.ready("coder").await;
    let marked: Vec<_> = object.status.unwrap().workloads.iter().map(|w| format!("{}/{}", w.kind, w.name)).collect();
    assert_eq!(marked, ["Deployment/coder"]);
    world
}

/// Waits until a change from outside is told, and returns its lines.
pub async fn noticed(world: &World, attempt: i32) -> (CoderUpgrade, String) {
    let object = world
        .until("coder", "known to be changed", |o| {
            o.status.as_ref().is_some_and(|s| s.attempt > attempt || !s.drift.is_empty()) && !is(o, "Ready", "True")
        })
        .await;
    let lines = object.status.as_ref().unwrap().drift.join("\n");
    (object, lines)
}

/// Waits until it is verified again, by an attempt after this one.
pub async fn verified_again(world: &World, attempt: i32) -> CoderUpgrade {
    let ready = |o: &CoderUpgrade| observed(o) && is(o, "Ready", "True");
    world.until("coder", "ready again", |o| ready(o) && o.status.as_ref().is_some_and(|s| s.attempt > attempt)).await
}

pub async fn upgrade_by_hand(world: &World, version: &str, more: &[&str]) {
    let repository = &world.repositories().v2;
    let arguments =
        ["upgrade", "coder", "coder", "--repo", repository, "--version", version, "--reset-then-reuse-values"];
    world.helm(&arguments.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()).await;
}
