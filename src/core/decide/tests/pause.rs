//! Stories of a Coder that is scaled to zero for a change.

use super::recovery::failed;
use super::*;
use crate::api::{Remedy, Repair, ScaledDown};

fn coder() -> Vec<ScaledDown> {
    vec![ScaledDown { object: "Deployment/coder".into(), replicas: 3 }]
}

/// A world whose upgrade Job runs and has scaled Coder to zero.
fn paused() -> World {
    let mut world = upgrading();
    world.running_job().unwrap().report.scaled_down = Some(coder());
    world.settle();
    assert_eq!((world.status().scaled_down, world.status().recovery_required), (coder(), true));
    world
}

/// The runner has brought the replicas back, and fails.
fn back_and_failed(world: &mut World, class: FailureClass) {
    world.running_job().unwrap().report.scaled_down = Some(Vec::new());
    world.report(failed(class, None, "deployed"));
}

#[test]
fn after_a_kill_the_next_try_is_told_what_is_at_zero() {
    let mut world = paused();
    for _ in 0..12 {
        world.kill().wait(1000);
        let job = world.created.last().unwrap();
        assert_eq!((job.step, &job.scaled_down), (StepName::Upgrade, &coder()));
        assert!(world.observed.held());
    }
    world.running_job().unwrap().report.scaled_down = Some(Vec::new());
    world.report(upgraded("2.31.7"));
    assert_eq!((world.status().scaled_down, world.status().recovery_required), (vec![], false));
    assert_eq!(world.ready(), pair("True", "Verified"));
}

#[test]
fn a_changed_spec_and_a_deletion_wait_until_coder_is_back() {
    let mut world = paused();
    world.edit(|spec| spec.version = Some("2.32.0".into()));
    world.settle().kill();
    assert_eq!(world.created.last().unwrap().step, StepName::Upgrade, "no new plan while Coder is at zero");
    world.observed.upgrade.metadata.deletion_timestamp = Some(world.observed.time());
    world.kill().wait(1000);
    assert_eq!(world.created.last().unwrap().scaled_down, coder());
    back_and_failed(&mut world, FailureClass::Immutable);
    assert!(!world.observed.held(), "nothing holds the object any more");
}

#[test]
fn what_was_only_at_zero_may_fail_for_good_once_it_is_back() {
    let mut world = paused();
    back_and_failed(&mut world, FailureClass::Immutable);
    assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Failed, false));
}

#[test]
fn what_could_not_be_brought_back_is_tried_again_whatever_it_failed_for() {
    for class in [FailureClass::RolloutTimedOut, FailureClass::VerificationFailed, FailureClass::Immutable] {
        let mut world = paused();
        world.report(failed(class, None, "deployed")).wait(1000);
        let job = world.created.last().unwrap();
        assert_eq!((job.step, &job.scaled_down), (StepName::Upgrade, &coder()), "{class}");
    }
}

#[test]
fn a_recreated_object_is_not_back_with_the_replicas() {
    let mut world = paused();
    let time = world.observed.time();
    let repair = Repair { remedy: Remedy::Replace, object: "Service/coder".into(), message: "immutable".into(), time };
    world.running_job().unwrap().report.repairs = vec![repair];
    world.settle();
    back_and_failed(&mut world, FailureClass::QuotaExceeded);
    assert!(world.status().recovery_required && world.status().scaled_down.is_empty());
}
