//! P1, P2 and P9: a plan that takes more than one Secret is as safe as a small one: it is carried out, taken back and made again,
//! and what is lost or exchanged of it is told and not believed.

use crate::common::{World, copy, noise, program};
use coder_upgrade_operator::api::{CoderUpgrade, CoderUpgradeStatus, Phase, StepName, StepState};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use rstest::rstest;
use serde_json::{Value, json};
use testbed::charts::charts_dir;
use testbed::components::Component;

/// What each version of the chart brings along and cannot be packed: helm's record takes 0.8 MiB with it.
const NOISE: usize = 600 << 10;

/// A repository with the chart of Coder v2 in these versions, each with a large file.
async fn large(world: &World, versions: &[&str]) -> String {
    let repository = world.repositories().extra(&world.namespace);
    let helm = tokio::task::spawn_blocking(|| program(Component::Helm)).await.unwrap();
    for (seed, version) in (1..).zip(versions) {
        let directory = tempfile::tempdir().unwrap();
        let copied = directory.path().join("coder");
        copy(&charts_dir().join("coder-v2"), &copied);
        let about = std::fs::read_to_string(copied.join("Chart.yaml")).unwrap();
        let mut about: Value = serde_saphyr::from_str(&about).unwrap();
        (about["version"], about["appVersion"]) = ((*version).into(), (*version).into());
        std::fs::write(copied.join("Chart.yaml"), about.to_string()).unwrap();
        std::fs::create_dir(copied.join("files")).unwrap();
        std::fs::write(copied.join("files/noise.bin"), noise(NOISE, seed)).unwrap();
        repository.publish_directory(&helm, &copied, &format!("coder-{version}.tgz")).await.unwrap();
    }
    repository.url().to_owned()
}

async fn status(world: &World) -> CoderUpgradeStatus {
    world.get("coder").await.status.unwrap()
}

/// All Secrets with plans, or parts of plans, by name.
async fn plans(world: &World) -> Vec<Secret> {
    let plans = ListParams::default().labels("coderupgrade.dev/plan").fields("type=coderupgrade.dev/plan");
    let mut found = world.api::<Secret>().list(&plans).await.unwrap().items;
    found.sort_by_key(ResourceExt::name_any);
    found
}

fn names(secrets: &[Secret]) -> Vec<String> {
    secrets.iter().map(ResourceExt::name_any).collect()
}

/// A part of the same name and form in which another file lies.
async fn exchange(world: &World, part: &Secret) {
    let secrets = world.api::<Secret>();
    secrets.delete(&part.name_any(), &DeleteParams::default()).await.unwrap();
    let mut other = part.clone();
    other.metadata.resource_version = None;
    for content in other.data.as_mut().unwrap().values_mut() {
        *content = ByteString(noise(content.0.len(), 7));
    }
    secrets.create(&PostParams::default(), &other).await.unwrap();
}

