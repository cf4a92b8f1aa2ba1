//! P7: what cannot be done is said so that a person can act, and the release stays as it is.

use crate::common::{World, reason};
use coder_upgrade_operator::api::{CoderUpgrade, Failure, Phase};
use serde_json::{Value, json};

/// Waits for the failure, and sees that nothing was changed by it.
async fn failure(world: &World, class: &str) -> (CoderUpgrade, Failure) {
    let wanted = class.to_owned();
    let object = world
        .until("coder", class, move |o| {
            let failure = o.status.as_ref().and_then(|status| status.failure.as_ref());
            failure.is_some_and(|failure| failure.class.to_string() == wanted)
                && reason(o, "Ready").is_some_and(|r| r.1 == wanted)
        })
        .await;
    let failure = object.status.clone().unwrap().failure.unwrap();
    assert!(failure.message.len() > 20 && !failure.next_step.is_empty(), "{failure:?}");
    assert_eq!(world.release().await, (1, "deployed".into()), "the release is as it was");
    assert_eq!(world.job_counts().await.1, 0, "no upgrade was begun");
    (object, failure)
}

async fn declared(name: &str, spec: impl Fn(&World) -> Value) -> World {
    let world = World::with_v2(name, "2.30.0", &[]).await;
    world.declare("coder", spec(&world)).await;
    world
}

fn from(repository: &str, version: &str) -> Value {
    json!({"version": version, "chart": {"repository": repository}})
}

#[tokio::test]
async fn a_version_that_does_not_exist() {
    let world = declared("no-version", |w| from(&w.repositories().v2, "2.31.99")).await;
    let (object, failure) = failure(&world, "VersionNotFound").await;
    assert_eq!(failure.field.as_deref(), Some("spec.version"));
    assert!(
        failure.message.contains("2.31.99") && failure.message.contains("2.31.7"),
        "names it and what there is: {}",
        failure.message
    );
    assert!(failure.retryable && failure.retry_at.is_some());
    assert_eq!(reason(&object, "Reconciling").unwrap().0, "True");
    // The correction is taken up at once, without waiting for the next try.
    world.upgrade_to("2.31.7").await;
    world.ready("coder").await;
    world.finish().await;
}

/// The API server validates fields as helm writes, and so as the rehearsal does.
#[tokio::test]
async fn a_field_that_the_api_server_does_not_know() {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}, "dataa": {"a": "b"}});
    let more = json!({"values": {"extraTemplates": [map]}});
    let world = declared("unknown-field", |w| {
        let mut spec = from(&w.repositories().v2, "2.31.7");
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    })
    .await;
    let (_, failure) = failure(&world, "ObjectInvalid").await;
    assert_eq!((failure.object.as_deref(), failure.field.as_deref()), (Some("ConfigMap/extra"), Some("dataa")));
    world.finish().await;
}

#[tokio::test]
async fn a_repository_that_does_not_answer() {
    let world = declared("down", |w| from(&w.repositories().down, "2.31.7")).await;
    let (object, failure) = failure(&world, "RepositoryUnreachable").await;
    assert_eq!(failure.field.as_deref(), Some("spec.chart.repository"));
    assert!(failure.retryable, "{failure:?}");
    assert_eq!(object.status.unwrap().phase, Phase::Pending);
    world.finish().await;
}

#[tokio::test]
async fn wrong_credentials() {
    let world = World::with_v2("credentials", "2.30.0", &[]).await;
    world.create_login("reader", "wrong-password").await;
    let chart = json!({"repository": world.repositories().private_v2, "credentialsSecretRef": {"name": "login"}, "plainHTTP": true});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart})).await;
    let (_, failure) = failure(&world, "RepositoryUnauthorized").await;
    assert_eq!(failure.field.as_deref(), Some("spec.chart.credentialsSecretRef"));
    assert!(!failure.message.contains("wrong-password"), "{}", failure.message);
    // The corrected Secret is read at the next try, without any other change.
    world.kubectl(&["delete", "secret", "login"]).await;
    world.create_login("reader", &world.repositories().password).await;
    world.ready("coder").await;
    world.finish().await;
}

#[tokio::test]
async fn values_that_the_chart_refuses() {
    let world = declared("bad-values", |w| from(&w.repositories().faults, "2.31.9")).await;
    let (object, failure) = failure(&world, "RenderFailed").await;
    assert_eq!(object.status.unwrap().phase, Phase::Failed);
    assert!(!failure.retryable && failure.message.contains("coder."), "names the value: {}", failure.message);
    world.finish().await;
}

#[tokio::test]
async fn a_file_of_values_that_is_none() {
    let world = World::with_v2("no-map", "2.30.0", &[]).await;
    world.create_secret("broken", json!({"values.yaml": "- a list\n- no map\n"})).await;
    let mut spec = from(&world.repositories().v2, "2.31.7");
    spec["valuesFrom"] = json!([{"kind": "Secret", "name": "broken"}]);
    world.declare("coder", spec).await;
    let (_, failure) = failure(&world, "ValuesInvalid").await;
    assert_eq!(failure.field.as_deref(), Some("spec.valuesFrom[0]"));
    world.finish().await;
}

