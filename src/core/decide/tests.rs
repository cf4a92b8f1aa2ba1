//! Stories of whole attempts, played without a cluster: the decisions are carried out on plain data.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::api::{
    CoderUpgrade, CoderUpgradeSpec, ConditionType, FINALIZER, FailureClass, Forecast, Installed, PlanSummary,
    PlannedAction, ProductLine, StepName, Target,
};
use crate::core::decide::job::{JobFacts, RunnerPod};
use crate::core::report::{Outcome, PlanReport, Problem, Report, Upgraded};
use jiff::Timestamp;
use kube::ResourceExt;

mod allowed;
mod backup;
mod blocked;
mod diagram;
mod drift;
mod fit;
mod gates;
mod missing;
mod outlived;
mod path;
mod pause;
mod properties;
mod recovery;
mod started;

/// A cluster of one object and its Jobs.
#[derive(Clone)]
struct World {
    observed: Observed,
    events: Vec<&'static str>,
    created: Vec<super::job::JobRequest>,
    /// Whether the cluster starts the pods of Jobs.
    pods_start: bool,
    /// A Job that changes something was deleted after it had begun, and no other one has ended since.
    unseen: bool,
}

impl World {
    fn new(version: &str) -> Self {
        let mut upgrade =
            CoderUpgrade::new("coder", CoderUpgradeSpec { version: Some(version.into()), ..Default::default() });
        upgrade.metadata.uid = Some("uid".into());
        upgrade.metadata.generation = Some(1);
        let now = Timestamp::from_second(1_750_000_000).unwrap();
        let observed = Observed { settings: "settings".into(), ..Observed::new(upgrade, now) };
        Self { observed, events: Vec::new(), created: Vec::new(), pods_start: true, unseen: false }
    }

    fn edit(&mut self, change: impl FnOnce(&mut CoderUpgradeSpec)) {
        change(&mut self.observed.upgrade.spec);
        *self.observed.upgrade.metadata.generation.as_mut().unwrap() += 1;
    }

    /// One pass: the status or the action. Returns whether anything was done.
    fn pass(&mut self) -> bool {
        let decision = decide(&self.observed);
        if self.observed.upgrade.status.as_ref() != Some(&decision.status) {
            self.observed.upgrade.status = Some(decision.status);
            self.events.extend(decision.events.iter().map(|event| event.reason));
            return true;
        }
        let finalizers = self.observed.upgrade.finalizers_mut();
        match decision.action {
            None => return false,
            Some(Action::AddFinalizer) => finalizers.push(FINALIZER.into()),
            Some(Action::RemoveFinalizer) => finalizers.clear(),
            Some(Action::DeleteJob { name, .. }) => self.observed.jobs.retain(|job| job.name != name),
            Some(Action::SuspendJob { uid, .. }) => {
                self.observed.jobs.iter_mut().find(|job| job.uid == uid).unwrap().suspended = true;
            }
            Some(Action::StartJob { uid, .. }) => {
                let now = self.observed.now;
                let job = self.observed.jobs.iter_mut().find(|job| job.uid == uid).unwrap();
                (job.suspended, job.started_at) = (false, Some(now));
                let (name, uid) = (format!("{}-pod", job.name), format!("{uid}-pod"));
                job.pod.get_or_insert(RunnerPod {
                    name,
                    uid,
                    started: self.pods_start,
                    leaving: false,
                    trouble: None,
                    last_words: None,
                    out_of_memory: false,
                    outlived: None,
                });
            }
            Some(Action::CreateJob(request)) => {
                let uid = format!("job-{}", self.created.len());
                let status = self.observed.upgrade.status.as_mut().unwrap();
                record_job(status, self.observed.watching_since, &request, &uid);
                self.observed.jobs.push(JobFacts {
                    name: request.name.clone(),
                    uid,
                    attempt: request.attempt,
                    settings: self.observed.settings.clone(),
                    suspended: true,
                    started_at: None,
                    leaving: false,
                    state: JobState::Active,
                    pod: None,
                    report: Report::default(),
                    unreadable: None,
                });
                self.created.push(request);
            }
        }
        true
    }

