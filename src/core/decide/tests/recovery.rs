//! Stories of failures: what is repaired, offered, reinstalled or restored.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::api::{ClaimStatus, Recovery, Remedy, Repair, WaitingFor, annotation};
use crate::core::decide::observed::Remaining;
use crate::core::report::{Activity, Uninstalled};

/// helm failed, changed its records, and left the release in that status.
pub(super) fn failed(class: FailureClass, remedy: Option<Remedy>, status: &str) -> Outcome {
    Outcome::Failed(Problem {
        changed: true,
        remedy,
        current: Some(Installed { status: status.into(), ..installed("2.31.7", 2) }),
        ..Problem::new(class, "the text of helm").object("StatefulSet/timescale")
    })
}

pub(super) fn leftover(name: &str) -> WaitingFor {
    WaitingFor {
        kind: "Service".into(),
        name: name.into(),
        uid: name.into(),
        since: Time(Timestamp::from_second(1_750_000_000).unwrap()),
        finalizers: vec!["service.kubernetes.io/load-balancer-cleanup".into()],
        explanation: None,
    }
}

pub(super) fn uninstalled(leftovers: Vec<WaitingFor>) -> Outcome {
    let current = Installed { status: "uninstalled".into(), ..installed("2.30.0", 2) };
    Outcome::Uninstalled(Uninstalled { current, kept: Vec::new(), leftovers })
}

pub(super) fn restored() -> Outcome {
    let Outcome::Upgraded(upgraded) = upgraded("2.30.0") else { unreachable!() };
    Outcome::Restored(upgraded)
}

/// The step failed before helm was started, and every object of the release is there.
fn untouched(class: FailureClass) -> Outcome {
    Outcome::Failed(Problem { whole: true, current: Some(installed("2.30.0", 1)), ..Problem::new(class, "refused") })
}

/// helm was started and left the release failed, with every object that it has there.
pub(super) fn half_upgraded(class: FailureClass, whole: bool) -> Outcome {
    let Outcome::Failed(problem) = failed(class, None, "failed") else { unreachable!() };
    Outcome::Failed(Problem { whole, ..problem })
}

impl World {
    pub(super) fn delete(&mut self) -> &mut Self {
        self.observed.upgrade.metadata.deletion_timestamp = Some(self.observed.time());
        self.settle()
    }

    pub(super) fn approve(&mut self, value: &str) -> &mut Self {
        self.observed.upgrade.annotations_mut().insert(annotation::APPROVE.into(), value.into());
        self.settle()
    }

    pub(super) fn left(&mut self, objects: Vec<WaitingFor>) -> &mut Self {
        let claims = self.status().persistent_volume_claims.into_iter().map(|c| (c.name.clone(), c)).collect();
        self.observed.left = Some(Remaining { objects, claims });
        self.settle()
    }
}

/// A world whose release is uninstalled and whose install Job runs.
pub(super) fn installing() -> World {
    let mut world = upgrading();
    world.observed.upgrade.spec.recovery = Recovery::Reinstall;
    world.report(failed(FailureClass::HistoryBroken, Some(Remedy::Reinstall), "failed"));
    world.report(uninstalled(Vec::new())).left(Vec::new());
    assert_eq!(world.status().phase, Phase::Installing);
    world
}

#[test]
fn a_reinstall_goes_through_uninstall_and_drain() {
    let mut world = upgrading();
    world.observed.upgrade.spec.recovery = Recovery::Reinstall;
    world.report(failed(FailureClass::HistoryBroken, Some(Remedy::Reinstall), "failed"));
    assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Uninstalling, true));
    world.report(uninstalled(vec![leftover("ingress-nginx")]));
    assert_eq!(world.status().phase, Phase::Draining);
    world.left(vec![leftover("ingress-nginx")]);
    assert!(world.status().message.contains("Service/ingress-nginx"), "{}", world.status().message);
    assert_eq!(decide(&world.observed).wake.map(|wake| wake.as_secs()), Some(60), "the explanation is due then");
    world.wait(61);
    assert!(world.status().waiting_for[0].explanation.is_some());
    assert_eq!(world.created.len(), 3, "no Job while it drains");
    world.left(Vec::new());
    assert_eq!((world.status().phase, world.status().waiting_for), (Phase::Installing, vec![]));
    world.report(upgraded("2.31.7"));
    assert_eq!((world.ready(), world.status().recovery_required), (pair("True", "Verified"), false));
    assert!(!world.observed.held());
}

