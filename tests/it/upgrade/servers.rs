//! Stories of servers and their databases: on the stand-in, and with `cargo xtask test --coder-binaries DIR` on real servers of
//! Coder with a real `PostgreSQL`. What holds for one of them only is a defect of the stand-in, or of the product.

use std::time::{Duration, Instant};

use crate::common::servers::{Kind, Servers};
use coder_upgrade_operator::api::{CoderUpgrade, Failure, Phase};
use rstest::rstest;
use serde_json::{Value, json};

async fn verified(servers: &Servers) {
    let status = servers.world.ready("coder").await.status.unwrap();
    assert_eq!(status.current.unwrap().version, servers.to);
    assert!(
        status.message.contains(&format!("answers {}", servers.to)) || status.message.contains("answer"),
        "{}",
        status.message
    );
}

/// An upgrade that nothing hinders.
async fn upgraded(name: &str, kind: Kind, settings: &[&str], spec: Value) -> Servers {
    let servers = Servers::installed(name, kind, settings).await;
    servers.upgrade(spec).await;
    verified(&servers).await;
    servers
}

async fn failed(servers: &Servers) -> Failure {
    servers.world.stalled("coder").await.status.unwrap().failure.unwrap()
}

/// Waits until the status says so while helm is at work.
async fn says(servers: &Servers, words: &str) {
    let told = |object: &CoderUpgrade| {
        let status = object.status.as_ref();
        status.is_some_and(|status| status.phase == Phase::Upgrading && status.message.contains(words))
    };
    servers.world.until("coder", &format!("one that says {words:?}"), told).await;
}

#[rstest]
#[case::stand_in(Kind::StandIn)]
#[ignore = "asks for real servers: cargo xtask test servers --coder-binaries DIR"]
#[case::real(Kind::Real)]
#[tokio::test]
async fn an_upgrade_is_verified(#[case] kind: Kind) {
    let servers = upgraded("verified", kind, &[], json!({})).await;
    servers.world.finish().await;
}

#[rstest]
#[case::stand_in(Kind::StandIn)]
#[ignore = "asks for real servers: cargo xtask test servers --coder-binaries DIR"]
#[case::real(Kind::Real)]
#[tokio::test]
async fn all_pods_are_replaced_at_once(#[case] kind: Kind) {
    let servers = upgraded("recreated", kind, &["coder.replicaCount=2"], json!({"strategy": "Recreate"})).await;
    servers.world.finish().await;
}

#[rstest]
#[case::stand_in(Kind::StandIn)]
#[ignore = "asks for real servers: cargo xtask test servers --coder-binaries DIR"]
#[case::real(Kind::Real)]
#[tokio::test]
async fn a_silent_migration_is_told_while_it_runs(#[case] kind: Kind) {
    let servers = Servers::installed("silent", kind, &[]).await;
    servers.hold_migration(Duration::from_secs(40)).await;
    servers.upgrade(json!({})).await;
    says(&servers, "migrat").await;
    verified(&servers).await;
    servers.world.finish().await;
}

#[rstest]
#[case::stand_in(Kind::StandIn)]
#[ignore = "asks for real servers: cargo xtask test servers --coder-binaries DIR"]
#[case::real(Kind::Real)]
#[tokio::test]
async fn a_migration_that_a_liveness_probe_kills_is_called_that(#[case] kind: Kind) {
    let servers = Servers::installed("probed", kind, &[]).await;
    servers.hold_migration(Duration::from_secs(120)).await;
    // With the change, as a first install migrates for longer than this probe waits. A server that migrates heeds no SIGTERM: it
    // is killed at the end of its grace period.
    let probe = json!({"enabled": true, "periodSeconds": 1});
    let values = json!({"coder": {"livenessProbe": probe, "terminationGracePeriodSeconds": 3}});
    servers.upgrade(json!({"values": values, "overrides": ["Probe"], "helm": {"timeout": "60s"}})).await;
    let failure = failed(&servers).await;
    assert_eq!(failure.class.to_string(), "MigrationKilled", "{failure:?}");
    servers.world.finish().await;
}

#[rstest]
#[case::stand_in(Kind::StandIn)]
#[ignore = "asks for real servers: cargo xtask test servers --coder-binaries DIR"]
#[case::real(Kind::Real)]
#[tokio::test]
async fn a_migration_that_fails_for_good_ends_the_wait(#[case] kind: Kind) {
    let servers = Servers::installed("broken", kind, &[]).await;
    servers.break_migration("relation \"tasks\" already exists", 1_000_000).await;
    let begun = Instant::now();
    servers.upgrade(json!({})).await;
    let failure = failed(&servers).await;
    assert!(begun.elapsed() < Duration::from_secs(150), "helm was not waited for");
    assert_eq!(failure.class.to_string(), "MigrationFailed", "{failure:?}");
    assert!(failure.message.contains("relation \"tasks\" already exists"), "{}", failure.message);
    servers.world.finish().await;
}

