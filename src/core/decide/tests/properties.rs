//! Whatever happens, in whichever order.

use proptest::prelude::*;

use super::{
    gates::{backup, record},
    path::hop,
    recovery::{failed, leftover, restored, uninstalled},
    *,
};
use crate::api::{ApprovalMode, BackupRecord, Day, Recovery, Remedy, Repair, Window, annotation};
use crate::core::decide::observed::Remaining;

/// What may happen around the controller.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happening {
    Succeed,
    Fail(FailureClass),
    Start,
    Replace,
    Kill,
    Edit(u8),
    Recovery(Recovery),
    Suspend(bool),
    DeleteJob,
    Wait(u16),
    Claim(bool),
    Manual(bool),
    Approve,
    Window(bool),
    After(bool),
    Backup(bool),
    Hop,
    Delete,
    LosePlan,
    Whole,
    PauseCoder(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    let classes = [
        FailureClass::RepositoryUnreachable,
        FailureClass::ObjectInvalid,
        FailureClass::PlanOutdated,
        FailureClass::Interrupted,
        FailureClass::ReleaseLocked,
        FailureClass::Immutable,
        FailureClass::HistoryBroken,
        FailureClass::QuotaExceeded,
        FailureClass::PortTaken,
        FailureClass::RolloutTimedOut,
        FailureClass::HookFailed,
        FailureClass::ReleaseMissing,
        FailureClass::DataAtRisk,
        FailureClass::Downgrade,
    ];
    let recoveries = [Recovery::Stop, Recovery::Repair, Recovery::Reinstall];
    prop_oneof![
        6 => Just(Happening::Succeed),
        4 => prop::sample::select(classes.to_vec()).prop_map(Happening::Fail),
        1 => Just(Happening::Start),
        1 => Just(Happening::Replace),
        3 => Just(Happening::Kill),
        1 => (0u8..3).prop_map(Happening::Edit),
        2 => prop::sample::select(recoveries.to_vec()).prop_map(Happening::Recovery),
        1 => any::<bool>().prop_map(Happening::Suspend),
        1 => Just(Happening::DeleteJob),
        3 => any::<u16>().prop_map(Happening::Wait),
        1 => any::<bool>().prop_map(Happening::Claim),
        1 => any::<bool>().prop_map(Happening::Manual),
        2 => Just(Happening::Approve),
        1 => any::<bool>().prop_map(Happening::Window),
        1 => any::<bool>().prop_map(Happening::After),
        1 => any::<bool>().prop_map(Happening::Backup),
        1 => Just(Happening::Hop),
        1 => Just(Happening::LosePlan),
        1 => Just(Happening::Whole),
        1 => any::<bool>().prop_map(Happening::PauseCoder),
    ]
}

/// A story: what happens, each with how many passes follow.
pub(super) fn happenings() -> impl Strategy<Value = Vec<(Happening, usize)>> {
    prop::collection::vec((happening(), 0usize..4), 0..60)
}

fn an_hour_on_sundays() -> Window {
    Window { days: vec![Day::Sun], start: "03:00".into(), end: "04:00".into(), time_zone: "UTC".into() }
}

pub(super) fn happen(world: &mut World, happening: Happening) {
    match happening {
        Happening::Edit(patch) => world.edit(|spec| spec.version = Some(format!("2.31.{patch}"))),
        Happening::Recovery(recovery) => world.edit(|spec| spec.recovery = recovery),
        Happening::Suspend(suspend) => world.edit(|spec| spec.suspend = suspend),
        Happening::Wait(seconds) => world.observed.now += jiff::SignedDuration::from_secs(seconds.into()),
        Happening::Claim(claimed) => world.observed.claimed_by = claimed.then(|| "other".into()),
        Happening::Manual(manual) => {
            world.edit(|spec| spec.approval = if manual { ApprovalMode::Manual } else { ApprovalMode::Automatic });
        }
        Happening::Approve => {
            let plan = world.status().plan.map(|plan| plan.id).unwrap_or_default();
            world.observed.upgrade.annotations_mut().insert(annotation::APPROVE.into(), plan);
        }
        Happening::Window(closed) => world.edit(|spec| spec.window = closed.then(an_hour_on_sundays)),
        Happening::After(waits) => {
            world.edit(|spec| spec.depends_on = waits.then(|| "nobody".into()).into_iter().collect());
        }
        Happening::Backup(wanted) => world.edit(|spec| spec.backup = wanted.then(|| backup(None))),
        Happening::Delete => world.observed.upgrade.metadata.deletion_timestamp = Some(world.observed.time()),
        Happening::DeleteJob => {
            let changing = world.status().running_step().is_some_and(|step| step.name.changes());
            if let Some((name, ran)) = world.running_job().map(|job| (job.name.clone(), job.has_run())) {
                world.observed.jobs.retain(|job| job.name != name);
                world.unseen |= changing && ran;
            }
        }
        Happening::Succeed
        | Happening::Fail(_)
        | Happening::Kill
        | Happening::Start
        | Happening::Replace
        | Happening::LosePlan
        | Happening::Whole
        | Happening::PauseCoder(_)
        | Happening::Hop => {
            in_the_job(world, happening);
        }
    }
}

