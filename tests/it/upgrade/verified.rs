//! P6: a declared version becomes a verified upgrade, and nothing is done where nothing is to be done.

use crate::common::{World, program, reason};
use coder_upgrade_operator::api::{Phase, ProductLine, StepName};
use serde_json::json;
use testbed::{charts::Row, components::Component};

#[tokio::test]
async fn coder_v2_is_upgraded_and_verified() {
    let world = World::with_v2("upgrade-v2", "2.30.0", &["coder.replicaCount=2"]).await;
    let claims = world.claims().await;
    world.upgrade_to("v2.31.7").await;
    let object = world.ready("coder").await;
    let status = object.status.clone().unwrap();

    assert_eq!(reason(&object, "Ready").unwrap().1, "Verified");
    for condition in ["Planned", "Upgraded", "DataKept", "Verified"] {
        assert_eq!(reason(&object, condition).unwrap().0, "True", "{condition}");
    }
    let current = status.current.unwrap();
    assert_eq!((current.version.as_str(), current.revision, current.line), ("2.31.7", 2, ProductLine::V2));
    assert_eq!(status.steps.iter().map(|step| step.name).collect::<Vec<_>>(), [StepName::Plan, StepName::Upgrade]);
    assert_eq!(status.history[0].from.as_deref(), Some("2.30.0"));
    assert_eq!(world.release().await, (2, "deployed".into()));
    assert_eq!(world.claims().await, claims);
    world.until("coder", "released", |o| o.metadata.finalizers.as_ref().is_none_or(Vec::is_empty)).await;
    assert_eq!(world.job_counts().await, (1, 1));
    world.finish().await;
}

#[tokio::test]
async fn an_upgrade_without_trouble_warns_of_nothing() {
    let world = World::with_v2("upgrade-quiet", "2.30.0", &[]).await;
    // The Lease is renewed every 5 s, and has got its annotations before.
    let soak = json!({"soak": "12s", "timeout": "60s"});
    let chart = json!({"repository": world.repositories().v2});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "verify": soak})).await;
    world.ready("coder").await;
    let selector = ["logs", "--selector", "coderupgrade.dev/step", "--tail=-1"];
    let logs = world.kubectl(&selector).await;
    assert!(logs.contains("upgraded to 2.31.7"), "{logs}");
    let warnings: Vec<_> = logs.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR")).collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
    world.finish().await;
}

#[tokio::test]
async fn coder_classic_is_upgraded_on_the_same_volume() {
    let world = World::with_v1("upgrade-v1", "1.16.1").await;
    let claims = world.claims().await;
    assert_eq!(claims.len(), 1, "the chart's own database");
    world.declare("coder", json!({"version": "1.16.2", "chart": {"repository": world.repositories().v1}})).await;
    let status = world.ready("coder").await.status.unwrap();
    assert_eq!(status.current.unwrap().line, ProductLine::V1);
    let kept = &status.persistent_volume_claims[0];
    assert_eq!((&kept.name, &kept.uid, kept.volume.as_ref()), (&claims[0].0, &claims[0].1, Some(&claims[0].2)));
    assert_eq!(world.claims().await, claims);
    let outside: Vec<_> = status.addresses.iter().filter(|exposure| !exposure.addresses.is_empty()).collect();
    let mut exposed: Vec<_> = outside.iter().map(|exposure| exposure.name.as_str()).collect();
    exposed.sort_unstable();
    assert_eq!(exposed, ["ingress-nginx", "web-ingress"]);
    assert!(outside.iter().all(|exposure| exposure.addresses.len() == 1), "{outside:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_release_that_does_not_exist_is_installed_by_the_same_steps() {
    let world = World::new("install").await;
    world.database().await;
    let url = json!({"secretKeyRef": {"name": "coder-db-url", "key": "url"}});
    // The chart's own requests ask for more than a small machine has.
    let values = json!({"coder": {
        "env": [{"name": "CODER_PG_CONNECTION_URL", "valueFrom": url}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    }});
    let chart = json!({"repository": world.repositories().v2});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "values": values})).await;
    let status = world.ready("coder").await.status.unwrap();
    assert_eq!((status.history[0].from.as_deref(), status.current.unwrap().revision), (None, 1));
    assert_eq!(world.release().await, (1, "deployed".into()));
    assert_eq!(world.values().await, values);
    world.finish().await;
}