#[test]
fn what_is_not_allowed_waits_for_exactly_that_approval() {
    let mut world = upgrading();
    world.report(failed(FailureClass::HistoryBroken, Some(Remedy::Reinstall), "failed"));
    assert_eq!(world.status().phase, Phase::AwaitingApproval);
    assert_eq!(world.condition(ConditionType::Stalled), pair("True", "AwaitingApproval"));
    assert!(world.observed.held(), "what is half applied is taken back before the object goes");
    assert_eq!(world.status().approval.unwrap().value, "plan-2.31.7/reinstall");
    for other in ["plan-2.31.6/reinstall", "plan-2.31.7/repair", "plan-2.31.7", "yes"] {
        world.events.clear();
        world.approve(other);
        assert_eq!(
            (world.status().phase, world.events.as_slice()),
            (Phase::AwaitingApproval, &["ApprovalIgnored"][..])
        );
    }
    world.approve("plan-2.31.7/reinstall");
    assert_eq!(world.status().phase, Phase::Uninstalling);
    assert_eq!(world.created.last().unwrap().recovery, Recovery::Reinstall);
}

#[test]
fn stop_reports_and_an_approved_repair_is_the_same_step_again() {
    let mut world = upgrading();
    world.observed.upgrade.spec.recovery = Recovery::Stop;
    world.report(failed(FailureClass::Immutable, Some(Remedy::Replace), "failed"));
    assert_eq!((world.status().phase, world.created.len()), (Phase::AwaitingApproval, 2));
    assert!(world.status().failure.unwrap().next_step.contains("plan-2.31.7/repair"));
    world.approve("plan-2.31.7/repair");
    let job = world.created.last().unwrap();
    assert_eq!((job.step, job.recovery), (StepName::Upgrade, Recovery::Repair));
    world.kill();
    assert_eq!(world.created.last().unwrap().recovery, Recovery::Repair, "the approval holds for the attempt");
}

#[test]
fn a_larger_recovery_in_the_spec_counts_as_an_approval() {
    let mut world = upgrading();
    world.report(failed(FailureClass::HistoryBroken, Some(Remedy::Reinstall), "failed"));
    world.edit(|spec| spec.recovery = Recovery::Reinstall);
    world.settle();
    assert_eq!((world.status().phase, world.status().attempt), (Phase::Uninstalling, 1));
}

#[test]
fn suspended_nothing_approved_is_begun() {
    let mut world = upgrading();
    world.report(failed(FailureClass::HistoryBroken, Some(Remedy::Reinstall), "failed"));
    world.edit(|spec| spec.suspend = true);
    world.settle().approve("plan-2.31.7/reinstall");
    assert_eq!((world.status().phase, world.created.len()), (Phase::Suspended, 2));
    world.edit(|spec| spec.suspend = false);
    world.settle();
    assert_eq!(world.status().phase, Phase::Uninstalling);
}

#[test]
fn nobody_is_waited_for_while_a_replaced_object_may_be_missing() {
    let mut world = upgrading();
    let time = world.observed.time();
    let repair =
        Repair { remedy: Remedy::Replace, object: "StatefulSet/timescale".into(), message: "immutable".into(), time };
    world.running_job().unwrap().report.repairs = vec![repair];
    world.settle().report(failed(FailureClass::HistoryBroken, Some(Remedy::Reinstall), "failed"));
    assert_eq!(world.status().phase, Phase::Restoring);
    world.running_job().unwrap().report.started = true;
    world.settle().report(failed(FailureClass::ApiUnavailable, None, "failed"));
    assert_eq!(world.status().phase, Phase::Pending);
    assert!(world.observed.held());
}

#[test]
fn half_applied_and_never_started_the_saved_release_is_restored() {
    let mut world = upgrading();
    world.report(failed(FailureClass::QuotaExceeded, None, "failed"));
    assert_eq!(world.status().phase, Phase::Restoring);
    world.report(failed(FailureClass::ApiUnavailable, None, "failed"));
    assert_eq!(world.status().failure.as_ref().map(|failure| failure.class), Some(FailureClass::QuotaExceeded));
    world.wait(1000).report(restored());
    assert_eq!(world.ready(), pair("False", "QuotaExceeded"));
    assert_eq!(world.status().phase, Phase::Failed);
    assert!(world.status().message.contains("restored"), "{}", world.status().message);
    world.wait(100_000);
    assert_eq!(world.created.len(), 4, "and then it waits for a person");
}

