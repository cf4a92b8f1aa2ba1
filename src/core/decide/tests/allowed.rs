//! What the spec may name, asked by the decisions.

use super::*;
use crate::api::CoderUpgradeSpec;
use crate::core::allowed::Allowed;

/// An edit of a spec.
type Edit = fn(&mut CoderUpgradeSpec);

const EVIL: &str = "https://evil.example/charts";

fn failure(world: &World) -> (Phase, Option<(FailureClass, String)>) {
    let status = world.status();
    (status.phase, status.failure.map(|failure| (failure.class, failure.field.unwrap_or_default())))
}

fn refused(field: &str) -> (Phase, Option<(FailureClass, String)>) {
    (Phase::Failed, Some((FailureClass::NotAllowed, field.into())))
}

fn elsewhere(spec: &mut CoderUpgradeSpec) {
    spec.chart.repository = Some(EVIL.into());
}

fn allow_all(world: &mut World) -> &mut World {
    let any = || vec!["*".parse().unwrap()];
    world.observed.allowed = Arc::new(Allowed::new(any(), vec!["*".into()], vec!["*".parse().unwrap()]));
    world.settle()
}

#[test]
fn nothing_is_started_for_what_is_not_allowed() {
    let cases: [(&str, Edit); 3] = [
        ("spec.chart.repository", elsewhere),
        ("spec.job.serviceAccountName", |spec| spec.job.service_account_name = "admin".into()),
        ("spec.job.image", |spec| spec.job.image = Some("evil.example/tool:1".into())),
    ];
    for (field, change) in cases {
        let mut world = World::new("2.31.7");
        world.edit(change);
        world.settle().wait(3600);
        assert_eq!(failure(&world), refused(field));
        assert!(world.created.is_empty() && !world.observed.held(), "{field}");
        assert_eq!(world.events, ["NotAllowed"], "said once");
        // The spec is corrected: it goes on.
        world.edit(|spec| *spec = CoderUpgradeSpec { version: Some("2.31.7".into()), ..Default::default() });
        world.settle();
        assert_eq!((world.status().phase, world.created.len()), (Phase::Planning, 1), "{field}");
    }
}

#[test]
fn other_flags_are_enough() {
    let mut world = World::new("2.31.7");
    world.edit(elsewhere);
    world.settle();
    assert_eq!(failure(&world), refused("spec.chart.repository"));
    allow_all(&mut world);
    assert_eq!((world.status().phase, world.created.len()), (Phase::Planning, 1));
}

#[test]
fn what_the_runner_was_refused_is_tried_again_under_other_flags_only() {
    let mut world = World::new("2.31.7");
    world.settle();
    let problem = Problem::new(FailureClass::NotAllowed, "the index leads elsewhere").field("spec.chart.repository");
    world.report(Outcome::Failed(problem)).wait(3600);
    assert_eq!((failure(&world), world.created.len()), (refused("spec.chart.repository"), 1));
    allow_all(&mut world);
    assert_eq!((world.status().phase, world.created.len()), (Phase::Planning, 2));
}

#[test]
fn a_plan_that_runs_is_ended_and_a_made_one_is_not_carried_out() {
    let mut world = World::new("2.31.7");
    world.settle().edit(elsewhere);
    world.settle();
    assert_eq!(failure(&world), refused("spec.chart.repository"));
    assert_eq!(world.steps(), [(StepName::Plan, StepState::Superseded)]);

    let mut world = World::new("2.31.7");
    world.settle().edit(|spec| spec.approval = crate::api::ApprovalMode::Manual);
    world.report(planned(PlannedAction::Upgrade, "2.31.7"));
    assert_eq!(world.status().phase, Phase::AwaitingApproval);
    world.edit(|spec| {
        spec.approval = crate::api::ApprovalMode::Automatic;
        spec.job.service_account_name = "admin".into();
    });
    world.settle();
    assert_eq!(failure(&world), refused("spec.job.serviceAccountName"));
    assert_eq!(world.created.len(), 1, "only the plan");
}

#[test]
fn an_edit_does_not_hold_up_what_has_begun() {
    let mut world = World::new("2.31.7");
    world.settle();
    world.report(planned(PlannedAction::Upgrade, "2.31.7"));
    world.edit(|spec| {
        elsewhere(spec);
        spec.job.service_account_name = "admin".into();
    });
    let problem = Problem { changed: true, ..Problem::new(FailureClass::WebhookUnavailable, "no answer") };
    world.report(Outcome::Failed(problem)).wait(3600);
    assert_eq!(world.status().phase, Phase::Upgrading, "the planned change is tried again");
    let told = |world: &World| world.events.iter().filter(|reason| **reason == "NotAllowed").count();
    assert_eq!(told(&world), 1, "the edit is not passed over in silence");
    assert_eq!(world.created.last().unwrap().step, StepName::Upgrade);
    world.report(upgraded("2.31.7"));
    assert_eq!(failure(&world), refused("spec.chart.repository"), "told as soon as it has ended");
    assert_eq!(told(&world), 2);
}

#[test]
fn what_is_at_rest_is_refused_at_once() {
    let mut world = World::new("2.31.7");
    world.settle();
    world.report(planned(PlannedAction::Upgrade, "2.31.7"));
    world.report(upgraded("2.31.7"));
    assert_eq!(world.status().phase, Phase::Succeeded);
    world.edit(|spec| spec.job.image = Some("evil.example/tool:1".into()));
    world.settle();
    assert_eq!(failure(&world), refused("spec.job.image"));
    assert_eq!(world.ready(), ("False".into(), "NotAllowed".into()));
    world.edit(|spec| spec.job.image = None);
    world.settle();
    assert_eq!(world.status().phase, Phase::Planning);
}
