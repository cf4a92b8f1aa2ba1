//! What is remembered of a version that may have started, and how it goes on when one starts too early or too late.

use super::recovery::{failed, restored};
use super::*;

fn highest(world: &World) -> Option<String> {
    world.status().highest_started_version
}

impl World {
    fn says(&mut self, report: Report) -> &mut Self {
        self.running_job().expect("a running Job").report = report;
        self.settle()
    }
}

fn ended(report: Report, outcome: Outcome) -> Report {
    Report { outcome: Some(outcome), ..report }
}

#[test]
fn what_has_started_outlives_failures_retries_and_new_plans() {
    let mut world = upgrading();
    world.says(Report { started: true, ..Report::default() });
    assert_eq!(highest(&world).as_deref(), Some("2.31.7"), "as soon as it is seen");
    world.report(failed(FailureClass::RolloutTimedOut, None, "failed"));
    assert_eq!(world.status().phase, Phase::Failed);
    world.edit(|spec| spec.version = Some("2.31.6".into()));
    world.settle().report(planned(PlannedAction::Upgrade, "2.31.6"));
    assert_eq!(highest(&world).as_deref(), Some("2.31.7"));
    world.report(upgraded("2.31.6"));
    assert_eq!(highest(&world).as_deref(), Some("2.31.6"), "it was overridden, and what runs was verified");
}

#[test]
fn what_is_left_behind_by_a_retryable_failure_may_start_while_nobody_looks() {
    let mut world = upgrading();
    let left = Report { may_start: true, ..Report::default() };
    world.says(ended(left, failed(FailureClass::WebhookUnavailable, None, "failed")));
    assert_eq!((highest(&world).as_deref(), world.status().new_version_started), (Some("2.31.7"), false));
}

#[test]
fn nothing_is_remembered_of_what_was_restored_before_it_started() {
    let mut world = upgrading();
    let left = Report { may_start: true, ..Report::default() };
    world.says(ended(left, failed(FailureClass::PolicyDenied, None, "failed")));
    assert_eq!(world.status().phase, Phase::Restoring);
    world.report(restored());
    assert_eq!((world.status().phase, highest(&world)), (Phase::Failed, None));
}

#[test]
fn a_killed_runner_may_have_started_it() {
    let mut world = upgrading();
    world.kill();
    assert_eq!(highest(&world).as_deref(), Some("2.31.7"));
}

#[test]
fn a_version_that_starts_while_the_old_one_is_restored_is_upgraded_to() {
    for (changed, expected) in [(true, Phase::Pending), (false, Phase::Failed)] {
        let mut world = upgrading();
        world.report(failed(FailureClass::PolicyDenied, None, "failed"));
        let started = Report { started: true, ..Report::default() };
        world.says(ended(started, problem(FailureClass::Downgrade, changed)));
        assert_eq!((world.status().phase, highest(&world).as_deref()), (expected, Some("2.31.7")));
        if changed {
            world.wait(60);
            let job = world.created.last().unwrap();
            assert_eq!((job.step, job.new_version_started), (StepName::Upgrade, true), "forward, and by no gate");
        }
    }
}
