//! Stories of gates: what is waited for, how that is said, and what is never waited for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{recovery::failed, *};
use crate::api::{ApprovalMode, Backup, BackupRecord, Day, PlannedRepair, Recovery, Remedy, Window, annotation};
use crate::core::gates::dependencies::Sibling;

/// 2025-06-15T15:06:40Z, a Sunday.
const NOW: i64 = 1_750_000_000;

/// A window on Sundays. It is 15:06:40 when the stories begin.
fn sundays(start: &str, end: &str) -> Window {
    Window { days: vec![Day::Sun], start: start.into(), end: end.into(), time_zone: "UTC".into() }
}

/// A world whose plan is made, with what the spec asks for first.
fn planning(change: impl FnOnce(&mut CoderUpgradeSpec)) -> World {
    let mut world = World::new("2.31.7");
    world.edit(change);
    world.settle().report(planned(PlannedAction::Upgrade, "2.31.7"));
    world
}

fn sibling(name: &str, ready: bool, after: &[&str]) -> Sibling {
    let after = after.iter().map(|name| (*name).to_owned()).collect();
    Sibling {
        name: name.into(),
        ready,
        phase: if ready { Phase::Succeeded } else { Phase::Upgrading },
        depends_on: after,
    }
}

pub(super) fn backup(max_age: Option<&str>) -> Backup {
    Backup {
        cron_job: Some("dump".into()),
        volume_snapshot_class: None,
        max_age: max_age.map(|age| age.parse().unwrap()),
        timeout: "1h".parse().unwrap(),
    }
}

pub(super) fn record(world: &World, plan: &str) -> Outcome {
    let objects = vec!["Job/dump".into()];
    let finished = world.observed.time();
    Outcome::BackedUp(BackupRecord { plan: plan.into(), objects, finished, recent: false, detail: "Job/dump".into() })
}

/// A plan that repairs an object before helm runs.
fn with_a_repair(to: &str) -> Outcome {
    let Outcome::Planned(mut planned) = planned(PlannedAction::Upgrade, to) else { unreachable!() };
    let (remedy, object) = (Remedy::Replace, "Deployment/coder".into());
    planned.plan.forecast.repairs =
        vec![PlannedRepair { remedy, object, message: "immutable".into(), needs_approval: false }];
    Outcome::Planned(planned)
}

impl World {
    fn waits(&self, phase: Phase, reason: &str, says: &str) {
        let status = self.status();
        assert_eq!((status.phase, self.ready()), (phase, pair("False", reason)));
        assert!(status.message.contains(says), "{}", status.message);
        assert!(!self.observed.held() || self.status().change_started, "nothing is under way");
    }

    fn annotate(&mut self, value: &str) -> &mut Self {
        self.observed.upgrade.annotations_mut().insert(annotation::APPROVE.into(), value.into());
        self.settle()
    }
}

#[test]
fn a_manual_plan_waits_for_its_own_id() {
    let mut world = planning(|spec| spec.approval = ApprovalMode::Manual);
    world.waits(Phase::AwaitingApproval, "AwaitingApproval", "coderupgrade.dev/approve=plan-2.31.7");
    assert_eq!(world.condition(ConditionType::Stalled), pair("True", "AwaitingApproval"));
    let approval = world.status().approval.unwrap();
    assert_eq!((approval.value.as_str(), approval.action.as_str()), ("plan-2.31.7", "upgrade from 2.30.0 to 2.31.7"));
    world.events.clear();
    world.annotate("plan-2.31.6");
    world.wait(100);
    assert_eq!((world.status().phase, world.events.as_slice()), (Phase::AwaitingApproval, &["ApprovalIgnored"][..]));
    world.events.clear();
    world.annotate("plan-2.31.7");
    assert_eq!((world.status().phase, world.status().approval.clone()), (Phase::Upgrading, None));
    assert_eq!(world.events, ["Upgrading"]);
}

#[test]
fn an_approval_that_is_there_before_its_plan_counts_without_a_word() {
    let mut world = World::new("2.31.7");
    world.edit(|spec| spec.approval = ApprovalMode::Manual);
    world.annotate("plan-2.31.7").report(planned(PlannedAction::Upgrade, "2.31.7"));
    assert_eq!(world.events, ["Planning", "PlanReady", "Upgrading"]);
}