#[test]
fn once_the_new_version_may_have_started_nothing_goes_back() {
    let mut world = upgrading();
    world.running_job().unwrap().report.started = true;
    world.settle().report(failed(FailureClass::RolloutTimedOut, None, "failed"));
    assert_eq!((world.status().phase, world.created.len()), (Phase::Failed, 2));
}

#[test]
fn what_helm_rolled_back_by_itself_is_left_alone() {
    let mut world = upgrading();
    world.report(failed(FailureClass::QuotaExceeded, None, "deployed"));
    assert_eq!((world.status().phase, world.created.len()), (Phase::Failed, 2));
}

#[test]
fn after_the_uninstall_it_never_gives_up() {
    let mut world = installing();
    for _ in 0..12 {
        world.report(failed(FailureClass::PortTaken, None, "failed")).wait(1000);
        assert_eq!(world.status().phase, Phase::Installing);
    }
    for _ in 0..12 {
        world.kill().wait(1000);
    }
    world.report(upgraded("2.31.7"));
    assert_eq!(world.ready(), pair("True", "Verified"));
}

#[test]
fn a_new_version_that_cannot_be_installed_gives_way_to_the_saved_one() {
    let mut world = installing();
    world.report(failed(FailureClass::RenderFailed, None, "failed"));
    assert_eq!(world.status().phase, Phase::Restoring);
    world.report(restored());
    assert_eq!((world.ready(), world.status().recovery_required), (pair("False", "RenderFailed"), false));
}

#[test]
fn after_the_uninstall_the_saved_plan_comes_first() {
    let mut world = installing();
    world.edit(|spec| spec.version = Some("2.32.0".into()));
    world.settle().report(failed(FailureClass::PortTaken, None, "failed"));
    world.wait(1000);
    assert_eq!((world.status().phase, world.status().attempt), (Phase::Installing, 1));
    world.observed.upgrade.metadata.deletion_timestamp = Some(world.observed.time());
    world.settle().kill().wait(1000).report(failed(FailureClass::ApiUnavailable, None, "failed")).wait(1000);
    assert!(world.observed.held() && world.status().phase == Phase::Installing, "even if the object is deleted");
    world.report(upgraded("2.31.7"));
    assert!(!world.observed.held());
}

#[test]
fn started_and_failing_for_its_values_it_takes_another_spec() {
    let mut world = installing();
    world.running_job().unwrap().report.started = true;
    world.settle().report(failed(FailureClass::RolloutTimedOut, None, "failed"));
    assert_eq!(world.status().phase, Phase::Pending, "it goes on trying");
    world.edit(|spec| spec.version = Some("2.32.0".into()));
    world.settle();
    assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Planning, true));
}

#[test]
fn a_lost_claim_stops_everything() {
    let mut world = upgrading();
    let claim = ClaimStatus {
        name: "data".into(),
        uid: "u".into(),
        volume: Some("pv".into()),
        phase: None,
        reclaim_policy: None,
        capacity: None,
        note: None,
    };
    let mut status = world.status();
    status.persistent_volume_claims = vec![claim];
    world.observed.upgrade.status = Some(status);
    world.observed.upgrade.spec.recovery = Recovery::Reinstall;
    world.report(failed(FailureClass::HistoryBroken, Some(Remedy::Reinstall), "failed"));
    world.report(uninstalled(Vec::new()));
    world.observed.left = Some(Remaining::default());
    world.settle();
    assert_eq!(world.condition(ConditionType::DataKept), pair("False", "DataMissing"));
    assert_eq!((world.status().phase, world.created.len()), (Phase::Failed, 3), "nothing is installed");
    assert!(world.status().recovery_required && world.observed.held(), "and nobody forgets that Coder is away");
    world.delete();
    assert!(!world.observed.held(), "a person is needed, and may do without the object");
}

#[test]
fn an_uninstall_that_touched_nothing_can_be_given_up() {
    let mut world = upgrading();
    world.observed.upgrade.spec.recovery = Recovery::Reinstall;
    world.report(failed(FailureClass::HistoryBroken, Some(Remedy::Reinstall), "failed"));
    world.report(untouched(FailureClass::DataAtRisk));
    assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Failed, false));
    assert!(!world.observed.held());
}

