//! What was removed or half applied, and everything that once made it forgotten.

use super::recovery::{failed, half_upgraded, installing, restored};
use super::*;
use crate::api::{Recovery, Remedy, Repair};

/// A world whose upgrade Job has replaced an object.
fn replacing() -> World {
    let mut world = upgrading();
    let (time, object) = (world.observed.time(), "StatefulSet/timescale".to_owned());
    let repair = Repair { remedy: Remedy::Replace, object, message: "immutable".into(), time };
    world.running_job().unwrap().report.repairs = vec![repair];
    world.settle();
    world
}

#[test]
fn a_hook_that_fails_before_helm_made_anything_is_no_proof_that_all_is_there() {
    for class in [FailureClass::HookFailed, FailureClass::RolloutTimedOut, FailureClass::VerificationFailed] {
        let mut world = replacing();
        world.running_job().unwrap().report.started = true;
        world.settle().report(half_upgraded(class, false));
        assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Pending, true), "{class}");
        world.wait(1000).report(half_upgraded(class, true));
        assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Failed, true), "{class}");
        world.edit(|spec| spec.version = Some("2.32.0".into()));
        world.settle().report(planned(PlannedAction::Upgrade, "2.32.0")).report(upgraded("2.32.0"));
        assert!(!world.status().recovery_required && !world.observed.held());
    }
}

#[test]
fn an_uninstall_that_may_have_removed_something_is_never_given_up() {
    // Its records say nothing: helm only logs that it could not write them.
    let uninstall_interrupted = Outcome::Failed(Problem {
        current: Some(installed("2.30.0", 1)),
        ..Problem::new(FailureClass::UninstallFailed, "helm ended, but revision 1 is deployed")
    });
    let mut world = upgrading();
    world.observed.upgrade.spec.recovery = Recovery::Reinstall;
    world.report(failed(FailureClass::HistoryBroken, Some(Remedy::Reinstall), "failed"));
    world.edit(|spec| spec.suspend = true);
    world.settle().report(uninstall_interrupted);
    assert!(world.status().recovery_required && world.observed.held());
    world.delete();
    assert!(world.observed.held());
    world.wait(1000);
    assert_eq!(world.status().phase, Phase::Uninstalling, "neither suspend nor a deletion leaves Coder away");
}

#[test]
fn replicas_that_are_back_say_nothing_of_a_release_that_is_away() {
    let mut world = installing();
    world.report(problem(FailureClass::PlanOutdated, false)).wait(1000);
    world.report(planned(PlannedAction::Upgrade, "2.31.7"));
    world.running_job().unwrap().report.scaled_down =
        Some(vec![crate::api::ScaledDown { object: "Deployment/coder".into(), replicas: 1 }]);
    world.settle().running_job().unwrap().report.scaled_down = Some(Vec::new());
    world.settle();
    assert!(world.status().recovery_required);
}

#[test]
fn records_that_say_all_is_well_are_no_proof_that_it_is_back() {
    let mut world = replacing();
    world.report(problem(FailureClass::PlanOutdated, true)).wait(1000);
    world.report(planned(PlannedAction::Nothing, "2.30.0"));
    assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Upgrading, true));
}

#[test]
fn what_an_earlier_try_has_left_is_taken_back_whatever_the_last_one_failed_for() {
    let mut world = upgrading();
    world.report(failed(FailureClass::WebhookUnavailable, None, "failed")).wait(1000);
    assert_eq!(world.status().phase, Phase::Upgrading);
    world.report(Outcome::Failed(Problem {
        current: Some(Installed { status: "failed".into(), ..installed("2.31.7", 2) }),
        ..Problem::new(FailureClass::Forbidden, "before helm was started")
    }));
    assert_eq!(world.status().phase, Phase::Restoring);
}

#[test]
fn a_step_that_is_always_killed_is_taken_back() {
    let mut world = upgrading();
    for _ in 0..4 {
        world.kill().wait(1000);
    }
    assert_eq!(world.status().phase, Phase::Restoring);
    world.report(restored());
    assert_eq!(world.ready(), pair("False", "RetriesExhausted"));
}

#[test]
fn a_deleted_object_takes_back_what_is_half_applied_before_it_goes() {
    for class in [FailureClass::PolicyDenied, FailureClass::WebhookUnavailable] {
        let mut world = upgrading();
        world.delete();
        for _ in 0..9 {
            if world.status().phase == Phase::Restoring {
                break;
            }
            world.report(failed(class, None, "failed"));
            assert!(world.observed.held(), "{class}: {:?}", world.status());
            world.wait(1000);
        }
        assert_eq!(world.status().phase, Phase::Restoring, "{class}");
        world.report(restored());
        assert!(!world.observed.held(), "{class}");
    }
}

#[test]
fn a_deleted_object_that_cannot_be_helped_goes_after_some_tries() {
    let mut world = upgrading();
    world.report(failed(FailureClass::PolicyDenied, None, "failed")).delete();
    for _ in 0..9 {
        if world.status().phase == Phase::Failed {
            break;
        }
        world.report(problem(FailureClass::ApiUnavailable, false)).wait(1000);
    }
    assert!(!world.observed.held(), "{:?}", world.status());
}

