//! The way to a version that cannot be reached at once: hop by hop, whatever is killed in between, or refused.

use crate::common::{World, node, program, reason};
use coder_upgrade_operator::api::{CheckName, CoderUpgrade, CoderUpgradeStatus, Finding, Phase, Severity};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::json;
use testbed::{
    charts::{OciOptions, OciRegistry, Row},
    components::Component,
};

fn status(object: &CoderUpgrade) -> &CoderUpgradeStatus {
    object.status.as_ref().unwrap()
}

/// A world whose own repository offers these versions, and in which the first of them is installed.
async fn world_with(name: &str, versions: &[&str]) -> (World, String) {
    let world = World::new(name).await;
    let repository = world.repositories().extra(&world.namespace);
    let helm = tokio::task::spawn_blocking(|| program(Component::Helm)).await.unwrap();
    let classic = versions[0].starts_with("1.");
    let chart = if classic { "coder-v1" } else { "coder-v2" };
    for version in versions {
        repository.publish(&helm, &Row::new(chart, version)).await.unwrap();
    }
    if !classic {
        world.database().await;
    }
    let values = format!("{chart}-values.yaml");
    world.install("coder", repository.url(), versions[0], &values, &[]).await;
    (world, repository.url().to_owned())
}

/// The hops that were made, in their order.
fn made(object: &CoderUpgrade) -> Vec<(&str, &str)> {
    let entries = status(object).history.iter().rev().filter(|entry| entry.outcome == Phase::Succeeded);
    entries.map(|entry| (entry.from.as_deref().unwrap(), entry.to.as_deref().unwrap())).collect()
}

/// The refusal that a plan ended in.
async fn refused(world: &World) -> Finding {
    let object = world.stalled("coder").await;
    assert_eq!(reason(&object, "Stalled").unwrap().1, "CheckRefused");
    assert_eq!(world.release().await, (1, "deployed".into()), "nothing was changed");
    status(&object).checks.iter().find(|finding| finding.severity == Severity::Refusal).unwrap().clone()
}

#[tokio::test]
async fn classic_goes_one_minor_version_at_a_time_whatever_is_killed() {
    let (world, repository) = world_with("path", &["1.15.2", "1.16.0", "1.16.2", "1.17.1", "1.18.0"]).await;
    let claims = world.claims().await;
    let spec = json!({
        "version": "1.18.0", "chart": {"repository": repository}, "approval": "Manual",
        "verify": {"timeout": "60s", "soak": "3s"},
    });
    world.declare("coder", spec).await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;
    let plan = status(&object).plan.clone().unwrap();
    assert_eq!((plan.to.as_str(), plan.forecast.hops.join(" ")), ("1.16.2", "1.17.1 1.18.0".into()));
    assert_eq!(status(&object).target.as_ref().unwrap().version, "1.18.0");
    world.kubectl(&["annotate", "cu", "coder", &format!("coderupgrade.dev/approve={}", plan.id)]).await;

    // The controller dies between two hops, the runner in the middle of the second one.
    world.until("coder", "at 1.16.2", |o| status(o).history.len() == 1).await;
    world.restart_controller().await;
    let begun =
        |o: &CoderUpgrade| status(o).attempt == 2 && matches!(status(o).phase, Phase::Upgrading | Phase::Verifying);
    world.until("coder", "in its second hop", begun).await;
    let second = ListParams::default().labels("coderupgrade.dev/attempt=2,coderupgrade.dev/step=upgrade");
    let running = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
    let pod = world
        .eventually("runner of the second hop", || async {
            world.api::<Pod>().list(&second).await.unwrap().items.into_iter().find(running)
        })
        .await;
    assert!(status(&world.get("coder").await).message.contains("1.17.1 of 1.15.2 → 1.18.0"));
    node::kill(world.cluster, &pod, "runner").await;

    let object = world.ready("coder").await;
    assert_eq!(made(&object), [("1.15.2", "1.16.2"), ("1.16.2", "1.17.1"), ("1.17.1", "1.18.0")]);
    assert_eq!(status(&object).current.as_ref().unwrap().version, "1.18.0");
    assert_eq!((world.release().await.1, world.claims().await), ("deployed".into(), claims));
    world.finish().await;
}

