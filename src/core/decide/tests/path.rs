//! Stories of paths: one hop after the other, whatever happens in between.

use super::*;
use crate::api::{ApprovalMode, annotation};

/// A plan for one hop, with what follows.
pub(super) fn hop(from: &str, to: &str, ahead: &[&str]) -> Outcome {
    let Outcome::Planned(mut planned) = planned(PlannedAction::Upgrade, to) else { unreachable!() };
    planned.plan.from = Some(from.into());
    planned.plan.forecast.hops = ahead.iter().map(|version| (*version).to_owned()).collect();
    planned.current = Some(installed(from, 1));
    if let Some(wanted) = ahead.last() {
        planned.target.version = (*wanted).to_owned();
    }
    Outcome::Planned(planned)
}

/// A world on the way from 1.15.2 to 1.18.0, whose first hop is being made.
fn travelling() -> World {
    let mut world = World::new("1.18.0");
    world.settle().report(hop("1.15.2", "1.16.2", &["1.17.5", "1.18.0"]));
    world
}

fn ends(world: &World) -> Vec<(Option<String>, Option<String>)> {
    world.status().history.into_iter().map(|entry| (entry.from, entry.to)).collect()
}

fn way(from: &str, to: &str) -> (Option<String>, Option<String>) {
    (Some(from.into()), Some(to.into()))
}

#[test]
fn each_hop_is_planned_made_and_verified_by_itself() {
    let mut world = travelling();
    assert_eq!(world.status().target.unwrap().version, "1.18.0");
    assert!(world.status().message.contains("1.16.2 of 1.15.2 → 1.18.0"), "{}", world.status().message);
    world.report(upgraded("1.16.2"));
    assert_eq!((world.status().phase, world.ready()), (Phase::Planning, pair("False", "Planning")));
    assert_eq!((world.status().attempt, ends(&world)), (2, vec![way("1.15.2", "1.16.2")]));
    assert_eq!(world.created.last().unwrap().target.as_deref(), Some("1.18.0"));
    world.report(hop("1.16.2", "1.17.5", &["1.18.0"]));
    world.running_job().unwrap().report.progress = "Deployment/coder: 1 of 3 pods updated".into();
    world.settle();
    assert_eq!(world.status().message, "1.17.5 of 1.15.2 → 1.18.0: Deployment/coder: 1 of 3 pods updated");
    world.report(upgraded("1.17.5")).report(hop("1.17.5", "1.18.0", &[])).report(upgraded("1.18.0"));
    assert_eq!((world.ready(), world.status().path_from), (pair("True", "Verified"), None));
    let all = vec![way("1.17.5", "1.18.0"), way("1.16.2", "1.17.5"), way("1.15.2", "1.16.2")];
    assert_eq!(ends(&world), all);
    assert_eq!(world.events.iter().filter(|event| **event == "HopCompleted").count(), 2);
    assert!(!world.observed.held());
    assert!(!world.pass());
}

#[test]
fn the_path_is_approved_once_and_only_once_it_is_another_one() {
    let mut world = World::new("1.18.0");
    world.edit(|spec| spec.approval = ApprovalMode::Manual);
    world.settle().report(hop("1.15.2", "1.16.2", &["1.18.0"]));
    let action = world.status().approval.unwrap().action;
    assert_eq!(action, "upgrade from 1.15.2 to 1.16.2; then on to 1.18.0");
    world.observed.upgrade.annotations_mut().insert(annotation::APPROVE.into(), "plan-1.16.2".into());
    world.settle().report(upgraded("1.16.2"));
    // Neither a plan that is made twice nor a pause between the hops ends the approval.
    world.report(problem(FailureClass::RepositoryUnreachable, false)).wait(100);
    world.report(hop("1.16.2", "1.18.0", &[]));
    assert_eq!(world.status().phase, Phase::Upgrading);
    // That somebody else has changed the release does.
    world.report(problem(FailureClass::PlanOutdated, false)).wait(100).report(hop("1.16.3", "1.18.0", &[]));
    assert_eq!((world.status().phase, world.status().approved_plan.as_str()), (Phase::AwaitingApproval, ""));
}

#[test]
fn between_two_hops_it_can_be_suspended() {
    let mut world = World::new("1.18.0");
    world.edit(|spec| spec.approval = ApprovalMode::Manual);
    world.observed.upgrade.annotations_mut().insert(annotation::APPROVE.into(), "plan-1.16.2".into());
    world.settle().report(hop("1.15.2", "1.16.2", &["1.18.0"]));
    world.edit(|spec| spec.suspend = true);
    world.settle().report(upgraded("1.16.2"));
    assert_eq!((world.status().phase, world.observed.held()), (Phase::Suspended, false));
    assert_eq!(ends(&world), [way("1.15.2", "1.16.2")]);
    world.edit(|spec| spec.suspend = false);
    world.settle().report(hop("1.16.2", "1.18.0", &[])).report(upgraded("1.18.0"));
    assert_eq!(world.ready(), pair("True", "Verified"), "the approval holds for the whole path");
}

#[test]
fn a_version_that_was_looked_up_stays_the_goal_of_the_path() {
    let mut world = World::new("1.18.0");
    world.edit(|spec| spec.version = None);
    world.settle();
    assert_eq!(world.created[0].target, None);
    world.report(hop("1.15.2", "1.16.2", &["1.18.0"])).report(upgraded("1.16.2"));
    assert_eq!(world.created.last().unwrap().target.as_deref(), Some("1.18.0"));
    world.observed.upgrade.annotations_mut().insert(annotation::REQUESTED_AT.into(), "now".into());
    world.settle();
    assert_eq!(world.created.last().unwrap().target, None, "whoever asks again gets the newest");
}

#[test]
fn a_spec_changed_during_a_hop_takes_another_way_after_it() {
    let mut world = travelling();
    world.edit(|spec| spec.version = Some("1.17.5".into()));
    world.settle().report(upgraded("1.16.2"));
    assert_eq!((world.status().phase, world.status().target.unwrap().version.as_str()), (Phase::Planning, "1.17.5"));
    assert_eq!(ends(&world), [way("1.15.2", "1.16.2")]);
}

#[test]
fn deleted_during_a_hop_the_path_ends_with_it() {
    let mut world = travelling();
    world.observed.upgrade.metadata.deletion_timestamp = Some(world.observed.time());
    world.settle().report(upgraded("1.16.2"));
    assert!(!world.observed.held());
    assert_eq!(world.created.len(), 2);
}

#[test]
fn a_hop_that_fails_ends_the_path_until_a_person_asks_again() {
    let mut world = travelling();
    world.report(upgraded("1.16.2")).report(hop("1.16.2", "1.17.5", &["1.18.0"]));
    world.report(problem(FailureClass::ObjectInvalid, false));
    assert_eq!((world.status().phase, ends(&world)[0].clone()), (Phase::Failed, way("1.16.2", "1.17.5")));
    world.wait(100_000);
    assert_eq!(world.created.len(), 4);
}
