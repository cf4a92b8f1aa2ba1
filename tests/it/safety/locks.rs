//! P3: the lock of a helm process of somebody else is theirs, whatever its clock says, and so is a release that they brought
//! into a state of their own. Who lost the Lease of a release ends at once and writes nothing.

use crate::common::World;
use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::api::{CheckName, CoderUpgrade, FailureClass, Phase, Remedy, StepState};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::process::Child;

/// Somebody upgrades by hand, and the new pods take that long to start.
async fn with_live_helm(name: &str, delay: &str) -> (World, Child) {
    let world = World::with_v2(name, "2.30.0", &[]).await;
    let mut helm = world.cluster.helm_command();
    let repository = world.repositories().v2.clone();
    helm.args(["upgrade", "coder", "coder", "--repo", &repository, "--version", "2.31.6", "--reuse-values"]);
    helm.args(["--namespace", &world.namespace, "--wait", "--timeout", "5m", "--set"]);
    helm.arg(format!("coder.podAnnotations.testbed\\.coderupgrade\\.dev/start-delay={delay}"));
    let helm = helm.kill_on_drop(true).spawn().unwrap();
    let pending = world.eventually("lock", || async {
        let (number, status) = world.release().await;
        (number == 2 && status == "pending-upgrade").then_some(())
    });
    pending.await;
    (world, helm)
}

/// Makes the record of revision 2 look that old to whoever believes the clock of the client that wrote it.
async fn age(world: &World, by: SignedDuration) {
    let then = (Timestamp::now() - by).as_second().to_string();
    let labels = json!({"createdAt": then, "modifiedAt": then});
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    let name = "sh.helm.release.v1.coder.v2";
    world.api::<Secret>().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_live_helm_process_of_somebody_else_is_left_alone_whatever_its_clock_says() {
    let (world, mut helm) = with_live_helm("lock-live", "20s").await;
    world.impatient().await;
    age(&world, SignedDuration::from_hours(100)).await;
    world.upgrade_to("2.31.7").await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;
    let status = object.status.unwrap();
    let approval = status.approval.unwrap();
    assert!(approval.value.ends_with("/repair"), "{approval:?}");
    let repair = &status.plan.unwrap().forecast.repairs[0];
    assert_eq!((repair.remedy, repair.needs_approval), (Remedy::Unlock, true));
    assert!(repair.message.contains("a helm process of somebody else may be at work on it"), "{}", repair.message);
    let check = status.checks.iter().find(|finding| finding.check == CheckName::ReleasePending).unwrap();
    assert!(check.next_step.contains("--show-managed-fields"), "{check:?}");
    assert!(status.next_check_time.is_some(), "it is looked at again by itself");

    assert!(helm.wait().await.unwrap().success(), "nobody disturbed it");
    let object = world.ready("coder").await;
    assert!(object.status.unwrap().repairs.is_empty());
    assert_eq!(world.release().await, (3, "deployed".into()));
    let values = world.values().await;
    let delay = &values["coder"]["podAnnotations"]["testbed.coderupgrade.dev/start-delay"];
    assert_eq!(delay, "20s", "what they had set is kept");
    world.finish().await;
}

#[tokio::test]
async fn the_lock_of_a_helm_process_that_was_killed_is_released_once_a_person_says_so() {
    let (world, mut helm) = with_live_helm("lock-dead", "120s").await;
    helm.kill().await.unwrap();
    world.upgrade_to("2.31.7").await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;
    assert_eq!(world.release().await, (2, "pending-upgrade".into()));
    // The plan may be made again meanwhile: as long as the lock is the same, so is the id.
    let approval = format!("coderupgrade.dev/approve={}", object.status.unwrap().approval.unwrap().value);
    world.kubectl(&["annotate", "cu", "coder", &approval]).await;
    let object = world.ready("coder").await;
    let repairs = object.status.unwrap().repairs;
    let repairs: Vec<_> = repairs.iter().map(|repair| (repair.remedy, repair.object.as_str())).collect();
    assert_eq!(repairs, [(Remedy::Unlock, "Secret/sh.helm.release.v1.coder.v2")]);
    assert_eq!(world.release().await, (3, "deployed".into()));
    world.finish().await;
}

/// A person rolls back after an upgrade of ours failed. That is their helm, and their release afterwards.
#[tokio::test]
async fn the_rollback_of_a_person_is_not_taken_for_our_own() {
    let slow = "coder.podAnnotations.testbed\\.coderupgrade\\.dev/start-delay=40s";
    let steps = Steps::with("rolls-back", HelmMajor::Four, |r| &r.v2, "2.30.0", &[slow]).await;
    let pull = json!({"coder": {"podAnnotations": {"testbed.coderupgrade.dev/pull-error": "manifest unknown"}}});
    steps.plan(json!({"version": "2.31.7", "values": pull})).await;
    steps.fails("upgrade", &["--helm-timeout", "5s"]).await;
    assert_eq!(steps.world.release().await, (2, "failed".into()));

    // Their helm waits for a pod that is slow to start.
    steps.world.kubectl(&["delete", "pod", "--selector", "app.kubernetes.io/name=coder", "--wait=false"]).await;
    let mut rollback = steps.world.cluster.helm_command();
    rollback.args(["rollback", "coder", "1", "--wait", "--timeout", "5m", "--namespace", &steps.world.namespace]);
    let mut rollback = rollback.kill_on_drop(true).spawn().unwrap();
    let pending = || async { (steps.world.release().await == (3, "pending-rollback".into())).then_some(()) };
    steps.world.eventually("rollback", pending).await;
    for step in ["upgrade", "uninstall", "restore"] {
        let problem = steps.fails(step, &[]).await;
        assert_eq!(
            (problem.class, problem.changed),
            (FailureClass::PlanOutdated, false),
            "{step}: {}",
            problem.message
        );
        assert_eq!(steps.world.release().await, (3, "pending-rollback".into()), "{step}");
    }
    assert!(rollback.wait().await.unwrap().success());
    for step in ["upgrade", "uninstall"] {
        let problem = steps.fails(step, &[]).await;
        assert_eq!(problem.class, FailureClass::PlanOutdated, "{step}: {}", problem.message);
    }
    assert_eq!(steps.world.release().await, (3, "deployed".into()));
    steps.world.finish().await;
}

/// What becomes of the Lease in the middle of helm's work.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Taken,
    Deleted,
}