#[tokio::test]
async fn without_a_stop_there_is_no_way_but_the_direct_one() {
    let (world, repository) = world_with("path-missing", &["1.16.1", "1.18.0"]).await;
    world.declare("coder", json!({"version": "1.18.0", "chart": {"repository": repository}})).await;
    let finding = refused(&world).await;
    assert_eq!((finding.check, finding.field.as_deref()), (CheckName::VersionPath, Some("spec.version")));
    assert!(
        finding.message.contains("1.17.x") && finding.next_step.contains("spec.upgradePath: Direct"),
        "{finding:?}"
    );

    // One archive is one version.
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().to_str().unwrap();
    world.helm(&["pull", "coder", "--repo", &repository, "--version", "1.18.0", "--destination", to]).await;
    let file = format!("--from-file=coder.tgz={to}/coder-1.18.0.tgz");
    world.kubectl(&["create", "configmap", "chart", &file]).await;
    let archive = json!({"archive": {"configMapKeyRef": {"name": "chart", "key": "coder.tgz"}}});
    world.declare("coder", json!({"version": "1.18.0", "chart": archive})).await;
    world
        .until("coder", "refused for its archive", |o| {
            status(o).checks.iter().any(|finding| finding.field.as_deref() == Some("spec.chart.archive"))
        })
        .await;
    refused(&world).await;

    let direct = json!({"version": "1.18.0", "chart": {"repository": repository}, "upgradePath": "Direct"});
    world.declare("coder", direct).await;
    let object = world.ready("coder").await;
    assert_eq!(made(&object), [("1.16.1", "1.18.0")]);
    let told = |finding: &Finding| finding.check == CheckName::VersionPath && finding.severity == Severity::Warning;
    assert!(status(&object).checks.iter().any(told), "{:?}", status(&object).checks);
    assert_eq!(world.release().await, (2, "deployed".into()));
    world.finish().await;
}

#[tokio::test]
async fn an_overlap_that_does_harm_is_refused_before_the_first_hop() {
    let (world, repository) = world_with("path-overlap", &["2.26.0", "2.26.6", "2.27.8", "2.39.0"]).await;
    let chart = json!({"repository": repository});
    world.declare("coder", json!({"version": "2.39.0", "chart": chart})).await;
    let finding = refused(&world).await;
    assert_eq!((finding.check, finding.severity), (CheckName::SchemaOverlap, Severity::Refusal));
    assert!(finding.next_step.contains("spec.strategy: Recreate"), "{finding:?}");

    // Whoever knows that it does no harm says so, and that stays recorded.
    let spec = json!({"version": "2.39.0", "chart": chart, "overrides": ["SchemaOverlap"]});
    world.declare("coder", spec).await;
    let object = world.ready("coder").await;
    assert_eq!(made(&object), [("2.26.0", "2.26.6"), ("2.26.6", "2.39.0")]);
    assert_eq!(status(&object).history[0].overridden, [CheckName::SchemaOverlap]);
    world.finish().await;
}

#[tokio::test]
async fn a_registry_without_a_list_is_asked_for_each_stop() {
    let (world, _) = world_with("path-registry", &["2.26.0"]).await;
    let directory = tempfile::tempdir().unwrap();
    let (helm, registry) =
        tokio::task::spawn_blocking(|| (program(Component::Helm), program(Component::Registry))).await.unwrap();
    let options = OciOptions { tls: false, credentials: false };
    let registry = OciRegistry::start(&registry, directory.path(), world.machine(), options).await.unwrap();
    registry.push(&helm, &Row::new("coder-v2", "2.27.8")).await.unwrap();
    let chart = json!({"repository": registry.url, "plainHTTP": true});
    world.declare("coder", json!({"chart": chart})).await;
    let finding = refused(&world).await;
    assert!(finding.message.contains("from 2.26.0 to 2.27.8 leads over a version >=2.26.6, <2.27.0"), "{finding:?}");

    for version in ["2.26.5", "2.26.6", "2.26.7"] {
        registry.push(&helm, &Row::new("coder-v2", version)).await.unwrap();
    }
    world.kubectl(&["annotate", "cu", "coder", "coderupgrade.dev/requested-at=now"]).await;
    let at_last = |o: &CoderUpgrade| status(o).current.as_ref().is_some_and(|c| c.version == "2.27.8");
    let object = world.until("coder", "at 2.27.8", |o| status(o).phase == Phase::Succeeded && at_last(o)).await;
    assert_eq!(made(&object), [("2.26.0", "2.26.7"), ("2.26.7", "2.27.8")]);
    world.finish().await;
}