fn in_the_job(world: &mut World, happening: Happening) {
    let Some(step) = world.status().steps.last().map(|step| step.name) else { return };
    let target = world.status().target.map_or_else(|| "2.31.7".into(), |target| target.version);
    let time = world.observed.time();
    let (plan, planned_for) = world.status().plan.map(|plan| (plan.id, plan.to)).unwrap_or_default();
    let now = world.clone();
    if step == StepName::Drain {
        let objects = if matches!(happening, Happening::Succeed) { vec![] } else { vec![leftover("slow")] };
        world.observed.left = Some(Remaining { objects, ..Remaining::default() });
        return;
    }
    let Some(job) = world.running_job() else { return };
    let ends = !matches!(happening, Happening::Start | Happening::Replace | Happening::PauseCoder(_));
    match happening {
        Happening::Kill => job.state = JobState::Ended("gone".into()),
        Happening::Start => job.report.started |= step.changes(),
        Happening::Replace if step == StepName::Upgrade => {
            let object = "StatefulSet/timescale".into();
            job.report.repairs = vec![Repair { remedy: Remedy::Replace, object, message: "immutable".into(), time }];
        }
        Happening::Fail(class) => {
            let remedy = class.treatment().remedy.filter(|_| step.changes());
            let Outcome::Failed(problem) = failed(class, remedy, "failed") else { unreachable!() };
            job.report.outcome = Some(Outcome::Failed(Problem { changed: step.changes(), ..problem }));
        }
        Happening::LosePlan if step.changes() => {
            job.report.outcome = Some(Outcome::Failed(Problem::new(FailureClass::PlanMissing, "gone")));
        }
        // Refused before helm was started: nothing is missing, and nothing is half applied.
        Happening::Whole if step.changes() => {
            let current = Some(installed("2.30.0", 1));
            let problem = Problem::new(FailureClass::Forbidden, "no");
            job.report.outcome = Some(Outcome::Failed(Problem { whole: true, current, ..problem }));
        }
        Happening::PauseCoder(down) if step == StepName::Upgrade => {
            let coder = crate::api::ScaledDown { object: "Deployment/coder".into(), replicas: 1 };
            job.report.scaled_down = Some(if down { vec![coder] } else { Vec::new() });
        }
        Happening::Hop if step == StepName::Plan => job.report.outcome = Some(hop("2.30.0", "2.30.5", &[&target])),
        Happening::Succeed => {
            job.report.scaled_down = job.report.scaled_down.as_ref().map(|_| Vec::new());
            job.report.outcome = Some(match step {
                StepName::Backup => {
                    let Outcome::BackedUp(record) = record(&now, "") else { unreachable!() };
                    Outcome::BackedUp(BackupRecord { plan, ..record })
                }
                StepName::Plan => planned(PlannedAction::Upgrade, &target),
                StepName::Uninstall => uninstalled(vec![leftover("slow")]),
                StepName::Restore => restored(),
                _ => upgraded(&planned_for),
            });
        }
        _ => {}
    }
    world.unseen &= !(ends && step.changes());
}

/// A Job that may change the release and whose end nobody has observed.
fn working(world: &World) -> usize {
    let changing = |job: &&JobFacts| !job.name.contains("-plan-") && !job.name.contains("-backup-");
    let open = |job: &&JobFacts| job.state == JobState::Active && job.report.outcome.is_none();
    world.observed.jobs.iter().filter(changing).filter(open).count()
}

/// A change begins that nothing obliges to.
fn begins(before: &CoderUpgradeStatus, after: &CoderUpgradeStatus) -> bool {
    let count =
        |status: &CoderUpgradeStatus| (status.attempt, status.steps.iter().filter(|step| step.name.changes()).count());
    let begun = after.running_step().is_some_and(|step| step.name == StepName::Upgrade) && count(after) > count(before);
    begun && !after.recovery_required && !after.change_started
}

/// Every gate lets a change begin now.
fn open(world: &World) -> bool {
    let (spec, status) = (&world.observed.upgrade.spec, world.status());
    let window = spec.window.as_ref().is_none_or(|window| {
        let schedule = crate::core::gates::window::Schedule::read(window).unwrap();
        schedule.at(world.observed.now) == crate::core::gates::window::Opening::Open
    });
    let approved = spec.approval == ApprovalMode::Automatic || !status.approved_plan.is_empty();
    let backed_up =
        spec.backup.is_none() || status.backup.is_some_and(|backup| Some(backup.plan) == status.plan.map(|p| p.id));
    !spec.suspend
        && spec.depends_on.is_empty()
        && world.observed.claimed_by.is_none()
        && window
        && approved
        && backed_up
}

fn removed_nothing(uninstall: &JobFacts) -> bool {
    matches!(&uninstall.report.outcome, Some(Outcome::Failed(problem)) if problem.whole || problem.class == FailureClass::PlanMissing)
}