#[rstest]
#[case::taken("lease-taken", Loss::Taken)]
#[case::deleted("lease-deleted", Loss::Deleted)]
#[tokio::test]
async fn who_loses_the_lease_kills_helm_at_once_and_another_goes_on(#[case] name: &str, #[case] loss: Loss) {
    let world = World::with_v2(name, "2.30.0", &[]).await;
    let annotations = json!({"testbed.coderupgrade.dev/start-delay": "15s"});
    let values = json!({"coder": {"podAnnotations": annotations}});
    let spec = json!({"version": "2.31.7", "chart": {"repository": world.repositories().v2}, "values": values});
    world.declare("coder", spec).await;
    world.eventually("second revision", || async { (world.release().await.0 == 2).then_some(()) }).await;
    let leases = world.api::<Lease>();
    match loss {
        Loss::Deleted => drop(leases.delete("coder-upgrade-coder", &DeleteParams::default()).await.unwrap()),
        Loss::Taken => {
            let patch = json!({"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 2}});
            leases.patch("coder-upgrade-coder", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        }
    }
    let interrupted = |object: &CoderUpgrade| {
        let status = object.status.clone().unwrap_or_default();
        status.steps.iter().any(|step| step.state == StepState::Failed && step.message.contains("Lease"))
    };
    world.until("coder", "without its Lease", interrupted).await;
    world.ready("coder").await;
    // SIGKILL: helm had no time to write that it failed, so the next runner did.
    let history: Value = serde_json::from_str(&world.helm(&["history", "coder", "-o", "json"]).await).unwrap();
    assert_eq!(history[1]["description"], "interrupted: the helm process that worked on it is gone", "{history}");
    assert_eq!(world.release().await.1, "deployed");
    world.finish().await;
}