#[test]
fn nobody_approves_anything_for_a_deleted_object() {
    let mut world = upgrading();
    world.report(failed(FailureClass::HistoryBroken, Some(Remedy::Reinstall), "failed"));
    assert_eq!(world.status().phase, Phase::AwaitingApproval);
    world.delete();
    assert_eq!((world.status().phase, world.status().approval.clone()), (Phase::Restoring, None));
    world.report(restored());
    assert!(!world.observed.held());
}

#[test]
fn a_plan_that_is_gone_is_made_again_without_asking_anybody_again() {
    for deleted in [false, true] {
        let mut world = installing();
        world.edit(|spec| {
            spec.recovery = Recovery::Stop;
            spec.suspend = true;
        });
        if deleted {
            world.delete();
        }
        world.report(problem(FailureClass::PlanMissing, false));
        let missing = world.status().failure.unwrap();
        assert_eq!(missing.object.as_deref(), Some("Secret/coder-plan-2.31.7"));
        assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Planning, true));
        world.report(planned(PlannedAction::Install, "2.31.7"));
        assert_eq!(world.status().phase, Phase::Upgrading);
        world.report(upgraded("2.31.7"));
        assert!(!world.observed.held());
    }
}

#[test]
fn a_plan_that_is_gone_before_the_uninstall_leaves_nothing_to_recover() {
    let mut world = upgrading();
    world.observed.upgrade.spec.recovery = Recovery::Reinstall;
    world.report(failed(FailureClass::HistoryBroken, Some(Remedy::Reinstall), "failed"));
    assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Uninstalling, true));
    world.report(problem(FailureClass::PlanMissing, false));
    assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Planning, false));
}

#[test]
fn a_lock_of_somebody_else_waits_for_a_word_and_is_looked_at_again() {
    let locked = || {
        let Outcome::Planned(mut planned) = planned(PlannedAction::Upgrade, "2.31.7") else { unreachable!() };
        planned.plan.forecast.repairs = vec![crate::api::PlannedRepair {
            remedy: Remedy::Unlock,
            object: "Secret/sh.helm.release.v1.coder.v2".into(),
            message: "pending".into(),
            needs_approval: true,
        }];
        Outcome::Planned(planned)
    };
    let mut world = World::new("2.31.7");
    world.observed.upgrade.spec.recovery = Recovery::Reinstall;
    world.settle().report(locked());
    assert_eq!(world.status().phase, Phase::AwaitingApproval, "whatever spec.recovery allows");
    assert_eq!(world.status().approval.unwrap().value, "plan-2.31.7/repair");
    let wake = decide(&world.observed).wake.unwrap();
    assert_eq!(wake.as_secs(), 10);
    world.wait(10);
    assert_eq!((world.status().phase, world.status().attempt), (Phase::Planning, 2), "the other helm may have ended");
    world.report(locked());
    assert_eq!(decide(&world.observed).wake.unwrap().as_secs(), 20, "it is looked at less and less often");
    world.approve("plan-2.31.7/repair");
    let job = world.created.last().unwrap();
    assert_eq!((job.step, job.repair_approved), (StepName::Upgrade, true));
    assert_eq!(world.status().retries, 0);
}

#[test]
fn that_a_new_version_has_started_is_remembered_until_coder_is_verified() {
    let mut world = upgrading();
    world.running_job().unwrap().report.started = true;
    world.settle().report(failed(FailureClass::RolloutTimedOut, None, "failed"));
    world.edit(|spec| spec.version = Some("2.32.0".into()));
    world.settle().report(planned(PlannedAction::Upgrade, "2.32.0"));
    assert!(world.created.last().unwrap().new_version_started);
    world.report(failed(FailureClass::QuotaExceeded, None, "failed"));
    assert_eq!(world.status().phase, Phase::Failed, "the first attempt may have migrated: nothing is restored");
    world.edit(|spec| spec.version = Some("2.33.0".into()));
    world.settle().report(planned(PlannedAction::Upgrade, "2.33.0")).report(upgraded("2.33.0"));
    assert!(!world.status().new_version_started);
}

/// While no controller ran, the Job began its work and was deleted, and so was the object.
#[test]
fn a_step_whose_job_is_gone_is_done_again_before_a_deleted_object_goes() {
    let mut world = upgrading();
    world.observed.jobs.clear();
    world.delete();
    assert!(world.observed.held() && world.status().change_started);
    assert_eq!((world.created.len(), world.created[2].step), (3, StepName::Upgrade));
    world.report(upgraded("2.31.7"));
    assert!(!world.observed.held());
}

#[test]
fn a_job_that_is_gone_counts_as_one_that_began() {
    let mut world = upgrading();
    world.observed.jobs.clear();
    world.settle();
    assert_eq!((world.created.len(), world.status().change_started), (3, true));
    assert_eq!(world.status().highest_started_version.as_deref(), Some("2.31.7"));
}
