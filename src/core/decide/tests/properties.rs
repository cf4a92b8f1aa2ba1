//! Whatever happens, in whichever order.

use proptest::prelude::*;

use super::{
    recovery::{failed, leftover, restored, uninstalled},
    *,
};
use crate::{
    api::{Recovery, Remedy, Repair},
    core::observed::Left,
};

/// What may happen around the controller.
#[derive(Clone, Copy, Debug)]
enum Happening {
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
    ]
}

fn happen(world: &mut World, happening: Happening) {
    match happening {
        Happening::Edit(patch) => world.edit(|spec| spec.version = Some(format!("2.31.{patch}"))),
        Happening::Recovery(recovery) => world.edit(|spec| spec.recovery = recovery),
        Happening::Suspend(suspend) => world.edit(|spec| spec.suspend = suspend),
        Happening::Wait(seconds) => world.observed.now += jiff::SignedDuration::from_secs(seconds.into()),
        Happening::Claim(claimed) => world.observed.claimed_by = claimed.then(|| "other".into()),
        Happening::DeleteJob => {
            if let Some(name) = world.running_job().map(|job| job.name.clone()) {
                world.observed.jobs.retain(|job| job.name != name);
            }
        }
        Happening::Succeed | Happening::Fail(_) | Happening::Kill | Happening::Start | Happening::Replace => {
            in_the_job(world, happening);
        }
    }
}

fn in_the_job(world: &mut World, happening: Happening) {
    let Some(step) = world.status().steps.last().map(|step| step.name) else { return };
    let target = world.status().target.map_or_else(|| "2.31.7".into(), |target| target.version);
    let time = world.observed.time();
    if step == StepName::Drain {
        let objects = if matches!(happening, Happening::Succeed) { vec![] } else { vec![leftover("slow")] };
        world.observed.left = Some(Left { objects, ..Left::default() });
        return;
    }
    let Some(job) = world.running_job() else { return };
    match happening {
        Happening::Kill => job.state = JobState::Ended("gone".into()),
        Happening::Start => job.report.started |= step != StepName::Plan,
        Happening::Replace if step == StepName::Upgrade => {
            let object = "StatefulSet/timescale".into();
            job.report.repairs = vec![Repair { remedy: Remedy::Replace, object, message: "immutable".into(), time }];
        }
        Happening::Fail(class) => {
            let remedy = class.treatment().remedy.filter(|_| step != StepName::Plan);
            job.report.outcome = Some(failed(class, remedy, "failed"));
        }
        Happening::Succeed => {
            job.report.outcome = Some(match step {
                StepName::Plan => planned(PlannedAction::Upgrade, &target),
                StepName::Uninstall => uninstalled(vec![leftover("slow")]),
                StepName::Restore => restored(),
                _ => upgraded(&target),
            });
        }
        _ => {}
    }
}

/// A Job that may change the release and that nobody has heard the end of.
fn working(world: &World) -> usize {
    let changing = |job: &&JobFacts| !job.name.contains("-plan-");
    let open = |job: &&JobFacts| job.state == JobState::Active && job.report.outcome.is_none();
    world.observed.jobs.iter().filter(changing).filter(open).count()
}

proptest! {
    #[test]
    fn whatever_happens_it_comes_to_rest_and_ends_ready_once_all_goes_well(
        happenings in prop::collection::vec((happening(), 0usize..4), 0..60)
    ) {
        let mut world = World::new("2.31.7");
        for (next, passes) in happenings {
            let removed = world.status().incomplete;
            happen(&mut world, next);
            for _ in 0..passes {
                world.pass();
            }
            prop_assert!(working(&world) <= 1, "two Jobs at once: {:?}", world.created);
            prop_assert!(working(&world) == 0 || world.observed.held(), "a change under way is held");
            let status = world.status();
            let ended = status.current.as_ref().is_some_and(|current| current.status == "deployed");
            // helm had made every object before its wait timed out: nothing is away then.
            let stands = status.history.first().is_some_and(|ended| ended.message.contains("RolloutTimedOut"));
            let planned = status.steps.last().is_some_and(|step| step.name == StepName::Plan);
            prop_assert!(!removed || status.incomplete || ended || stands || planned, "given up while Coder is away: {status:?}");
        }

        happen(&mut world, Happening::Claim(false));
        world.edit(|spec| {
            spec.suspend = false;
            spec.recovery = Recovery::Reinstall;
            spec.version = Some("2.40.0".into());
        });
        for _ in 0..16 {
            world.wait(1000);
            happen(&mut world, Happening::Succeed);
        }
        prop_assert_eq!(world.settle().ready(), pair("True", "Verified"));
        prop_assert_eq!(world.status().current.unwrap().version, "2.40.0");
        prop_assert!(!world.observed.held() && !world.status().incomplete);
        prop_assert!(!world.pass(), "nothing is done for an unchanged object");
    }
}