#[test]
fn the_approval_is_not_needed_any_more_once_the_spec_says_so() {
    let mut world = planning(|spec| spec.approval = ApprovalMode::Manual);
    world.edit(|spec| spec.approval = ApprovalMode::Automatic);
    world.settle();
    assert_eq!((world.status().phase, world.created.len()), (Phase::Upgrading, 2));
}

#[test]
fn a_plan_that_is_made_again_is_approved_again() {
    let mut world = planning(|spec| spec.approval = ApprovalMode::Manual);
    world.annotate("plan-2.31.7").report(problem(FailureClass::PlanOutdated, false));
    assert_eq!(world.status().phase, Phase::Planning);
    let Outcome::Planned(mut other) = planned(PlannedAction::Upgrade, "2.31.7") else { unreachable!() };
    other.plan.id = "another".into();
    world.report(Outcome::Planned(other));
    world.waits(Phase::AwaitingApproval, "AwaitingApproval", "approve=another");
    world.annotate("another");
    assert_eq!(world.status().phase, Phase::Upgrading);
}

#[test]
fn foreseen_repairs_beyond_what_is_allowed_wait_for_an_approval_of_exactly_them() {
    for manual in [false, true] {
        let mut world = World::new("2.31.7");
        world.edit(|spec| {
            spec.recovery = Recovery::Stop;
            spec.approval = if manual { ApprovalMode::Manual } else { ApprovalMode::Automatic };
        });
        world.settle().report(with_a_repair("2.31.7"));
        world.waits(Phase::AwaitingApproval, "AwaitingApproval", "Replace Deployment/coder");
        assert_eq!(world.status().approval.unwrap().value, "plan-2.31.7/repair");
        world.events.clear();
        world.annotate("plan-2.31.7");
        assert_eq!(world.status().approval.unwrap().value, "plan-2.31.7/repair", "the plan alone is not enough");
        assert_eq!(world.events, ["ApprovalIgnored"]);
        world.annotate("plan-2.31.7/repair");
        let job = world.created.last().unwrap();
        assert_eq!((job.step, job.recovery), (StepName::Upgrade, Recovery::Repair), "and it counts for the plan, too");
    }
}

#[test]
fn a_person_may_choose_the_reinstall_instead_of_a_foreseen_replacement() {
    let mut world = World::new("2.31.7");
    world.edit(|spec| spec.recovery = Recovery::Stop);
    world.settle().report(with_a_repair("2.31.7"));
    assert!(world.status().approval.unwrap().action.contains("plan-2.31.7/reinstall"));
    world.annotate("plan-2.31.7/reinstall");
    let job = world.created.last().unwrap();
    assert_eq!((job.step, job.recovery), (StepName::Uninstall, Recovery::Reinstall));
}

#[test]
fn foreseen_repairs_that_are_allowed_wait_for_nobody() {
    let mut world = World::new("2.31.7");
    world.settle().report(with_a_repair("2.31.7"));
    assert_eq!(world.status().phase, Phase::Upgrading);
}

#[test]
fn a_closed_window_says_when_it_opens_and_then_opens() {
    let mut world = planning(|spec| spec.window = Some(sundays("16:00", "18:00")));
    world.waits(Phase::AwaitingWindow, "AwaitingWindow", "opens on Sun 2025-06-15 16:00 (UTC)");
    assert_eq!(world.condition(ConditionType::Reconciling), pair("True", "AwaitingWindow"));
    assert_eq!(decide(&world.observed).wake, Some(Duration::from_secs(53 * 60 + 20)));
    assert_eq!(world.status().next_check_time.unwrap().0, Timestamp::from_second(NOW + 53 * 60 + 20).unwrap());
    world.wait(53 * 60 + 19);
    assert_eq!(world.created.len(), 1);
    world.wait(1);
    assert_eq!((world.status().phase, world.status().next_check_time), (Phase::Upgrading, None));
}

#[test]
fn an_edited_window_takes_effect_at_once_and_plans_nothing() {
    let mut world = planning(|spec| spec.window = Some(sundays("16:00", "18:00")));
    world.edit(|spec| spec.window = Some(sundays("15:00", "18:00")));
    world.settle();
    assert_eq!((world.status().phase, world.status().attempt), (Phase::Upgrading, 1));
}

