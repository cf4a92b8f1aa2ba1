//! Where charts come from: every kind of repository, and none at all.

use crate::common::{World, program};
use coder_upgrade_operator::api::{CoderUpgrade, FailureClass};
use serde_json::{Value, json};
use testbed::{
    charts::{OciOptions, OciRegistry, Row},
    components::Component,
};

async fn upgraded_from(world: &World, chart: Value) {
    world.declare("coder", json!({"version": "2.31.7", "chart": chart})).await;
    let status = world.ready("coder").await.status.unwrap();
    assert_eq!(status.current.unwrap().version, "2.31.7");
}

#[tokio::test]
async fn a_repository_with_credentials_and_a_certificate_of_its_own() {
    let world = World::with_v2("private", "2.30.0", &[]).await;
    let repositories = world.repositories().clone();
    world.create_login(&repositories.user, &repositories.password).await;
    world.create_secret("authority", json!({"ca.crt": repositories.ca_pem})).await;
    let chart = json!({"repository": repositories.private_tls_v2, "credentialsSecretRef": {"name": "login"}, "caSecretRef": {"name": "authority"}});
    upgraded_from(&world, chart).await;
    world.finish().await;
}

#[tokio::test]
async fn an_address_without_an_index_is_called_no_repository() {
    let world = World::with_v2("no-index", "2.30.0", &[]).await;
    let nothing = world.repositories().v2.replace("/v2", "/nothing");
    world.declare("coder", json!({"version": "2.31.7", "chart": {"repository": nothing}})).await;
    let failed = |object: &CoderUpgrade| object.status.as_ref().is_some_and(|status| status.failure.is_some());
    let failure = world.until("coder", "refused", failed).await.status.unwrap().failure.unwrap();
    let told = format!(
        "{nothing}/index.yaml cannot be fetched: it answers 404 Not Found: {nothing} is no chart repository (the address of a \
         registry begins with oci://)"
    );
    assert_eq!((failure.class, failure.message.as_str()), (FailureClass::RepositoryUnreachable, told.as_str()));
    assert_eq!((failure.field.as_deref(), failure.retryable), (Some("spec.chart.repository"), true));
    world.finish().await;
}

#[tokio::test]
async fn an_archive_in_the_cluster_needs_no_repository() {
    let world = World::with_v2("archive", "2.30.0", &[]).await;
    let directory = tempfile::tempdir().unwrap();
    let destination = directory.path().to_str().unwrap();
    world
        .helm(&[
            "pull",
            "coder",
            "--repo",
            &world.repositories().v2,
            "--version",
            "2.31.7",
            "--destination",
            destination,
        ])
        .await;
    let file = format!("--from-file=coder.tgz={destination}/coder-2.31.7.tgz");
    world.kubectl(&["create", "configmap", "chart", &file]).await;
    upgraded_from(&world, json!({"archive": {"configMapKeyRef": {"name": "chart", "key": "coder.tgz"}}})).await;
    world.finish().await;
}

/// A registry with a password, with or without TLS, that holds the chart.
async fn registry(world: &World, tls: bool) -> (OciRegistry, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let registry = program(Component::Registry);
    let options = OciOptions { tls, credentials: true };
    let registry = OciRegistry::start(&registry, directory.path(), world.machine(), options).await.unwrap();
    registry.push(&program(Component::Helm), &Row::new("coder-v2", "2.31.7")).await.unwrap();
    (registry, directory)
}

async fn login(world: &World, registry: &OciRegistry) {
    let (user, password) = registry.credentials.as_ref().unwrap();
    world.create_login(user, password).await;
}

#[tokio::test]
async fn a_registry_with_credentials_and_a_certificate_of_its_own() {
    let world = World::with_v2("registry", "2.30.0", &[]).await;
    let (registry, _directory) = registry(&world, true).await;
    login(&world, &registry).await;
    world.create_secret("authority", json!({"ca.crt": registry.ca_pem})).await;
    let chart = json!({"repository": registry.url, "credentialsSecretRef": {"name": "login"}, "caSecretRef": {"name": "authority"}});
    upgraded_from(&world, chart).await;
    world.finish().await;
}

#[tokio::test]
async fn a_registry_without_tls() {
    let world = World::with_v2("plain", "2.30.0", &[]).await;
    let (registry, _directory) = registry(&world, false).await;
    login(&world, &registry).await;
    let chart = json!({"repository": registry.url, "credentialsSecretRef": {"name": "login"}, "plainHTTP": true});
    upgraded_from(&world, chart).await;
    world.finish().await;
}