    fn settle(&mut self) -> &mut Self {
        for _ in 0..20 {
            if !self.pass() {
                return self;
            }
        }
        panic!("does not come to rest: {:?}", self.status());
    }

    fn status(&self) -> CoderUpgradeStatus {
        self.observed.status()
    }

    fn running_job(&mut self) -> Option<&mut JobFacts> {
        let name = self.status().running_step()?.job_name.clone();
        self.observed.jobs.iter_mut().find(|job| job.name == name)
    }

    fn report(&mut self, outcome: Outcome) -> &mut Self {
        self.running_job().expect("a running Job").report.outcome = Some(outcome);
        self.settle()
    }

    fn kill(&mut self) -> &mut Self {
        self.running_job().expect("a running Job").state = JobState::Ended("BackoffLimitExceeded".into());
        self.settle()
    }

    fn wait(&mut self, seconds: i64) -> &mut Self {
        self.observed.now += jiff::SignedDuration::from_secs(seconds);
        self.settle()
    }

    fn condition(&self, type_: ConditionType) -> (String, String) {
        let conditions = self.status().conditions;
        let condition = conditions.iter().find(|c| c.type_ == type_.to_string()).expect("every condition is set");
        (condition.status.clone(), condition.reason.clone())
    }

    fn ready(&self) -> (String, String) {
        self.condition(ConditionType::Ready)
    }

    fn steps(&self) -> Vec<(StepName, StepState)> {
        self.status().steps.iter().map(|step| (step.name, step.state)).collect()
    }
}

fn installed(version: &str, revision: i32) -> Installed {
    let app_version = Some(version.to_owned());
    Installed { version: version.into(), app_version, revision, status: "deployed".into(), line: ProductLine::V2 }
}

fn planned(action: PlannedAction, to: &str) -> Outcome {
    Outcome::Planned(Box::new(PlanReport {
        plan: PlanSummary {
            id: format!("plan-{to}"),
            action,
            from: Some("2.30.0".into()),
            to: to.into(),
            chart_digest: "0".into(),
            secret_name: format!("coder-plan-{to}"),
            secret_parts: Some(2),
            forecast: Forecast::default(),
        },
        current: Some(installed("2.30.0", 1)),
        target: Target { version: to.into(), app_version: None },
        claims: Vec::new(),
        exposures: Vec::new(),
        findings: Vec::new(),
        workloads: Vec::new(),
    }))
}

fn upgraded(to: &str) -> Outcome {
    let current = installed(to, 2);
    Outcome::Upgraded(Upgraded {
        current,
        verified: "1 pod answers".into(),
        claims: Vec::new(),
        exposures: Vec::new(),
        address_changes: Vec::new(),
        workloads: Vec::new(),
    })
}

fn problem(class: FailureClass, changed: bool) -> Outcome {
    let message = "the text of helm";
    Outcome::Failed(Problem { changed, ..Problem::new(class, message) })
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.into(), reason.into())
}

/// A world whose upgrade Job runs.
fn upgrading() -> World {
    let mut world = World::new("2.31.7");
    world.settle().report(planned(PlannedAction::Upgrade, "2.31.7"));
    world
}

#[test]
fn an_upgrade_goes_from_plan_to_ready() {
    let mut world = upgrading();
    assert_eq!(world.status().phase, Phase::Upgrading);
    assert!(world.observed.held());
    world.report(upgraded("2.31.7"));
    assert_eq!(world.ready(), pair("True", "Verified"));
    assert_eq!(world.condition(ConditionType::DataKept), pair("True", "VolumesUnchanged"));
    assert_eq!(world.status().history.len(), 1);
    assert_eq!(world.events, ["Planning", "PlanReady", "Upgrading", "Verified"]);
    assert!(!world.observed.held(), "the finalizer goes with the change");
}