#[test]
fn a_window_that_cannot_be_read_is_refused_before_anything_is_planned() {
    let mut world = World::new("2.31.7");
    let invalid = |zone: &str| Some(Window { time_zone: zone.into(), ..sundays("22:00", "04:00") });
    world.edit(|spec| spec.window = invalid("Europe/Berlln"));
    world.settle();
    let failure = world.status().failure.unwrap();
    assert_eq!((failure.class, failure.field.as_deref()), (FailureClass::SpecInvalid, Some("spec.window.timeZone")));
    assert!(failure.message.contains("Europe/Berlin"), "{}", failure.message);
    assert_eq!((world.created.len(), world.condition(ConditionType::Stalled)), (0, pair("True", "SpecInvalid")));
    world.edit(|spec| spec.window = invalid("Europe/Berlin"));
    world.settle();
    assert_eq!((world.status().phase, world.status().failure.clone()), (Phase::Planning, None));
}

#[test]
fn what_comes_after_another_waits_until_that_is_ready() {
    let mut world = planning(|spec| spec.depends_on = vec!["coderd".into()]);
    world.waits(Phase::AwaitingDependency, "AwaitingDependency", "CoderUpgrade coderd");
    assert!(world.status().message.contains("does not exist"), "{}", world.status().message);
    world.observed.siblings = vec![sibling("coderd", false, &[])];
    world.settle().waits(Phase::AwaitingDependency, "AwaitingDependency", "it is Upgrading");
    assert_eq!(world.condition(ConditionType::Stalled), pair("False", "Idle"));
    world.observed.siblings = vec![sibling("coderd", true, &[])];
    world.settle();
    assert_eq!(world.status().phase, Phase::Upgrading);
}

#[test]
fn a_circle_needs_a_person() {
    let mut world = World::new("2.31.7");
    world.edit(|spec| spec.depends_on = vec!["a".into()]);
    world.observed.siblings = vec![sibling("a", true, &["b"]), sibling("b", true, &["coder"])];
    world.settle().report(planned(PlannedAction::Upgrade, "2.31.7"));
    world.waits(Phase::AwaitingDependency, "AwaitingDependency", "coder after a after b after coder");
    assert_eq!(world.condition(ConditionType::Stalled), pair("True", "AwaitingDependency"));
    assert_eq!(world.condition(ConditionType::Reconciling), pair("False", "Idle"));
}

#[test]
fn every_gate_is_asked_again_after_the_backup() {
    let mut world = planning(|spec| {
        spec.backup = Some(backup(None));
        spec.window = Some(sundays("15:00", "16:00"));
    });
    assert_eq!((world.status().phase, world.created.len()), (Phase::BackingUp, 2));
    assert_eq!(world.created[1].plan_secrets, ["coder-plan-2.31.7", "coder-plan-2.31.7-2"]);
    world.wait(3600);
    let done = record(&world, "plan-2.31.7");
    world.report(done);
    world.waits(Phase::AwaitingWindow, "AwaitingWindow", "opens on Sun 2025-06-22 15:00");
    world.edit(|spec| spec.window = None);
    world.settle();
    assert_eq!((world.status().phase, world.created.len()), (Phase::Upgrading, 3), "the backup counts");
}

#[test]
fn a_backup_that_has_waited_for_too_long_is_made_again() {
    let mut world = planning(|spec| spec.backup = Some(backup(None)));
    world.observed.upgrade.spec.suspend = true;
    let done = record(&world, "plan-2.31.7");
    world.report(done).wait(25 * 3600);
    world.waits(Phase::Suspended, "Suspended", "spec.suspend");
    world.edit(|spec| spec.suspend = false);
    world.settle();
    assert_eq!((world.status().phase, world.created.len()), (Phase::BackingUp, 3));
    assert_ne!(world.created[1].name, world.created[2].name);
}

#[test]
fn a_failed_backup_stops_before_anything_is_changed() {
    let mut world = planning(|spec| spec.backup = Some(backup(Some("12h"))));
    world.report(problem(FailureClass::BackupFailed, false));
    assert_eq!((world.status().phase, world.ready()), (Phase::Failed, pair("False", "BackupFailed")));
    world.wait(100_000);
    assert_eq!(world.created.len(), 2, "neither again nor over it");
}