#[test]
fn a_reinstall_that_leads_to_another_waits_longer_each_time() {
    let mut world = installing();
    let mut waits = Vec::new();
    for _ in 0..3 {
        world.report(problem(FailureClass::PlanOutdated, false));
        waits.push(decide(&world.observed).wake.unwrap().as_secs());
        world.wait(1000).report(planned(PlannedAction::Upgrade, "2.31.7"));
        world.report(failed(FailureClass::HistoryBroken, Some(Remedy::Reinstall), "uninstalled"));
        world.report(uninstalled(Vec::new())).left(Vec::new());
    }
    assert_eq!(waits, [10, 20, 40]);
}

#[test]
fn after_an_object_was_removed_it_never_gives_up_either() {
    let mut world = upgrading();
    let time = world.observed.time();
    let repair =
        Repair { remedy: Remedy::Replace, object: "StatefulSet/timescale".into(), message: "immutable".into(), time };
    world.running_job().unwrap().report.repairs = vec![repair.clone()];
    world.running_job().unwrap().report.activity = Activity::Repairing;
    world.running_job().unwrap().report.progress = "replacing StatefulSet/timescale".into();
    world.settle();
    assert_eq!((world.status().phase, world.status().repairs), (Phase::Repairing, vec![repair]));
    for _ in 0..10 {
        world.kill().wait(1000);
    }
    world.edit(|spec| spec.version = Some("2.32.0".into()));
    world.settle().kill().wait(1000);
    assert_eq!((world.status().phase, world.status().attempt), (Phase::Upgrading, 1));
    world.report(upgraded("2.31.7"));
    assert_eq!(world.status().attempt, 2, "and only then the new spec is planned");
}

/// The install gives way to the saved release; meanwhile a pod of the new version starts.
fn too_late_to_restore(world: &mut World) {
    assert_eq!(world.status().phase, Phase::Restoring);
    world.running_job().unwrap().report.started = true;
    world.settle().report(problem(FailureClass::Downgrade, false));
}

#[test]
fn a_new_version_that_starts_before_the_restore_is_installed_after_all() {
    let mut world = installing();
    world.report(failed(FailureClass::RolloutTimedOut, None, "failed"));
    too_late_to_restore(&mut world);
    world.wait(1000);
    assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Installing, true));
    let job = world.created.last().unwrap();
    assert_eq!((job.step, job.new_version_started), (StepName::Install, true));
    world.report(upgraded("2.31.7"));
    assert_eq!(world.ready(), pair("True", "Verified"));
}

#[test]
fn a_new_version_that_starts_before_the_restore_of_a_failed_upgrade_stays() {
    let mut world = upgrading();
    world.report(failed(FailureClass::RolloutTimedOut, None, "failed"));
    too_late_to_restore(&mut world);
    assert_eq!(world.ready(), pair("False", "RolloutTimedOut"));
    world.wait(100_000);
    assert_eq!((world.status().phase, world.created.len()), (Phase::Failed, 3), "a person is needed");
}

#[test]
fn data_in_danger_does_not_end_what_has_begun() {
    let mut world = installing();
    world.report(failed(FailureClass::DataAtRisk, None, "uninstalled"));
    assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Restoring, true));
    for _ in 0..5 {
        world.report(problem(FailureClass::DataAtRisk, false)).wait(1000);
        assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Restoring, true));
    }
}

#[test]
fn after_the_uninstall_a_plan_that_fails_is_made_again() {
    let mut world = installing();
    world.report(problem(FailureClass::PlanOutdated, false)).wait(1000);
    for _ in 0..5 {
        assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Planning, true));
        world.report(problem(FailureClass::RenderFailed, false)).wait(1000);
    }
    world.report(problem(FailureClass::RenderFailed, false));
    world.edit(|spec| {
        spec.version = Some("2.32.0".into());
        spec.suspend = true;
    });
    world.settle();
    assert_eq!(world.status().phase, Phase::Planning, "another spec is tried at once");
    world.report(planned(PlannedAction::Upgrade, "2.32.0"));
    assert_eq!(world.status().phase, Phase::Upgrading, "a started change is finished, suspended or not");
}

#[test]
fn what_was_removed_comes_back_before_a_reinstall_is_asked_for() {
    let mut world = upgrading();
    let time = world.observed.time();
    let repair =
        Repair { remedy: Remedy::Replace, object: "StatefulSet/timescale".into(), message: String::new(), time };
    world.running_job().unwrap().report.repairs = vec![repair];
    world.settle().report(failed(FailureClass::Immutable, Some(Remedy::Reinstall), "failed"));
    assert_eq!(world.status().phase, Phase::Restoring);
    world.report(restored());
    assert_eq!((world.status().phase, world.status().recovery_required), (Phase::Failed, false));
}