#[tokio::test]
async fn at_the_wanted_version_nothing_is_changed() {
    let world = World::with_v2("up-to-date", "2.31.7", &[]).await;
    world.upgrade_to("2.31.7").await;
    let object = world.ready("coder").await;
    assert_eq!(reason(&object, "Ready").unwrap().1, "UpToDate");
    assert_eq!((world.job_counts().await, world.release().await.0), ((1, 0), 1));

    // How the work is done is no part of the request: no Job at all.
    let chart = json!({"repository": world.repositories().v2});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "historyLimit": 5})).await;
    world.ready("coder").await;
    assert_eq!(world.job_counts().await, (1, 0));
    world.finish().await;
}

#[tokio::test]
async fn an_omitted_version_is_resolved_once_for_each_request() {
    let world = World::with_v2("newest", "2.30.0", &[]).await;
    let repository = world.repositories().extra(&world.namespace);
    let helm = program(Component::Helm);
    for version in ["2.30.0", "2.31.6", "2.33.0-rc.1"] {
        repository.publish(&helm, &Row::new("coder-v2", version)).await.unwrap();
    }
    repository.publish(&helm, &Row::new("coder-v1", "1.17.0")).await.unwrap();
    let chart = json!({"repository": repository.url()});
    world.declare("coder", json!({"chart": chart})).await;
    let status = world.ready("coder").await.status.unwrap();
    assert_eq!(status.current.unwrap().version, "2.31.6", "the newest stable version of the installed line");

    repository.publish(&helm, &Row::new("coder-v2", "2.31.7")).await.unwrap();
    world.declare("coder", json!({"chart": chart, "historyLimit": 5})).await;
    let status = world.ready("coder").await.status.unwrap();
    assert_eq!(status.current.unwrap().version, "2.31.6", "nobody has asked for a newer one");

    world.kubectl(&["annotate", "cu", "coder", "coderupgrade.dev/requested-at=now"]).await;
    world
        .until("coder", "at 2.31.7", |o| {
            o.status.as_ref().is_some_and(|s| {
                s.phase == Phase::Succeeded && s.current.as_ref().is_some_and(|current| current.version == "2.31.7")
            })
        })
        .await;
    world.finish().await;
}

#[tokio::test]
async fn suspended_nothing_is_begun() {
    let world = World::with_v2("suspended", "2.30.0", &[]).await;
    let chart = json!({"repository": world.repositories().v2});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "suspend": true})).await;
    let object = world.phase("coder", Phase::Suspended).await;
    assert_eq!(reason(&object, "Ready").unwrap(), ("False".into(), "Suspended".into()));
    assert_eq!((world.job_counts().await, world.release().await.0), ((0, 0), 1));
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "suspend": false})).await;
    world.ready("coder").await;
    world.finish().await;
}

#[tokio::test]
async fn two_upgrades_for_one_release_are_not_both_done() {
    let world = World::with_v2("twice", "2.30.0", &[]).await;
    world.upgrade_to("2.31.7").await;
    world.ready("coder").await;
    world.declare("second", json!({"version": "2.30.0", "chart": {"repository": world.repositories().v2}})).await;
    let second = world.stalled("second").await;
    assert_eq!(reason(&second, "Stalled").unwrap().1, "ReleaseClaimed");
    let message = second.status.unwrap().message;
    assert!(message.contains("coder") && message.contains("Delete one"), "{message}");
    assert_eq!((world.job_counts().await, world.release().await.0), ((1, 1), 2));

    // With the first gone, the release is free, and the second is looked at: it is a downgrade.
    world.kubectl(&["delete", "cu", "coder"]).await;
    let second = world
        .until("second", "refused as a downgrade", |o| {
            reason(o, "Stalled") == Some(("True".into(), "Downgrade".into()))
        })
        .await;
    assert_eq!(second.status.unwrap().failure.unwrap().field.as_deref(), Some("spec.version"));
    assert_eq!(world.release().await, (2, "deployed".into()));
    world.finish().await;
}

#[tokio::test]
async fn helm_3_does_the_same() {
    let world = World::new("helm3").await;
    world.database().await;
    let values = testbed::charts::charts_dir().join("coder-v2-values.yaml");
    let repository = world.repositories().v2.clone();
    let arguments =
        ["install", "coder", "coder", "--namespace", &world.namespace, "--repo", &repository, "--version", "2.30.0"];
    let values = ["--values", values.to_str().unwrap(), "--wait"];
    world.cluster.helm3(&[&arguments[..], &values[..]].concat()).await.unwrap();
    let job = json!({"image": "coder-upgrade-operator:v0.1.0-helm3"});
    world.declare("coder", json!({"version": "2.31.7", "chart": {"repository": repository}, "job": job})).await;
    let status = world.ready("coder").await.status.unwrap();
    assert_eq!((status.current.unwrap().revision, world.release().await), (2, (2, "deployed".into())));
    world.finish().await;
}