#[tokio::test]
async fn a_plan_that_takes_several_secrets_is_carried_out_and_taken_back() {
    let world = World::new("large").await;
    world.database().await;
    let repository = large(&world, &["2.30.0", "2.31.7", "2.32.0"]).await;
    world.install("coder", &repository, "2.30.0", "coder-v2-values.yaml", &[]).await;
    let mut spec = json!({
        "version": "2.31.7", "chart": {"repository": repository}, "approval": "Manual", "historyLimit": 1,
        "helm": {"timeout": "20s"},
    });
    world.declare("coder", spec.clone()).await;
    world.phase("coder", Phase::AwaitingApproval).await;
    let planned = status(&world).await;
    let plan = planned.plan.unwrap();
    assert_eq!(plan.secret_parts, Some(2));
    let parts = plans(&world).await;
    assert_eq!(names(&parts), [plan.secret_name.clone(), format!("{}-2", plan.secret_name)]);
    let uid = world.get("coder").await.uid().unwrap();
    for part in &parts {
        assert_eq!((part.immutable, part.owner_references()[0].uid.as_str()), (Some(true), uid.as_str()));
        assert_eq!(part.labels()["coderupgrade.dev/plan"], plan.id);
    }
    assert_eq!(parts[1].labels()["coderupgrade.dev/plan-part"], "2");

    // The same plan is made once more, and what is lost or exchanged of it is written again.
    exchange(&world, &parts[1]).await;
    world.kubectl(&["delete", "secret", &parts[0].name_any()]).await;
    world.kubectl(&["annotate", "cu", "coder", "coderupgrade.dev/requested-at=again"]).await;
    let again = move |o: &CoderUpgrade| {
        let status = o.status.as_ref();
        status.is_some_and(|s| s.attempt > planned.attempt && s.phase == Phase::AwaitingApproval)
    };
    world.until("coder", "planned again", again).await;
    let now = status(&world).await.plan.unwrap();
    assert_eq!((now.id.as_str(), names(&plans(&world).await)), (plan.id.as_str(), names(&parts)));
    world.kubectl(&["annotate", "cu", "coder", &format!("coderupgrade.dev/approve={}", plan.id)]).await;
    world.ready("coder").await;
    assert_eq!(world.release().await, (2, "deployed".into()));

    // No pod of this version starts: the saved release, which is as large, is restored.
    spec["version"] = "2.32.0".into();
    spec["approval"] = "Automatic".into();
    spec["values"] = json!({"coder": {"podAnnotations": {"testbed.coderupgrade.dev/pull-error": "manifest unknown"}}});
    world.declare("coder", spec).await;
    let stalled = world.stalled("coder").await.status.unwrap();
    assert!(stalled.message.contains("Coder 2.31.7 was restored and runs"), "{}", stalled.message);
    assert_eq!(world.release().await, (4, "deployed".into()));
    let kept = plans(&world).await;
    assert!(kept.iter().all(|part| part.labels()["coderupgrade.dev/plan"] != plan.id), "{:?}", names(&kept));
    assert!(kept.len() > 1 && kept.iter().all(|part| part.owner_references()[0].uid == uid));
    world.finish().await;
}

#[rstest]
#[case::deleted(false)]
#[case::exchanged(true)]
#[tokio::test]
async fn nothing_is_uninstalled_when_a_part_of_the_plan_is_lost(#[case] exchanged: bool) {
    let world = World::new("large-lost").await;
    world.database().await;
    let repository = large(&world, &["2.30.0", "2.31.7"]).await;
    let extra = |type_: &str| {
        json!([{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "type": type_,
            "stringData": {"tls.crt": "a", "tls.key": "b"}}])
    };
    let opaque = format!("extraTemplates={}", extra("Opaque"));
    let values = charts_dir().join("coder-v2-values.yaml");
    let mut install = vec!["install", "coder", "coder", "--repo", &repository, "--version", "2.30.0", "--wait"];
    install.extend(["--values", values.to_str().unwrap(), "--set-json", &opaque]);
    world.helm(&install).await;
    // The type of a Secret cannot be changed.
    let spec = json!({
        "version": "2.31.7", "chart": {"repository": repository}, "recovery": "Stop",
        "values": {"extraTemplates": extra("kubernetes.io/tls")},
    });
    world.declare("coder", spec).await;
    world.phase("coder", Phase::AwaitingApproval).await;
    let parts = plans(&world).await;
    assert_eq!(parts.len(), 2, "{:?}", names(&parts));
    if exchanged {
        exchange(&world, &parts[1]).await;
    } else {
        world.kubectl(&["delete", "secret", &parts[1].name_any()]).await;
    }
    world.approve("reinstall").await;
    let told = world.eventually("event about the plan", || async {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let told = events.into_iter().find(|event| event.reason.as_deref() == Some("PlanMissing"))?;
        Some((told.message?, told.event_time?))
    });
    let (told, told_at) = told.await;
    let lost = format!("Secret/{} {}", parts[1].name_any(), if exchanged { "has the chart.tgz of" } else { "is gone" });
    assert!(told.contains(&lost), "{told}");
    // The same plan was approved: it is made again, and carried out, for the release that was there all the time.
    let object = world.ready("coder").await.status.unwrap();
    let steps: Vec<_> = object.steps.iter().map(|step| (step.name, step.state)).collect();
    assert_eq!(steps.first(), Some(&(StepName::Plan, StepState::Succeeded)), "{steps:?}");
    assert!(steps.contains(&(StepName::Uninstall, StepState::Succeeded)), "{steps:?}");
    let first = world.helm(&["status", "coder", "--revision", "1", "-o", "json"]).await;
    let first: Value = serde_json::from_str(&first).unwrap();
    let uninstalled: jiff::Timestamp = first["info"]["deleted"].as_str().unwrap().parse().unwrap();
    assert!(uninstalled > told_at.0, "nothing was uninstalled before the plan was whole");
    world.finish().await;
}