#[test]
fn the_intent_is_recorded_before_the_action() {
    let mut world = World::new("2.31.7");
    assert!(world.pass());
    assert!(world.created.is_empty());
    let recorded = world.status().steps[0].job_name.clone();
    assert!(world.pass());
    assert_eq!(world.created[0].name, recorded);
}

#[test]
fn at_the_version_already_means_no_upgrade_job() {
    let mut world = World::new("2.30.0");
    world.settle().report(planned(PlannedAction::Nothing, "2.30.0"));
    assert_eq!(world.ready(), pair("True", "UpToDate"));
    assert_eq!(world.created.len(), 1, "only the plan");
    assert!(world.status().history.is_empty());
    world.edit(|spec| spec.history_limit = 3);
    world.settle();
    assert_eq!((world.created.len(), world.status().observed_generation), (1, 2), "how the work is done plans nothing");
}

#[test]
fn a_changed_spec_plans_again() {
    let mut world = upgrading();
    world.report(upgraded("2.31.7"));
    world.edit(|spec| spec.version = Some("2.32.0".into()));
    world.settle();
    assert_eq!(world.steps(), [(StepName::Plan, StepState::Running)]);
    assert_eq!(world.ready(), pair("False", "Planning"));
    assert_eq!(world.status().attempt, 2);
}

#[test]
fn a_spec_changed_during_the_upgrade_waits_for_its_end() {
    let mut world = upgrading();
    world.edit(|spec| spec.version = Some("2.32.0".into()));
    world.settle();
    assert_eq!((world.created.len(), world.status().observed_generation), (2, 1));
    world.report(upgraded("2.31.7"));
    assert_eq!(world.status().history[0].to.as_deref(), Some("2.31.7"));
    assert_eq!(world.steps(), [(StepName::Plan, StepState::Running)]);
    assert_eq!(world.status().target.unwrap().version, "2.32.0");
}

#[test]
fn a_spec_changed_during_the_plan_begins_again() {
    let mut world = World::new("2.31.7");
    world.settle().edit(|spec| spec.version = Some("2.32.0".into()));
    world.settle();
    assert_eq!((world.created.len(), world.status().attempt), (2, 2));
    assert_eq!(world.observed.jobs.len(), 1, "the Job that plans for the old spec is gone");
}

#[test]
fn suspended_begins_nothing_and_goes_on_later() {
    let mut world = World::new("2.31.7");
    world.edit(|spec| spec.suspend = true);
    world.settle();
    assert_eq!((world.created.len(), world.ready()), (0, pair("False", "Suspended")));
    world.edit(|spec| spec.suspend = false);
    world.settle().edit(|spec| spec.suspend = true);
    world.settle().report(planned(PlannedAction::Upgrade, "2.31.7"));
    assert_eq!((world.created.len(), world.status().phase), (1, Phase::Suspended), "the plan is made and waits");
    world.edit(|spec| spec.suspend = false);
    world.settle();
    assert_eq!(world.status().phase, Phase::Upgrading);
}

#[test]
fn suspended_after_a_failure_starts_over_when_resumed() {
    let mut world = upgrading();
    world.report(problem(FailureClass::ObjectInvalid, false));
    world.edit(|spec| spec.suspend = true);
    world.settle();
    assert_eq!(world.status().phase, Phase::Suspended);
    world.edit(|spec| spec.suspend = false);
    world.settle();
    assert_eq!(world.status().phase, Phase::Planning);
}

#[test]
fn a_failure_that_needs_a_person_stalls_and_a_request_starts_over() {
    let mut world = upgrading();
    world.report(problem(FailureClass::ObjectInvalid, false));
    assert_eq!(world.ready(), pair("False", "ObjectInvalid"));
    assert_eq!(world.condition(ConditionType::Stalled), pair("True", "ObjectInvalid"));
    assert_eq!(world.condition(ConditionType::Upgraded), pair("False", "ObjectInvalid"));
    assert!(!world.observed.held());
    world.wait(100_000);
    assert_eq!(world.created.len(), 2, "it never tries again by itself");
    world.observed.upgrade.annotations_mut().insert(crate::api::annotation::REQUESTED_AT.into(), "now".into());
    world.settle();
    assert_eq!(world.status().phase, Phase::Planning);
}