#[rstest]
#[case::stand_in(Kind::StandIn)]
#[ignore = "asks for real servers: cargo xtask test servers --coder-binaries DIR"]
#[case::real(Kind::Real)]
#[tokio::test]
async fn a_deadlock_with_the_old_server_is_waited_for(#[case] kind: Kind) {
    let servers = Servers::installed("deadlock", kind, &[]).await;
    servers.break_migration("deadlock detected", 2).await;
    servers.upgrade(json!({})).await;
    verified(&servers).await;
    servers.world.finish().await;
}

#[rstest]
#[case::stand_in(Kind::StandIn)]
#[ignore = "asks for real servers: cargo xtask test servers --coder-binaries DIR"]
#[case::real(Kind::Real)]
#[tokio::test]
async fn a_schema_that_is_too_new_ends_the_wait(#[case] kind: Kind) {
    let servers = Servers::installed("beyond", kind, &[]).await;
    servers.migrate_beyond().await;
    servers.upgrade(json!({})).await;
    let failure = failed(&servers).await;
    assert_eq!(failure.class.to_string(), "SchemaTooNew", "{failure:?}");
    assert!(failure.message.contains("schema version 9999"), "{}", failure.message);
    servers.world.finish().await;
}

#[rstest]
#[case::stand_in(Kind::StandIn)]
#[ignore = "asks for real servers: cargo xtask test servers --coder-binaries DIR"]
#[case::real(Kind::Real)]
#[tokio::test]
async fn a_wrong_password_is_told(#[case] kind: Kind) {
    let servers = Servers::installed("password", kind, &[]).await;
    servers.change_password().await;
    servers.upgrade(json!({"helm": {"timeout": "90s"}})).await;
    let failure = failed(&servers).await;
    assert!(failure.message.contains("password authentication failed"), "{failure:?}");
    servers.world.finish().await;
}

#[rstest]
#[case::stand_in(Kind::StandIn)]
#[ignore = "asks for real servers: cargo xtask test servers --coder-binaries DIR"]
#[case::real(Kind::Real)]
#[tokio::test]
async fn servers_behind_a_redirect_are_verified(#[case] kind: Kind) {
    let redirect = ["testbed.env[0].name=CODER_REDIRECT_TO_ACCESS_URL", "testbed.env[0].value=T"];
    let servers = upgraded("redirect", kind, &redirect, json!({})).await;
    servers.world.finish().await;
}

#[rstest]
#[case::stand_in(Kind::StandIn)]
#[ignore = "asks for real servers: cargo xtask test servers --coder-binaries DIR"]
#[case::real(Kind::Real)]
#[tokio::test]
async fn servers_that_speak_tls_alone_are_verified(#[case] kind: Kind) {
    let servers = upgraded("tls", kind, &["testbed.tlsOnly=https"], json!({})).await;
    let message = servers.world.get("coder").await.status.unwrap().message;
    assert!(message.contains("same deployment; Pod/") && message.contains("asked over TLS"), "{message}");
    servers.world.finish().await;
}

#[rstest]
#[case::stand_in(Kind::StandIn)]
#[ignore = "asks for real servers: cargo xtask test servers --coder-binaries DIR"]
#[case::real(Kind::Real)]
#[tokio::test]
async fn an_old_server_that_goes_on_beside_the_new_one_does_not_count(#[case] kind: Kind) {
    let slow = ["coder.terminationGracePeriodSeconds=90", "coder.lifecycle.preStop.sleep.seconds=60"];
    let servers = Servers::installed("overlap", kind, &slow).await;
    let token = servers.token_secret_key_ref().await;
    let verify = json!({"timeout": "40s", "soak": "5s", "tokenSecretKeyRef": {"name": token, "key": "token"}});
    servers.upgrade(json!({"verify": verify})).await;
    verified(&servers).await;
    let pods =
        ["get", "pods", "-l", "app.kubernetes.io/name=coder", "-o", "jsonpath={.items[*].metadata.deletionTimestamp}"];
    assert!(!servers.world.kubectl(&pods).await.is_empty(), "the old server went on all the time");
    servers.world.finish().await;
}

#[rstest]
#[case::stand_in(Kind::StandIn)]
#[ignore = "asks for real servers: cargo xtask test servers --coder-binaries DIR"]
#[case::real(Kind::Real)]
#[tokio::test]
async fn a_database_that_is_away_is_no_bad_token(#[case] kind: Kind) {
    let servers = Servers::installed("away", kind, &[]).await;
    let token = servers.token_secret_key_ref().await;
    servers
        .upgrade(
            json!({"verify": {"timeout": "120s", "soak": "20s", "tokenSecretKeyRef": {"name": token, "key": "token"}}}),
        )
        .await;
    servers.world.phase("coder", Phase::Verifying).await;
    servers.cut_database().await;
    says_verifying(&servers).await;
    servers.restore_database().await;
    verified(&servers).await;
    servers.world.finish().await;
}

/// Waits until the soak would have been over: the database is away for longer than that.
async fn says_verifying(servers: &Servers) {
    let waits = |object: &CoderUpgrade| {
        let status = object.status.as_ref();
        status.is_some_and(|status| status.phase == Phase::Verifying && status.message.contains("database"))
    };
    servers.world.until("coder", "one that speaks of the database", waits).await;
}
