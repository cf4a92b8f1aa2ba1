//! What a real server of Coder v2 does when its database does not let it start, or it is told to stop in the middle: what is
//! final ends the wait within seconds, what passes is waited for, and the reason stands in the status. What the servers of the
//! test bed say and do was measured on Coder 2.31.7.

use std::time::{Duration, Instant};

use crate::common::World;
use coder_upgrade_operator::api::{CoderUpgrade, Failure, FailureClass, Phase, StepName};
use rstest::rstest;
use serde_json::{Value, json};

const CLAIM: &str = "data-database-0";

/// An upgrade from 2.30.0 (413 migrations) to 2.31.7 (421), with these faults of the database's servers. helm would wait for
/// longer than anything here takes.
async fn upgrade(name: &str, faults: &[(&str, &str)], more: Value) -> World {
    let world = World::with_v2(name, "2.30.0", &[]).await;
    world.cluster.fault(&world.namespace, CLAIM, faults).await.unwrap();
    declare(&world, more).await;
    world
}

async fn declare(world: &World, more: Value) {
    let mut spec = json!({
        "version": "2.31.7", "chart": {"repository": world.repositories().v2},
        "helm": {"timeout": "10m"}, "retry": {"limit": 0},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.declare("coder", spec).await;
}

/// Waits until the status says so while helm is at work.
async fn says(world: &World, words: &str) -> String {
    let told =
        |o: &CoderUpgrade| o.status.as_ref().is_some_and(|s| s.phase == Phase::Upgrading && s.message.contains(words));
    world.until("coder", &format!("one that says {words:?}"), told).await.status.unwrap().message
}

async fn failure(world: &World, class: FailureClass) -> Failure {
    let failure = world.stalled("coder").await.status.unwrap().failure.unwrap();
    assert_eq!(failure.class, class, "{failure:?}");
    assert_eq!(failure.next_step, class.next_step());
    failure
}

async fn schema(world: &World) -> u64 {
    world.cluster.database(&world.namespace, CLAIM).await.unwrap().schema
}

/// The old servers, which serve as long as no new one is ready.
async fn old_ones_serve(world: &World) {
    let ready = world.kubectl(&["get", "deployment/coder", "-o", "jsonpath={.status.readyReplicas}"]).await;
    assert_eq!(ready, "1");
}

#[tokio::test]
async fn a_migration_that_fails_for_good_is_found_within_seconds() {
    let error = "relation \"task_snapshots\" already exists";
    let begun = Instant::now();
    let world = upgrade("sql-error", &[("CODER_SIM_MIGRATION_ERROR@2.31.7", error)], json!({})).await;
    let failure = failure(&world, FailureClass::MigrationFailed).await;
    assert!(begun.elapsed() < Duration::from_secs(120), "helm was not waited for: {:?}", begun.elapsed());
    let first = failure.message.lines().next().unwrap();
    assert!(
        first.contains(&format!("a migration of the database failed: {error}; nothing of the migration")),
        "{first}"
    );
    let excerpt = failure.excerpt.unwrap();
    assert!(excerpt.contains("(details: pq: ") && !excerpt.contains(['\r', '\u{1b}']), "{excerpt}");
    assert_eq!(schema(&world).await, 413);
    old_ones_serve(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn a_deadlock_with_the_old_servers_passes() {
    let error = "3 deadlock detected, Process 5516 waits for AccessExclusiveLock on relation 17040 of database 16384";
    let faults = [("CODER_SIM_MIGRATION_ERROR@2.31.7", error)];
    let world = upgrade("deadlock", &faults, json!({})).await;
    says(&world, "could not migrate the database: deadlock detected; nothing of the migration was kept").await;
    world.ready("coder").await;
    assert_eq!(schema(&world).await, 421);
    world.finish().await;
}

#[rstest]
#[case::rights("CODER_SIM_DENIED@2.31.7", "permission denied for schema public", FailureClass::DatabaseRefused)]
#[case::old_postgres("CODER_SIM_POSTGRES_VERSION@2.31.7", "120000", FailureClass::DatabaseRefused)]
#[case::dirty("CODER_SIM_DIRTY@2.31.7", "1", FailureClass::DatabaseNotMigrated)]
#[tokio::test]
async fn a_database_that_no_start_can_use_ends_the_wait(
    #[case] fault: &str,
    #[case] value: &str,
    #[case] class: FailureClass,
) {
    let begun = Instant::now();
    let world = upgrade("unusable", &[(fault, value)], json!({})).await;
    let failure = failure(&world, class).await;
    assert!(begun.elapsed() < Duration::from_secs(120), "helm was not waited for: {:?}", begun.elapsed());
    let words = if class == FailureClass::DatabaseNotMigrated { "half done" } else { value };
    assert!(failure.message.lines().next().unwrap().contains(words), "{}", failure.message);
    old_ones_serve(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn a_wrong_password_is_told_while_it_is_tried_and_at_the_end() {
    let world = World::with_v2("password", "2.30.0", &[]).await;
    let url = json!({"stringData": {"url": "postgres://coder:wrong-horse@database:5432/coder?sslmode=disable"}});
    world.kubectl(&["patch", "secret", "coder-db-url", "--patch", &url.to_string()]).await;
    declare(&world, json!({})).await;
    let told = says(&world, "cannot reach its database for ").await;
    assert!(told.contains("password authentication failed for user"), "{told}");
    let failure = failure(&world, FailureClass::DatabaseRefused).await;
    assert!(failure.message.contains("is refused by its database: pq: password authentication failed"), "{failure:?}");
    old_ones_serve(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn a_database_that_is_away_for_longer_than_a_server_tries_is_waited_for() {
    let world = World::with_v2("away", "2.30.0", &[]).await;
    world.kubectl(&["scale", "statefulset/database", "--replicas=0"]).await;
    world.kubectl(&["wait", "--for=delete", "pod/database-0", "--timeout=60s"]).await;
    declare(&world, json!({})).await;
    says(&world, "cannot reach its database for ").await;
    // It gives up after 30 s, and is started again.
    says(&world, "cannot reach its database: dial tcp").await;
    world.kubectl(&["scale", "statefulset/database", "--replicas=1"]).await;
    world.ready("coder").await;
    assert_eq!(schema(&world).await, 421);
    world.finish().await;
}

#[tokio::test]
async fn a_database_that_stays_away_is_the_reason_at_the_end() {
    let world = World::with_v2("stays-away", "2.30.0", &[]).await;
    world.kubectl(&["scale", "statefulset/database", "--replicas=0"]).await;
    world.kubectl(&["wait", "--for=delete", "pod/database-0", "--timeout=60s"]).await;
    declare(&world, json!({"helm": {"timeout": "15s"}})).await;
    let failure = failure(&world, FailureClass::DatabaseUnreachable).await;
    assert!(failure.message.contains("cannot reach its database: dial tcp database"), "{}", failure.message);
    world.finish().await;
}

#[tokio::test]
async fn servers_that_start_together_wait_for_the_first_to_migrate() {
    let world = World::with_v2("together", "2.30.0", &["coder.replicaCount=2"]).await;
    world.cluster.fault(&world.namespace, CLAIM, &[("CODER_SIM_MIGRATION@2.31.7", "15s")]).await.unwrap();
    declare(&world, json!({"strategy": "Recreate"})).await;
    says(&world, "waits for a lock in it").await;
    let verified = world.ready("coder").await.status.unwrap();
    assert!(verified.message.contains("2 pods answer 2.31.7"), "{}", verified.message);
    world.finish().await;
}

#[tokio::test]
async fn a_rollback_in_the_middle_of_a_migration_tells_that_the_database_may_be_new() {
    let faults = [("CODER_SIM_MIGRATION@2.31.7", "25s")];
    let helm = json!({"timeout": "10s", "rollbackOnFailure": true});
    let world = upgrade("rolled-back", &faults, json!({"helm": helm})).await;
    let status = world.stalled("coder").await.status.unwrap();
    let failed = status.failure.unwrap();
    assert!(failed.message.contains("helm has rolled back after a pod of 2.31.7 had started"), "{failed:?}");
    assert_eq!(status.highest_started_version.as_deref(), Some("2.31.7"));
    assert!(!status.steps.iter().any(|step| step.name == StepName::Restore), "{:?}", status.steps);
    // The pod was told to end, and has committed all the same.
    world.eventually("the new schema", || async { (schema(&world).await == 421).then_some(()) }).await;
    world.kubectl(&["annotate", "cu", "coder", "coderupgrade.dev/requested-at=now"]).await;
    let done = |o: &CoderUpgrade| o.status.as_ref().unwrap().current.as_ref().is_some_and(|c| c.version == "2.31.7");
    world.until("coder", "at 2.31.7", done).await;
    world.ready("coder").await;
    world.finish().await;
}

#[tokio::test]
async fn a_server_that_ends_itself_after_an_outage_of_its_database_is_no_failed_upgrade() {
    let world = World::with_v2("watchdog", "2.30.0", &[]).await;
    let values = json!({"testbed": {"env": [{"name": "CODER_SIM_WATCHDOG", "value": "8s"}]}});
    declare(&world, json!({"values": values, "verify": {"timeout": "60s", "soak": "25s"}})).await;
    world.phase("coder", Phase::Verifying).await;
    let watching = |o: &CoderUpgrade| o.status.as_ref().unwrap().message.contains("watching for");
    world.until("coder", "one that is watched", watching).await;
    // Away for longer than the time between two heartbeats, which is a twentieth of the watchdog's.
    world.kubectl(&["scale", "statefulset/database", "--replicas=0"]).await;
    world.kubectl(&["wait", "--for=delete", "pod/database-0", "--timeout=60s"]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.kubectl(&["scale", "statefulset/database", "--replicas=1"]).await;
    let restarts = ["get", "pods", "-l", "app.kubernetes.io/name=coder", "-o"];
    let restarts = [&restarts[..], &["jsonpath={.items[*].status.containerStatuses[0].restartCount}"]].concat();
    world.eventually("restart", || async { world.kubectl(&restarts).await.contains('1').then_some(()) }).await;
    world.ready("coder").await;
    world.finish().await;
}
