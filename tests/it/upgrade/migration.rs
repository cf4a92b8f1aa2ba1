//! While new pods start, the status tells one that migrates from one that crashes, from one that finds no node, and from one
//! that will never start; what a failure is called is what the pods said.

use std::time::{Duration, Instant};

use crate::common::{CLASSIC_CLAIM, World};
use coder_upgrade_operator::api::{CoderUpgrade, Failure, FailureClass, Phase};
use serde_json::{Value, json};
use testbed::sim::record::Line;

/// The claim of the database of Coder v2.
const CLAIM: &str = "data-database-0";

/// Longer than anything here takes: whatever ends before was not waited for.
const LONG: &str = "10m";

async fn declare(world: &World, version: &str, timeout: &str, more: Value) {
    let mut spec = json!({
        "version": version, "chart": {"repository": world.repositories().faults},
        "helm": {"timeout": timeout}, "retry": {"limit": 0},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.declare("coder", spec).await;
}

/// Waits until the status says so while helm is at work.
async fn says(world: &World, words: &str) -> String {
    let told = |o: &CoderUpgrade| {
        let status = o.status.as_ref();
        status
            .is_some_and(|s| s.phase == Phase::Upgrading && s.message.contains(words) && s.message.starts_with("Pod/"))
    };
    let object = world.until("coder", &format!("one that says {words:?}"), told).await;
    let status = object.status.unwrap();
    assert_eq!(status.steps.last().unwrap().message, status.message);
    status.message
}

async fn failure(world: &World, class: FailureClass) -> Failure {
    let failure = world.stalled("coder").await.status.unwrap().failure.unwrap();
    assert_eq!(failure.class, class, "{failure:?}");
    failure
}

#[tokio::test]
async fn a_long_migration_is_shown_with_its_time_and_waited_for() {
    let world = World::with_v2("migrates", "2.30.0", &[]).await;
    world.cluster.fault(&world.namespace, CLAIM, &[("CODER_SIM_MIGRATION@2.31.7", "20s")]).await.unwrap();
    declare(&world, "2.31.7", LONG, json!({})).await;
    // Nothing in the log speaks of a migration: the listener is open, and nobody answers.
    let told = says(&world, "silent for ").await;
    assert!(told.contains("it migrates the database, or waits for a lock in it"), "{told}");
    says(&world, "silent for 1").await; // It goes on counting: ten seconds and more.
    assert_eq!(world.ready("coder").await.status.unwrap().current.unwrap().version, "2.31.7");
    world.finish().await;
}

#[tokio::test]
async fn a_schema_that_is_too_new_ends_the_wait() {
    let world = World::with_v2("schema", "2.31.6", &[]).await;
    world.cluster.edit_database(&world.namespace, CLAIM, |record| record.schema = 9999).await.unwrap();
    let begun = Instant::now();
    declare(&world, "2.31.7", LONG, json!({})).await;
    let failure = failure(&world, FailureClass::SchemaTooNew).await;
    assert!(begun.elapsed() < Duration::from_secs(150), "helm was not waited for");
    assert!(failure.message.contains("schema version 9999"), "{}", failure.message);
    assert!(failure.object.unwrap().starts_with("Pod/coder-"));
    assert!(failure.excerpt.unwrap().contains("no migration found for version 9999"));
    assert_eq!(world.release().await, (2, "failed".into()), "helm had the time to record it");
    world.finish().await;
}

#[tokio::test]
async fn a_database_of_the_other_product_line_ends_the_wait() {
    let world = World::with_v2("line", "2.31.6", &[]).await;
    world.cluster.edit_database(&world.namespace, CLAIM, |record| record.line = Some(Line::V1)).await.unwrap();
    declare(&world, "2.31.7", LONG, json!({})).await;
    let failure = failure(&world, FailureClass::WrongDatabase).await;
    assert!(failure.message.contains("a database of Coder v1"), "{}", failure.message);
    world.finish().await;
}

#[tokio::test]
async fn a_migration_that_a_liveness_probe_kills_is_called_that() {
    let world = World::with_v2("liveness", "2.31.6", &[]).await;
    // The server does not heed SIGTERM while it migrates: each kill takes as long as the grace period.
    let values = json!({"coder": {"terminationGracePeriodSeconds": 3}});
    declare(&world, "2.31.22", "40s", json!({"overrides": ["Probe"], "values": values})).await;
    says(&world, "was killed by its liveness probe in the middle of a migration").await;
    let failure = failure(&world, FailureClass::MigrationKilled).await;
    assert!(failure.next_step.contains("coder.livenessProbe.enabled: false"), "{}", failure.next_step);
    world.finish().await;
}

#[tokio::test]
async fn a_crash_loop_is_told_with_its_last_words() {
    let world = World::with_v2("crashes", "2.31.6", &[]).await;
    declare(&world, "2.31.8", "20s", json!({})).await;
    let told = says(&world, "keeps ending with exit code 1").await;
    assert!(told.contains("it said: ") && told.contains("workspace-scheduler"), "{told}");
    let failure = failure(&world, FailureClass::RolloutTimedOut).await;
    assert!(failure.message.contains("it said: error: "), "{}", failure.message);
    world.finish().await;
}

#[tokio::test]
async fn a_pod_that_finds_no_node_is_told() {
    let world = World::with_v2("no-node", "2.31.6", &[]).await;
    let values = json!({"coder": {"resources": {"requests": {"cpu": "1000"}}}});
    declare(&world, "2.31.7", "10s", json!({"values": values, "overrides": ["Schedulable"]})).await;
    let told = says(&world, "cannot be scheduled").await;
    assert!(told.contains("Insufficient cpu"), "{told}");
    let failure = failure(&world, FailureClass::RolloutTimedOut).await;
    assert!(failure.message.contains("Insufficient cpu"), "{}", failure.message);
    world.finish().await;
}

#[tokio::test]
async fn the_init_container_of_coder_classic_is_known_to_migrate() {
    let world = World::with_v1("migrates-v1", "1.16.1").await;
    world.cluster.fault(&world.namespace, CLASSIC_CLAIM, &[("CODER_SIM_MIGRATION@1.16.2", "12s")]).await.unwrap();
    let chart = json!({"repository": world.repositories().v1});
    world.declare("coder", json!({"version": "1.16.2", "chart": chart})).await;
    let told = says(&world, "migrating the database for ").await;
    assert!(told.starts_with("Pod/cemanager-"), "{told}");
    world.ready("coder").await;
    world.finish().await;
}
