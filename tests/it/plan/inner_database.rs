//! P1 and P4: a Coder v2 that keeps its database itself, or is told of one in a way that is no variable, is known for what it is.

use crate::common::World;
use coder_upgrade_operator::api::{CheckName, CoderUpgradeStatus, FailureClass, Severity};
use serde_json::{Value, json};

/// Installs Coder 2.30.0 with these values and no others.
async fn installed(name: &str, values: &Value) -> World {
    let world = World::new(name).await;
    world.database().await;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "home"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
    });
    world.apply(&claim).await;
    let coder = format!("coder={values}");
    let repository = world.repositories().v2.clone();
    let chart = ["install", "coder", "coder", "--repo", &repository, "--version", "2.30.0"];
    world.helm(&[&chart[..], &["--set-json", &coder, "--wait", "--timeout", "2m"]].concat()).await;
    world
}

/// Values without a database. The image of Coder sets HOME; that of the test bed does not.
fn home(mounted: bool) -> Value {
    let mut values = json!({
        "env": [{"name": "CODER_ACCESS_URL", "value": "https://coder.example.com"}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}, "readinessProbe": {"periodSeconds": 1},
    });
    if mounted {
        values["env"].as_array_mut().unwrap().push(json!({"name": "HOME", "value": "/home/coder"}));
        values["volumes"] = json!([{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}]);
        values["volumeMounts"] = json!([{"name": "home", "mountPath": "/home/coder"}]);
    }
    values
}

fn spec(world: &World, more: &Value) -> Value {
    let mut spec = json!({"version": "2.31.7", "chart": {"repository": world.repositories().v2}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

async fn refused(world: &World) -> CoderUpgradeStatus {
    let status = world.stalled("coder").await.status.unwrap();
    assert_eq!(status.failure.as_ref().unwrap().class, FailureClass::CheckRefused);
    assert_eq!(world.release().await, (1, "deployed".into()), "nothing was changed");
    status
}

fn severity(status: &CoderUpgradeStatus) -> Option<Severity> {
    status.checks.iter().find(|finding| finding.check == CheckName::ExternalDatabase).map(|finding| finding.severity)
}

#[tokio::test]
async fn a_database_on_the_claim_of_the_home_directory_is_kept_and_never_served_by_two_pods() {
    let world = installed("home", &home(true)).await;
    let claims = world.claims().await;
    let before = world.cluster.database(&world.namespace, "home").await.unwrap().deployment_id;
    world.declare("coder", spec(&world, &json!({}))).await;
    let status = refused(&world).await;
    let failure = status.failure.unwrap();
    for words in ["with its data on PersistentVolumeClaim/home", "would work on the same files"] {
        assert!(failure.message.contains(words), "{words}: {}", failure.message);
    }
    let findings = serde_json::to_string(&status.checks).unwrap();
    assert!(findings.contains("Set spec.strategy to Recreate"), "{findings}");

    world.declare("coder", spec(&world, &json!({"strategy": "Recreate"}))).await;
    let status = world.ready("coder").await.status.unwrap();
    assert_eq!(severity(&status), Some(Severity::Warning), "{:?}", status.checks);
    assert!(status.message.contains("1 pod answers 2.31.7, same deployment"), "{}", status.message);
    assert_eq!(world.cluster.database(&world.namespace, "home").await.unwrap().deployment_id, before);
    assert_eq!(world.claims().await, claims);
    world.finish().await;
}

#[tokio::test]
async fn a_database_on_a_claim_is_upgraded_side_by_side_only_if_a_person_says_so() {
    let world = installed("home-override", &home(true)).await;
    world.declare("coder", spec(&world, &json!({"overrides": ["ExternalDatabase"]}))).await;
    let status = world.ready("coder").await.status.unwrap();
    assert!(status.message.contains("1 pod answers 2.31.7, same deployment"), "{}", status.message);
    assert!(
        status
            .checks
            .iter()
            .any(|finding| finding.check == CheckName::ExternalDatabase && finding.severity == Severity::Overridden)
    );
    world.finish().await;
}

#[tokio::test]
async fn a_database_that_goes_with_the_pod_is_never_upgraded_unasked() {
    let world = installed("home-nowhere", &home(false)).await;
    world.declare("coder", spec(&world, &json!({"strategy": "Recreate"}))).await;
    let failure = refused(&world).await.failure.unwrap();
    assert!(failure.message.contains("lose it with the pod"), "{}", failure.message);
    world.finish().await;
}

/// Coder itself knows no variable for a file with the URL; a shell reads it.
#[tokio::test]
async fn a_server_that_reads_its_url_from_a_file_has_a_database() {
    let mut values = home(false);
    values["command"] = json!(["sh", "-c"]);
    values["commandArgs"] = json!(["CODER_PG_CONNECTION_URL=$(cat /db/url) exec coder server"]);
    values["volumes"] = json!([{"name": "db", "secret": {"secretName": "coder-db-url"}}]);
    values["volumeMounts"] = json!([{"name": "db", "mountPath": "/db", "readOnly": true}]);
    let world = installed("url-file", &values).await;
    world.declare("coder", spec(&world, &json!({}))).await;
    let status = world.ready("coder").await.status.unwrap();
    assert_eq!(severity(&status), None, "{:?}", status.checks);
    assert!(status.message.contains("1 pod answers 2.31.7, same deployment"), "{}", status.message);
    world.finish().await;
}
