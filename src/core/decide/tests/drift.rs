//! Stories of changes from outside.

use super::*;
use crate::api::WorkloadMark;
use crate::core::rollout::drift::Drift;

fn mark(uid: &str) -> WorkloadMark {
    WorkloadMark {
        kind: "Deployment".into(),
        name: "coder".into(),
        uid: uid.into(),
        generation: 1,
        fingerprint: "a.b".into(),
    }
}

/// A world whose Coder was verified.
fn verified(spec: impl FnOnce(&mut CoderUpgradeSpec)) -> World {
    let mut world = World::new("2.31.7");
    world.edit(spec);
    world.settle().report(planned(PlannedAction::Upgrade, "2.31.7"));
    let Outcome::Upgraded(done) = upgraded("2.31.7") else { unreachable!() };
    world.report(Outcome::Upgraded(Upgraded { workloads: vec![mark("u")], ..done }));
    world
}

impl World {
    /// Somebody changes the Deployment. As the controller does it, the change is told until it is marked.
    fn meddle(&mut self, line: &str, uid: &str) -> &mut Self {
        self.observed.drift = vec![Drift { line: line.into(), manager: Some("keel".into()), now: mark(uid) }];
        self.pass();
        self.observed.drift.clear();
        self.settle()
    }
}

fn nothing_to_do(workloads: Vec<WorkloadMark>) -> Outcome {
    let Outcome::Planned(done) = planned(PlannedAction::Nothing, "2.31.7") else { unreachable!() };
    Outcome::Planned(Box::new(PlanReport { workloads, ..*done }))
}

#[test]
fn a_change_from_outside_is_told_and_planned() {
    let mut world = verified(|_| {});
    assert_eq!(world.status().workloads, [mark("u")]);
    world.meddle("Deployment/coder is gone", "");
    assert_eq!((world.status().phase, world.ready()), (Phase::Planning, pair("False", "Drifted")));
    assert_eq!(world.status().drift, ["Deployment/coder is gone"]);
    assert!(world.events.contains(&"Drifted"));
    world.report(nothing_to_do(vec![mark("v")]));
    assert_eq!(world.ready(), pair("True", "UpToDate"));
    assert!(world.status().drift.is_empty() && world.status().workloads == [mark("v")]);
}

#[test]
fn what_cannot_be_planned_away_is_tried_once() {
    let mut world = verified(|_| {});
    world.meddle("Deployment/coder was changed", "u").report(problem(FailureClass::Downgrade, false));
    assert_eq!((world.status().phase, world.ready()), (Phase::Failed, pair("False", "Downgrade")));
    let created = world.created.len();
    world.wait(100_000);
    assert_eq!(world.created.len(), created, "the same change is not planned again");
    world.meddle("Deployment/coder was changed again", "u");
    assert_eq!((world.created.len(), world.status().phase), (created + 1, Phase::Planning));
    assert_eq!(world.status().drift, ["Deployment/coder was changed again"]);
}

#[test]
fn an_upgrade_that_failed_is_not_mistaken_for_a_change_from_outside() {
    let mut world = verified(|_| {});
    world.edit(|spec| spec.version = Some("2.32.0".into()));
    world
        .settle()
        .report(planned(PlannedAction::Upgrade, "2.32.0"))
        .report(problem(FailureClass::ObjectInvalid, false));
    let created = world.created.len();
    world.meddle("Deployment/coder was changed", "u");
    assert_eq!((world.created.len(), world.status().phase), (created, Phase::Failed));
}

#[test]
fn suspended_it_is_told_and_waits() {
    let mut world = verified(|spec| spec.suspend = false);
    world.edit(|spec| spec.suspend = true);
    world.settle().meddle("Deployment/coder is gone", "");
    let jobs = world.created.len();
    assert_eq!((world.status().phase, world.ready()), (Phase::Suspended, pair("False", "Drifted")));
    assert_eq!((jobs, world.status().drift.len()), (2, 1));
    world.edit(|spec| spec.suspend = false);
    world.settle();
    assert_eq!((world.created.len(), world.status().drift.len()), (jobs + 1, 1));
}

#[test]
fn the_newest_version_stays_what_it_was() {
    let mut world = verified(|spec| spec.version = None);
    world.meddle("Deployment/coder was changed", "u");
    assert_eq!(world.status().target.unwrap().version, "2.31.7");
    world.report(problem(FailureClass::Downgrade, false));
    world.observed.upgrade.annotations_mut().insert(crate::api::annotation::REQUESTED_AT.into(), "now".into());
    world.settle();
    assert_eq!((world.status().target, world.status().drift), (None, vec![]), "a person asks again");
}

/// Somebody changes the Deployment, and the plan finds nothing to do. Returns how long the plan was waited for.
fn again(world: &mut World) -> i64 {
    let before = world.observed.now;
    world.meddle("Deployment/coder was changed by keel", "u");
    while world.status().phase != Phase::Planning {
        let wake = decide(&world.observed).wake.expect("somebody looks again");
        world.wait(wake.as_secs().try_into().unwrap());
    }
    let waited = world.observed.now.duration_since(before).as_secs();
    world.report(nothing_to_do(vec![mark("u")]));
    waited
}

#[test]
fn a_change_that_comes_back_is_answered_later_each_time() {
    let mut world = verified(|_| {});
    let waits: Vec<i64> = (0..12).map(|_| again(&mut world)).collect();
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
    let repeat = &world.status().drift_repeats[0];
    assert_eq!(
        (repeat.object.as_str(), repeat.times, repeat.manager.as_deref()),
        ("Deployment/coder", 12, Some("keel"))
    );
    world.wait(25 * 60 * 60);
    assert_eq!(again(&mut world), 0, "after a calm day");
    assert_eq!(world.status().drift_repeats[0].times, 1);
}

#[test]
fn what_waits_is_told_once_with_who_does_it() {
    let mut world = verified(|_| {});
    again(&mut world);
    let told = world.events.iter().filter(|event| **event == "Drifted").count();
    world.meddle("Deployment/coder was changed by keel", "u");
    assert_eq!((world.status().phase, world.ready()), (Phase::Pending, pair("False", "Drifted")));
    assert_eq!(world.condition(ConditionType::Reconciling).0, "True");
    let message = world.status().message;
    assert!(message.contains("2 times (last by keel)") && message.contains("spec.suspend"), "{message}");
    world.wait(5);
    world.meddle("Deployment/coder was changed again by keel", "u");
    assert_eq!(world.events.iter().filter(|event| **event == "Drifted").count(), told + 1);
}

#[test]
fn who_asks_for_something_else_does_not_wait() {
    let mut world = verified(|_| {});
    again(&mut world);
    world.meddle("Deployment/coder was changed by keel", "u");
    world.edit(|spec| spec.version = Some("2.32.0".into()));
    world.settle();
    assert_eq!((world.status().phase, world.status().drift_answer_at), (Phase::Planning, None));
    assert_eq!(world.status().target.unwrap().version, "2.32.0");
}