#[test]
fn a_plan_that_time_can_cure_is_tried_again_with_growing_delays() {
    let mut world = World::new("2.31.7");
    world.settle().report(problem(FailureClass::RepositoryUnreachable, false));
    assert_eq!(world.ready(), pair("False", "RepositoryUnreachable"));
    assert_eq!(world.condition(ConditionType::Reconciling), pair("True", "RepositoryUnreachable"));
    assert_eq!(decide(&world.observed).wake, Some(Duration::from_secs(10)));
    world.wait(9);
    assert_eq!(world.created.len(), 1);
    world.wait(1).report(problem(FailureClass::RepositoryUnreachable, false));
    assert_eq!((world.created.len(), decide(&world.observed).wake), (2, Some(Duration::from_secs(20))));
    world.wait(20).report(planned(PlannedAction::Upgrade, "2.31.7"));
    assert_eq!((world.status().phase, world.status().failure), (Phase::Upgrading, None));
}

#[test]
fn a_killed_runner_is_followed_by_the_same_step() {
    let mut world = upgrading();
    world.kill();
    assert_eq!(world.created.len(), 3);
    assert_ne!(world.created[1].name, world.created[2].name);
    assert_eq!(world.created[1].plan_secrets, world.created[2].plan_secrets);
    world.report(upgraded("2.31.7"));
    assert_eq!(world.ready(), pair("True", "Verified"));
}

#[test]
fn a_runner_that_is_always_killed_ends_stalled() {
    let mut world = upgrading();
    for _ in 0..4 {
        world.kill().wait(1000);
    }
    assert_eq!(world.status().phase, Phase::Restoring, "what it may have left is taken back");
    for _ in 0..4 {
        world.kill().wait(1000);
    }
    assert_eq!(world.condition(ConditionType::Stalled), pair("True", "RetriesExhausted"));
    assert_eq!(world.created.len(), 1 + (1 + 3) + (1 + 3));
}

#[test]
fn a_runner_that_ends_for_lack_of_memory_names_the_field() {
    let mut world = upgrading();
    let job = world.observed.jobs.last_mut().unwrap();
    job.pod.as_mut().unwrap().out_of_memory = true;
    world.kill();
    let failure = world.status().failure.clone().unwrap();
    let (class, field) = (failure.class, failure.field.as_deref());
    assert_eq!((class, field), (FailureClass::OutOfMemory, Some("spec.job.resources")));
    assert!(failure.retryable && failure.message.contains("memory of its container ran out"), "{failure:?}");
}

#[test]
fn a_plan_that_no_longer_fits_is_made_again() {
    let mut world = upgrading();
    world.report(problem(FailureClass::PlanOutdated, false));
    assert_eq!(world.steps(), [(StepName::Plan, StepState::Running)]);
}

#[test]
fn deleted_while_upgrading_it_stays_until_the_job_has_ended() {
    let mut world = upgrading();
    world.observed.upgrade.metadata.deletion_timestamp = Some(world.observed.time());
    world.settle();
    assert!(world.observed.held());
    world.report(upgraded("2.31.7"));
    assert!(!world.observed.held());
}

#[test]
fn a_claimed_release_is_refused_by_name() {
    let mut world = World::new("2.31.7");
    world.observed.claimed_by = Some("first".into());
    world.settle();
    assert_eq!((world.created.len(), world.condition(ConditionType::Stalled)), (0, pair("True", "ReleaseClaimed")));
    assert!(world.status().message.contains("first"));
    world.observed.claimed_by = None;
    world.settle();
    assert_eq!(world.status().phase, Phase::Planning);
}