#[tokio::test]
async fn a_referenced_object_that_does_not_exist_yet() {
    let world = World::with_v2("missing", "2.30.0", &[]).await;
    let mut spec = from(&world.repositories().v2, "2.31.7");
    spec["valuesFrom"] = json!([{"kind": "Secret", "name": "later"}]);
    world.declare("coder", spec).await;
    let (_, failure) = failure(&world, "ReferenceMissing").await;
    assert_eq!(
        (failure.object.as_deref(), failure.field.as_deref()),
        (Some("Secret/later"), Some("spec.valuesFrom[0]"))
    );
    world.create_secret("later", json!({"values.yaml": "coder: {annotations: {late: \"yes\"}}"})).await;
    world.ready("coder").await;
    assert_eq!(world.values().await["coder"]["annotations"]["late"], "yes");
    world.finish().await;
}

#[tokio::test]
async fn a_job_that_the_cluster_refuses() {
    let world = World::with_v2("no-jobs", "2.30.0", &[]).await;
    world.kubectl(&["create", "quota", "none", "--hard=count/jobs.batch=0"]).await;
    world.upgrade_to("2.31.7").await;
    let told = |o: &CoderUpgrade| o.status.as_ref().is_some_and(|s| s.message.contains("exceeded quota"));
    world.until("coder", "told of the quota", told).await;
    world.kubectl(&["delete", "quota", "none"]).await;
    world.ready("coder").await;
    world.finish().await;
}

#[tokio::test]
async fn a_runner_for_which_there_is_no_node() {
    let world = World::with_v2("no-node", "2.30.0", &[]).await;
    let mut spec = from(&world.repositories().v2, "2.31.7");
    spec["job"] = json!({"nodeSelector": {"kubernetes.io/os": "plan9"}});
    world.declare("coder", spec).await;
    let told = |o: &CoderUpgrade| o.status.as_ref().is_some_and(|s| s.message.contains("cannot be scheduled"));
    let object = world.until("coder", "told of the scheduler", told).await;
    assert_eq!(object.status.unwrap().phase, Phase::Planning);
    world.finish().await;
}

#[tokio::test]
async fn the_other_product_line() {
    let world = declared("other-line", |w| from(&w.repositories().v1, "1.17.0")).await;
    let (object, failure) = failure(&world, "ProductLineChanged").await;
    assert!(!failure.retryable);
    assert_eq!(object.status.unwrap().phase, Phase::Failed);
    world.finish().await;
}

#[tokio::test]
async fn an_older_version() {
    let world = World::with_v2("older", "2.31.7", &[]).await;
    world.upgrade_to("2.31.6").await;
    let (_, failure) = failure(&world, "Downgrade").await;
    assert!(failure.message.contains("2.31.7") && failure.message.contains("2.31.6"), "{}", failure.message);
    world.finish().await;
}

#[tokio::test]
async fn a_new_version_that_crashes_is_stalled_with_the_log_that_explains_it() {
    let world = World::with_v2("crash", "2.31.7", &[]).await;
    let mut spec = from(&world.repositories().faults, "2.31.8");
    spec["helm"] = json!({"timeout": "20s"});
    world.declare("coder", spec).await;
    let object = world.stalled("coder").await;
    let status = object.status.clone().unwrap();
    let failure = status.failure.unwrap();
    assert_eq!(status.phase, Phase::Failed);
    assert!(failure.object.as_deref().is_some_and(|object| object.contains("coder")), "{failure:?}");
    assert!(failure.excerpt.as_deref().is_some_and(|log| !log.is_empty()), "{failure:?}");
    assert_eq!(reason(&object, "Upgraded").unwrap().0, "False");
    assert_eq!(status.history[0].outcome, Phase::Failed);
    assert_eq!(world.release().await.1, "failed", "no automatic rollback: the database may have been migrated");
    // Nothing is tried again by itself; a corrected version is.
    world.declare("coder", from(&world.repositories().v2, "2.32.0")).await;
    world.ready("coder").await;
    world.finish().await;
}

#[tokio::test]
async fn helm_rolls_back_if_it_is_told_to_and_the_reason_is_kept() {
    let world = World::with_v1("rolled-back", "1.16.1").await;
    let claims = world.claims().await;
    // Whatever a person sets as a value is hidden, so the log says it in other words than the value.
    let crash = json!([{"name": "WHAT", "value": "key"}, {"name": "CODER_SIM_CRASH", "value": "the $(WHAT) file cannot be read"}]);
    let mut spec = from(&world.repositories().v1, "1.16.2");
    spec["values"] = json!({"cemanager": {"env": crash}});
    spec["helm"] = json!({"timeout": "20s", "rollbackOnFailure": true});
    world.declare("coder", spec).await;
    let status = world.stalled("coder").await.status.unwrap();
    let failure = status.failure.unwrap();
    assert!(failure.message.contains("has been rolled back"), "{}", failure.message);
    assert!(failure.excerpt.as_deref().is_some_and(|log| log.contains("the key file")), "{failure:?}");
    let current = status.current.unwrap();
    assert_eq!((current.version.as_str(), current.revision, current.status.as_str()), ("1.16.1", 3, "deployed"));
    assert_eq!(world.claims().await, claims);
    world.finish().await;
}