/// That something was removed, or that a change is half made, is never forgotten before Coder was seen back.
fn remembered(before: &CoderUpgradeStatus, world: &World) -> Result<(), TestCaseError> {
    let after = world.status();
    let last = |status: &CoderUpgradeStatus| status.steps.last().map(|step| (step.name, step.state));
    let ended = |steps: &[StepName]| {
        last(&after).is_some_and(|(name, state)| state == StepState::Succeeded && steps.contains(&name))
    };
    // An attempt that succeeded may have made room for the next one in the same pass.
    let verified = after
        .history
        .first()
        .is_some_and(|end| end.outcome == Phase::Succeeded || end.message.contains("was restored"));
    let seen = ended(&[StepName::Upgrade, StepName::Install, StepName::Restore])
        || (verified && after.history.first() != before.history.first());
    // The same pass may already plan again: only the report of the Job tells that the uninstall removed nothing.
    let uninstall = before.running_step().filter(|step| step.name == StepName::Uninstall);
    let refused = uninstall.and_then(|step| world.observed.job(step)).is_some_and(removed_nothing);
    let replicas = !before.scaled_down.is_empty() && after.scaled_down.is_empty();
    prop_assert!(!before.removed || after.removed || seen, "forgotten what was removed: {before:?} {after:?}");
    prop_assert!(
        !before.recovery_required || after.recovery_required || seen || (!after.removed && (refused || replicas)),
        "forgotten that Coder is away: {before:?} {after:?}"
    );
    let another = after.attempt > before.attempt || after.history.first() != before.history.first();
    prop_assert!(
        !before.change_started || after.change_started || seen || another || after.phase == Phase::Failed,
        "forgotten that it was begun: {before:?} {after:?}"
    );
    let waits = [Phase::Suspended, Phase::AwaitingWindow, Phase::AwaitingDependency, Phase::AwaitingApproval];
    prop_assert!(!after.recovery_required || !waits.contains(&after.phase), "held back while Coder is away: {after:?}");
    Ok(())
}

proptest! {
    #[test]
    fn a_deleted_object_goes_only_when_nothing_is_half_made(
        before in prop::collection::vec((happening(), 0usize..4), 0..30),
        after in prop::collection::vec((happening(), 1usize..4), 0..30),
    ) {
        let mut world = World::new("2.31.7");
        for (next, passes) in before {
            happen(&mut world, next);
            for _ in 0..passes {
                world.pass();
            }
        }
        let held = world.observed.held();
        happen(&mut world, Happening::Delete);
        for (next, passes) in after {
            happen(&mut world, next);
            for _ in 0..passes {
                let (before, was_held) = (world.status(), world.observed.held());
                world.pass();
                remembered(&before, &world)?;
                let status = world.status();
                if was_held && !world.observed.held() {
                    prop_assert!(!unfinished(&status), "gone in the middle: {status:?}");
                    prop_assert!(working(&world) == 0, "gone while a Job is at work: {status:?}");
                    prop_assert!(!world.unseen, "gone though nobody saw how far a Job came: {status:?}");
                }
                prop_assert!(held || !world.observed.held(), "Kubernetes takes no new finalizer now");
            }
            if held && !world.observed.held() {
                return Ok(()); // The object is gone.
            }
        }
        // However it stands now: if all goes well from here on, the object goes.
        for _ in 0..20 {
            world.wait(1000);
            happen(&mut world, Happening::Succeed);
        }
        world.settle();
        prop_assert!(!world.observed.held(), "it never goes: {:?}", world.status());
    }

    #[test]
    fn whatever_happens_it_comes_to_rest_and_ends_ready_once_all_goes_well(
        happenings in happenings()
    ) {
        let mut world = World::new("2.31.7");
        for (next, passes) in happenings {
            happen(&mut world, next);
            for _ in 0..passes {
                let before = world.status();
                world.pass();
                prop_assert!(!begins(&before, &world.status()) || open(&world), "begun behind a gate: {before:?}");
                remembered(&before, &world)?;
            }
            prop_assert!(working(&world) <= 1, "two Jobs at once: {:?}", world.created);
            prop_assert!(working(&world) == 0 || world.observed.held(), "a change under way is held");
        }

        happen(&mut world, Happening::Claim(false));
        world.edit(|spec| {
            spec.suspend = false;
            spec.approval = ApprovalMode::Automatic;
            spec.window = None;
            spec.depends_on.clear();
            spec.recovery = Recovery::Reinstall;
            spec.version = Some("2.40.0".into());
        });
        for _ in 0..20 {
            world.wait(1000);
            happen(&mut world, Happening::Succeed);
        }
        prop_assert_eq!(world.settle().ready(), pair("True", "Verified"));
        prop_assert_eq!(world.status().current.unwrap().version, "2.40.0");
        prop_assert!(!world.observed.held() && !world.status().recovery_required);
        prop_assert!(!world.pass(), "nothing is done for an unchanged object");
    }
}
