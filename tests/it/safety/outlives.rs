//! P1, P2 and P9: the plan of a change is there for as long as the change needs it, however the CoderUpgrade or the Secret is
//! deleted, and Coder comes back even if it is not.

use crate::common::World;
use coder_upgrade_operator::api::{CoderUpgradeStatus, Phase};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use rstest::rstest;
use serde_json::json;

/// What is not lost on the way.
#[derive(Debug, PartialEq)]
struct Data {
    claims: Vec<(String, String, String)>,
    deployment: String,
}

async fn data(world: &World) -> Data {
    Data { claims: world.claims().await, deployment: world.deployment_id().await }
}

/// Coder Classic in the middle of a reinstall that was approved: uninstalled, and one Service is slow to delete.
async fn draining(name: &str) -> (World, Data) {
    let world = World::with_v1(name, "1.16.1").await;
    world.impatient().await;
    let before = data(&world).await;
    let spec = json!({
        "version": "1.16.2", "chart": {"repository": world.repositories().v1}, "recovery": "Stop", "keepAddresses": false,
        "values": {"timescale": {"resources": {"requests": {"storage": "128Mi"}}}},
    });
    world.declare("coder", spec).await;
    world.phase("coder", Phase::AwaitingApproval).await;
    let slow = "testbed.coderupgrade.dev/release-delay=never";
    world.kubectl(&["annotate", "service", "ingress-nginx", slow]).await;
    world.approve("reinstall").await;
    world.phase("coder", Phase::Draining).await;
    (world, before)
}

/// Lets the slow Service go.
async fn release(world: &World) {
    let at_once = "testbed.coderupgrade.dev/release-delay=0s";
    world.kubectl(&["annotate", "--overwrite", "service", "ingress-nginx", at_once]).await;
}

async fn plans(world: &World) -> Vec<Secret> {
    let plans = ListParams::default().labels("coderupgrade.dev/plan").fields("type=coderupgrade.dev/plan");
    world.api::<Secret>().list(&plans).await.unwrap().items
}

/// Coder is back with its values and its data.
async fn back(world: &World, before: &Data) {
    assert_eq!(world.release().await.1, "deployed", "{}", world.dump().await);
    assert_eq!(world.values().await["ingress"]["host"], "coder.example.com", "the values came through");
    assert_eq!(data(world).await, *before);
    let installed = world.helm(&["list", "-o", "json"]).await;
    assert!(installed.contains("coder-1.16.2"), "{installed}");
}

async fn status(world: &World) -> CoderUpgradeStatus {
    world.get("coder").await.status.unwrap()
}

#[tokio::test]
async fn a_plan_secret_that_is_deleted_in_the_middle_is_made_again_from_helms_record() {
    let (world, before) = draining("plan-deleted").await;
    let plan = plans(&world).await.remove(0);
    assert!(
        plan.owner_references().is_empty() && plan.finalizers().is_empty(),
        "nobody takes it, and it holds nothing up"
    );
    world.lose_plan(&plan.name_any()).await;
    release(&world).await;
    world.ready("coder").await;
    back(&world, &before).await;
    let events = world.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]).await;
    assert!(events.contains("PlanMissing"), "it is told: {events}");
    let plans = plans(&world).await;
    assert!(plans.iter().all(|plan| plan.owner_references().len() == 1), "afterwards they go with their CoderUpgrade");
    world.finish().await;
}

#[rstest]
#[case::in_the_foreground("gone-fg", "foreground")]
#[case::in_the_background("gone-bg", "background")]
#[case::and_dependents_orphaned("gone-or", "orphan")]
#[tokio::test]
async fn however_the_object_is_deleted_in_the_drain_coder_comes_back_first(#[case] name: &str, #[case] cascade: &str) {
    let (world, before) = draining(name).await;
    world.kubectl(&["delete", "cu", "coder", "--wait=false", &format!("--cascade={cascade}")]).await;
    // The garbage collector has looked at everything that it could take once it has taken its own finalizer away.
    world
        .eventually("end of the cascade", || async {
            let finalizers = world.get("coder").await.metadata.finalizers.unwrap_or_default();
            (finalizers == ["coderupgrade.dev/change-under-way"]).then_some(())
        })
        .await;
    assert_eq!(plans(&world).await.len(), 1, "the plan is still there");
    release(&world).await;
    world.gone("coder").await;
    back(&world, &before).await;
    world.eventually("end of the plan", || async { plans(&world).await.is_empty().then_some(()) }).await;
    world.finish().await;
}

#[tokio::test]
async fn an_install_whose_job_is_taken_by_a_foreground_deletion_is_done_by_another() {
    let (world, before) = draining("install-fg").await;
    release(&world).await;
    world.phase("coder", Phase::Installing).await;
    world.runner_pod("install").await;
    world.kubectl(&["delete", "cu", "coder", "--wait=false", "--cascade=foreground"]).await;
    world.gone("coder").await;
    back(&world, &before).await;
    world.finish().await;
}

/// The Job has no owner any more: what the status says of it counts.
#[tokio::test]
async fn an_install_whose_job_is_orphaned_is_followed_to_its_end() {
    let (world, before) = draining("install-or").await;
    release(&world).await;
    world.phase("coder", Phase::Installing).await;
    world.runner_pod("install").await;
    world.kubectl(&["delete", "cu", "coder", "--wait=false", "--cascade=orphan"]).await;
    world.gone("coder").await;
    back(&world, &before).await;
    let installs = world.jobs().await.into_iter().filter(|job| job.labels()["coderupgrade.dev/step"] == "install");
    assert_eq!(installs.map(|job| job.owner_references().len()).collect::<Vec<_>>(), [0], "one Job, and nobody's");
    world.finish().await;
}

#[tokio::test]
async fn a_plan_secret_that_is_deleted_while_its_step_runs_is_written_again() {
    let (world, before) = draining("plan-rewritten").await;
    release(&world).await;
    world.phase("coder", Phase::Installing).await;
    let pod = world.runner_pod("install").await;
    let plan = plans(&world).await.remove(0).name_any();
    world.kubectl(&["delete", "secret", &plan]).await;
    // As a node that is drained does: the runner has time to end.
    world.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    world.ready("coder").await;
    back(&world, &before).await;
    let planned = status(&world).await.steps.iter().filter(|step| step.name.to_string() == "Plan").count();
    assert_eq!(planned, 1, "nothing had to be planned again");
    world.finish().await;
}

#[tokio::test]
async fn a_plan_that_a_deleted_object_has_left_is_no_obstacle_for_the_next_one() {
    let world = World::with_v2("plan-left", "2.30.0", &[]).await;
    let spec = json!({"version": "2.31.7", "chart": {"repository": world.repositories().v2}, "approval": "Manual"});
    world.declare("coder", spec.clone()).await;
    world.phase("coder", Phase::AwaitingApproval).await;
    let id = status(&world).await.plan.unwrap().id;
    world.kubectl(&["delete", "cu", "coder", "--cascade=orphan"]).await;
    world.gone("coder").await;
    assert_eq!(plans(&world).await.len(), 1);
    world.declare("coder", spec).await;
    world.phase("coder", Phase::AwaitingApproval).await;
    assert_eq!(status(&world).await.plan.unwrap().id, id, "the same plan");
    let plan = plans(&world).await.remove(0);
    assert_eq!(plan.owner_references()[0].uid, world.get("coder").await.uid().unwrap());
    world.finish().await;
}