#[test]
fn a_spec_changed_during_the_backup_plans_again() {
    let mut world = planning(|spec| spec.backup = Some(backup(None)));
    world.edit(|spec| spec.version = Some("2.32.0".into()));
    world.settle();
    assert_eq!((world.status().phase, world.status().attempt), (Phase::Planning, 2));
    assert!(world.observed.jobs.iter().all(|job| !job.name.contains("-backup-")), "its Job is gone");
}

#[test]
fn the_gates_are_asked_in_their_order() {
    let mut world = planning(|spec| {
        spec.suspend = false;
        spec.depends_on = vec!["coderd".into()];
        spec.approval = ApprovalMode::Manual;
        spec.window = Some(sundays("16:00", "18:00"));
        spec.backup = Some(backup(None));
    });
    let mut seen = vec![world.status().phase];
    world.observed.siblings = vec![sibling("coderd", true, &[])];
    seen.push(world.settle().status().phase);
    seen.push(world.annotate("plan-2.31.7").status().phase);
    seen.push(world.wait(3600).status().phase);
    let done = record(&world, "plan-2.31.7");
    seen.push(world.report(done).status().phase);
    let expected =
        [Phase::AwaitingDependency, Phase::AwaitingApproval, Phase::AwaitingWindow, Phase::BackingUp, Phase::Upgrading];
    assert_eq!(seen, expected);
}

/// Closes every gate that can be closed.
fn close(world: &mut World) {
    world.edit(|spec| {
        spec.suspend = true;
        spec.depends_on = vec!["nobody".into()];
        spec.approval = ApprovalMode::Manual;
        spec.window = Some(sundays("16:00", "18:00"));
        spec.backup = Some(backup(None));
    });
}

#[test]
fn what_has_begun_is_finished_whatever_the_gates_say() {
    let mut world = upgrading();
    close(&mut world);
    world.settle().report(problem(FailureClass::ReleaseLocked, true)).wait(100);
    assert_eq!((world.status().phase, world.created.len()), (Phase::Upgrading, 3));
    world.kill().wait(100);
    assert_eq!((world.status().phase, world.created.len()), (Phase::Upgrading, 4));
    world.report(upgraded("2.31.7"));
    assert_eq!(world.ready(), pair("True", "Verified"));
}

#[test]
fn what_has_changed_nothing_yet_waits_and_goes_on_when_the_gates_open() {
    let mut world = upgrading();
    close(&mut world);
    world.settle().report(problem(FailureClass::BuildsRunning, false)).wait(100);
    world.waits(Phase::Suspended, "Suspended", "spec.suspend");
    assert_eq!(world.created.len(), 2);
    world.edit(|spec| {
        spec.suspend = false;
        spec.depends_on.clear();
        spec.approval = ApprovalMode::Automatic;
        spec.backup = None;
    });
    world.settle().waits(Phase::AwaitingWindow, "AwaitingWindow", "16:00");
    world.wait(3600);
    assert_eq!((world.status().phase, world.created.len()), (Phase::Upgrading, 3));
}

#[test]
fn a_remedy_that_the_spec_allows_belongs_to_what_has_begun() {
    let mut world = upgrading();
    world.observed.upgrade.spec.recovery = Recovery::Reinstall;
    close(&mut world);
    world.settle().report(failed(FailureClass::HistoryBroken, Some(Remedy::Reinstall), "failed"));
    assert_eq!(world.status().phase, Phase::Uninstalling);
}

#[test]
fn a_remedy_that_a_person_allows_later_waits_for_the_window() {
    let mut world = upgrading();
    world.report(failed(FailureClass::HistoryBroken, Some(Remedy::Reinstall), "failed"));
    world.edit(|spec| spec.window = Some(sundays("16:00", "18:00")));
    world.settle().annotate("plan-2.31.7/reinstall");
    world.waits(Phase::AwaitingWindow, "AwaitingWindow", "16:00");
    world.wait(3600);
    assert_eq!(world.status().phase, Phase::Uninstalling);
}

#[test]
fn the_time_of_a_record_is_that_of_its_backup() {
    let mut world = planning(|spec| spec.backup = Some(backup(Some("48h"))));
    let Outcome::BackedUp(done) = record(&world, "plan-2.31.7") else { unreachable!() };
    let finished = Time(world.observed.now - jiff::SignedDuration::from_hours(40));
    world.report(Outcome::BackedUp(BackupRecord { finished, recent: true, ..done }));
    assert_eq!(world.status().phase, Phase::Upgrading, "spec.backup.maxAge has room for it");
}
