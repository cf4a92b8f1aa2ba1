//! What is said of a backup.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::api::{Backup, BackupRecord};

fn asked() -> World {
    let mut world = World::new("2.31.7");
    let backup = serde_json::from_value::<Backup>(serde_json::json!({"cronJob": "nightly"})).unwrap();
    world.observed.upgrade.spec.backup = Some(backup);
    world.settle().report(planned(PlannedAction::Upgrade, "2.31.7"));
    assert_eq!(world.status().phase, Phase::BackingUp);
    world
}

fn record(world: &World, plan: &str) -> BackupRecord {
    BackupRecord {
        plan: plan.into(),
        objects: vec!["Job/nightly-1".into()],
        finished: Time(world.observed.now),
        recent: false,
        detail: "Job/nightly-1 of CronJob/nightly".into(),
    }
}

#[test]
fn the_condition_says_what_was_backed_up_for_this_plan() {
    let mut world = asked();
    assert_eq!(world.condition(ConditionType::BackedUp), pair("Unknown", "Pending"));
    let made = record(&world, "plan-2.31.7");
    world.report(Outcome::BackedUp(made));
    assert_eq!(world.condition(ConditionType::BackedUp), pair("True", "BackupSucceeded"));
    assert_eq!(world.status().phase, Phase::Upgrading);
    let conditions = world.status().conditions;
    let said = &conditions.iter().find(|condition| condition.type_ == "BackedUp").unwrap().message;
    assert!(said.starts_with("Job/nightly-1 of CronJob/nightly, finished at 2025-"), "{said}");
}

#[test]
fn a_failed_backup_ends_the_attempt_before_anything_changed() {
    let mut world = asked();
    world.report(Outcome::Failed(Problem::new(FailureClass::BackupFailed, "Job/nightly-1 has failed")));
    assert_eq!(world.condition(ConditionType::BackedUp), pair("False", "BackupFailed"));
    assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Failed, false));
    assert!(!world.observed.held());
}

#[test]
fn nobody_misses_a_backup_that_was_not_asked_for() {
    assert_eq!(upgrading().condition(ConditionType::BackedUp), pair("Unknown", "BackupNotRequested"));
}

/// A world that waits for the approval of a remedy, three days after its backup.
fn remedy_waits() -> World {
    let mut world = asked();
    let made = record(&world, "plan-2.31.7");
    world.report(Outcome::BackedUp(made));
    let message = "the text of helm";
    let remedy = Some(crate::api::Remedy::Reinstall);
    let problem = Problem { remedy, changed: true, ..Problem::new(FailureClass::HistoryBroken, message) };
    world.report(Outcome::Failed(problem));
    assert_eq!(world.status().phase, Phase::AwaitingApproval);
    world.wait(3 * 24 * 60 * 60);
    world
}

fn approve(world: &mut World) {
    let value = world.status().approval.unwrap().value;
    world.observed.upgrade.annotations_mut().insert(crate::api::annotation::APPROVE.into(), value);
    world.settle();
}

#[test]
fn a_remedy_that_is_approved_days_later_is_backed_up_for_again() {
    let mut world = remedy_waits();
    approve(&mut world);
    assert_eq!(world.status().phase, Phase::BackingUp);
    let made = record(&world, "plan-2.31.7");
    world.report(Outcome::BackedUp(made));
    assert_eq!(world.status().phase, Phase::Uninstalling, "then what was approved is done");
}

#[test]
fn a_remedy_that_is_approved_soon_needs_no_other_backup() {
    let mut world = remedy_waits();
    let recent = record(&world, "plan-2.31.7");
    world.observed.upgrade.status.as_mut().unwrap().backup = Some(recent);
    approve(&mut world);
    assert_eq!(world.status().phase, Phase::Uninstalling);
}

#[test]
fn a_remedy_whose_backup_fails_does_not_begin() {
    let mut world = remedy_waits();
    approve(&mut world);
    let created = world.created.len();
    world.report(Outcome::Failed(Problem::new(FailureClass::BackupFailed, "Job/nightly-1 has failed")));
    assert_eq!((world.status().phase, world.created.len()), (Phase::Failed, created));
}
