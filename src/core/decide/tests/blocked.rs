//! Stories of Jobs that cannot be created, and of pods that are refused or do not start.

use super::*;
use crate::api::BlockedReason;
use crate::core::decide::observed::Capacity;
use crate::core::decide::obstructed;
use crate::core::decide::start_failure::EventFacts;

const NO_ACCOUNT: &str =
    r#"Error creating: pods of the runner is forbidden: serviceaccount "coder-upgrade-runner" not found"#;

/// A world whose running step has a Job that was let start, and no pod.
fn without_pod(mut world: World) -> World {
    world.pods_start = false;
    world.settle();
    world.running_job().unwrap().pod = None;
    world
}

/// What the cluster says of the Job.
fn say(world: &mut World, reason: &str, message: &str) {
    let job = world.running_job().unwrap();
    let uid = job.pod.as_ref().map_or(job.uid.clone(), |pod| pod.uid.clone());
    world.observed.words = Some(EventFacts { uid, warning: true, reason: reason.into(), message: message.into() });
}

fn foreign(world: &World) -> Obstruction {
    let name = &world.status().steps[0].job_name;
    Obstruction {
        reason: BlockedReason::ForeignJob,
        object: format!("Job/{name}"),
        field: Some("metadata.ownerReferences"),
        message: "Job/x was not created by the controller".into(),
        next_step: "Delete it.".into(),
    }
}

#[test]
fn a_job_that_was_not_recorded_says_nothing() {
    let mut world = World::new("2.31.7");
    world.settle();
    let created = world.created.len();
    let job = world.running_job().unwrap();
    job.uid = "forged".into();
    job.report.outcome = Some(planned(PlannedAction::Upgrade, "2.31.7"));
    let decision = decide(&world.observed);
    assert!(matches!(decision.action, Some(Action::CreateJob(request)) if request.recorded == "job-0"));
    assert_eq!((decision.status.phase, created), (Phase::Planning, 1));
}

#[test]
fn a_job_that_is_being_deleted_and_works_no_more_says_nothing() {
    let mut world = World::new("2.31.7");
    world.settle();
    let job = world.running_job().unwrap();
    (job.leaving, job.report.outcome) = (true, Some(planned(PlannedAction::Upgrade, "2.31.7")));
    assert!(matches!(decide(&world.observed).action, Some(Action::CreateJob(_))));
}

#[test]
fn a_foreign_job_is_told_once_blocks_and_is_forgotten_when_it_is_gone() {
    let mut world = World::new("2.31.7");
    world.pass();
    let told = obstructed(&world.observed, foreign(&world));
    assert_eq!(told.events.len(), 1);
    world.observed.upgrade.status = Some(told.status);
    assert!(obstructed(&world.observed, foreign(&world)).events.is_empty());
    assert!(matches!(decide(&world.observed).action, Some(Action::CreateJob(_))), "it is tried again");
    assert_eq!(world.condition(ConditionType::Stalled), pair("True", "ForeignJob"));
    assert_eq!(world.condition(ConditionType::Reconciling), pair("False", "Idle"));
    world.settle();
    assert_eq!((world.status().blocked, world.ready()), (None, pair("False", "Planning")));
    assert_eq!(world.status().message, "Planning the upgrade to 2.31.7.");
}

#[test]
fn a_job_runs_only_after_its_uid_was_recorded() {
    let mut world = World::new("2.31.7");
    while world.created.is_empty() {
        assert!(world.pass());
    }
    assert!(world.running_job().unwrap().suspended);
    assert_eq!(world.status().steps[0].job_uid, "job-0");
    assert!(matches!(decide(&world.observed).action, Some(Action::StartJob { .. })));
}

#[test]
fn a_pod_that_is_refused_is_told_with_what_cures_it_and_asked_for_again() {
    let mut world = without_pod(World::new("2.31.7"));
    assert_eq!(decide(&world.observed).wake, Some(Duration::from_secs(3)));
    world.wait(3);
    say(&mut world, "FailedCreate", NO_ACCOUNT);
    world.settle();
    let blocked = world.status().blocked.unwrap();
    assert_eq!(
        (blocked.reason, blocked.object.as_str()),
        (BlockedReason::PodRefused, "ServiceAccount/coder-upgrade-runner")
    );
    assert!(
        world.status().message.contains(NO_ACCOUNT) && blocked.next_step.contains("coder-upgrade-operator rights -n ")
    );
    assert_eq!(world.condition(ConditionType::Stalled), pair("True", "PodRefused"));
    let asked = |world: &World| decide(&world.observed).action;
    assert!(world.running_job().unwrap().suspended, "it tries no more");
    assert_eq!((asked(&world), decide(&world.observed).place), (None, PlaceUse::None));
    let told = world.events.len();
    world.observed.now += jiff::SignedDuration::from_secs(2);
    assert!(matches!(asked(&world), Some(Action::StartJob { .. })), "five seconds after it was let start");
    world.observed.place = Capacity::Taken { limit: 1 };
    assert_eq!((asked(&world), decide(&world.observed).place), (None, PlaceUse::Waits));
    assert!(decide(&world.observed).wake >= Some(Duration::from_secs(5)), "it is woken when there is a place");
    world.observed.place = Capacity::Free;
    world.pods_start = true;
    world.settle();
    assert_eq!((world.status().blocked, world.events.len()), (None, told));
    assert_eq!(world.status().message, "Planning the upgrade to 2.31.7.");
}

#[test]
fn no_pod_and_no_word_is_told_as_well() {
    let mut world = without_pod(World::new("2.31.7"));
    world.wait(8);
    assert_eq!(world.status().blocked, None);
    world.pods_start = false;
    world.observed.now += jiff::SignedDuration::from_secs(1);
    world.pass();
    assert!(world.status().message.contains("no event tells why"), "{}", world.status().message);
}

/// The controller died between the creation of a Job and its start, and another one came two minutes later.
#[test]
fn a_job_that_is_let_start_late_is_given_its_time() {
    let mut world = World::new("2.31.7");
    while world.created.is_empty() {
        world.pass();
    }
    world.observed.now += jiff::SignedDuration::from_mins(2);
    let mut world = without_pod(world);
    assert_eq!(world.status().blocked, None);
    world.wait(3);
    say(&mut world, "FailedCreate", NO_ACCOUNT);
    world.settle();
    world.observed.now += jiff::SignedDuration::from_secs(2);
    let again = decide(&world.observed).action;
    assert!(matches!(again, Some(Action::StartJob { .. })), "five seconds after it was let start");
}

#[test]
fn corrected_settings_take_another_job_as_long_as_none_has_run() {
    for mut world in [World::new("2.31.7"), upgrading()] {
        world.pods_start = false;
        world.settle();
        if let Some(job) = world.running_job() {
            job.pod = None;
        }
        let (created, step) = (world.created.len(), world.status().steps.last().unwrap().clone());
        world.observed.settings = "corrected".into();
        world.settle();
        assert_eq!(world.created.len(), created + 1);
        let now = world.status().steps.last().unwrap().clone();
        assert_eq!((now.name, now.try_number), (step.name, step.try_number + 1));
        assert!(world.observed.jobs.iter().all(|job| job.name != step.job_name), "the old Job is gone");
    }
}

#[test]
fn a_runner_at_work_is_left_alone_whatever_is_set_meanwhile() {
    let mut world = upgrading();
    world.observed.settings = "corrected".into();
    world.settle();
    assert_eq!(world.created.len(), 2);
}

#[test]
fn a_pod_that_does_not_start_is_told_and_a_person_is_called_after_a_while() {
    let mut world = World::new("2.31.7");
    world.pods_start = false;
    world.settle().wait(3);
    say(&mut world, "FailedMount", r#"MountVolume.SetUp failed for volume "plan" : secret "coder-plan" not found"#);
    world.settle();
    assert_eq!(world.status().blocked.unwrap().object, "Secret/coder-plan");
    assert_eq!(world.condition(ConditionType::Stalled), pair("False", "Idle"));
    assert_eq!(world.condition(ConditionType::Reconciling), pair("True", "PodNotStarted"));
    world.wait(120);
    assert_eq!(world.condition(ConditionType::Stalled), pair("True", "PodNotStarted"));
    world.report(planned(PlannedAction::Upgrade, "2.31.7"));
    assert_eq!((world.status().blocked, world.status().phase), (None, Phase::Upgrading));
}

#[test]
fn one_that_cannot_be_scheduled_is_told() {
    let mut world = World::new("2.31.7");
    world.pods_start = false;
    world.settle().running_job().unwrap().pod.as_mut().unwrap().trouble = Some("cannot be scheduled (no node)".into());
    world.settle();
    assert!(world.status().message.contains("cannot be scheduled (no node)"));
    assert_eq!(world.status().blocked.unwrap().field.as_deref(), Some("spec.job.nodeSelector"));
}

#[test]
fn a_job_that_somebody_suspends_is_told_and_not_fought_over() {
    let mut world = without_pod(World::new("2.31.7"));
    world.running_job().unwrap().suspended = true;
    world.settle();
    assert_eq!(world.status().blocked.unwrap().reason, BlockedReason::JobSuspended);
    assert!(!matches!(decide(&world.observed).action, Some(Action::StartJob { .. })));
}

#[test]
fn a_deleted_object_goes_if_its_pod_never_ran() {
    let mut world = World::new("2.31.7");
    world.settle().report(planned(PlannedAction::Upgrade, "2.31.7"));
    let mut world = {
        world.pods_start = false;
        world
    };
    let job = world.running_job().unwrap();
    job.pod = None;
    assert!(world.observed.held());
    world.observed.upgrade.metadata.deletion_timestamp = Some(world.observed.time());
    world.settle();
    assert!(!world.observed.held() && world.running_job().is_none());
}

#[test]
fn a_pod_that_starts_after_all_is_waited_for_before_a_deleted_object_goes() {
    let mut world = without_pod(upgrading());
    world.observed.upgrade.metadata.deletion_timestamp = Some(world.observed.time());
    assert!(world.pass());
    assert_eq!(world.status().steps[1].state, StepState::Superseded);
    let name = world.status().steps[1].job_name.clone();
    let job = world.observed.jobs.iter_mut().find(|job| job.name == name).unwrap();
    job.report.progress = "running helm".into();
    world.settle();
    assert!(world.observed.held() && world.status().running_step().is_some());
    world.report(upgraded("2.31.7"));
    assert!(!world.observed.held());
}

/// A `ServiceAccount` without any right: the runner cannot say so in its Job.
#[test]
fn a_runner_that_may_not_report_is_heard_by_its_last_words() {
    let refusal = r#"ERROR the outcome could not be written to Job/x: ApiError: jobs.batch "x" is forbidden: User "system:serviceaccount:ns:coder-upgrade-runner" cannot patch resource "jobs" in API group "batch" in the namespace "ns": Forbidden"#;
    for (words, class) in [(refusal, FailureClass::Forbidden), ("ERROR no such file", FailureClass::Interrupted)] {
        let mut world = World::new("2.31.7");
        world.settle();
        let job = world.running_job().unwrap();
        job.state = JobState::Ended("BackoffLimitExceeded".into());
        job.pod.as_mut().unwrap().last_words = Some(words.into());
        let failure = decide(&world.observed).status.failure.unwrap();
        assert_eq!(failure.class, class, "{failure:?}");
        let told = "cannot report in its Job: the runner lacks the right to patch jobs.batch in namespace ns; run: coder-upgrade-operator rights coder -n ";
        assert_eq!(failure.message.starts_with(told), class == FailureClass::Forbidden, "{failure:?}");
    }
}

#[test]
fn a_job_that_never_had_a_pod_leaves_nothing_half_made() {
    let mut world = without_pod(upgrading());
    world.running_job().unwrap().started_at = Some(world.observed.now);
    world.wait(3);
    say(&mut world, "FailedCreate", NO_ACCOUNT);
    world.settle();
    world.observed.jobs.clear();
    let mut deleted = world.clone();
    let mut unwatched = world.clone();
    world.settle();
    assert_eq!((world.created.len(), world.status().change_started), (3, false));
    deleted.delete();
    assert!(!deleted.observed.held());
    unwatched.observed.watching_since = unwatched.observed.now;
    unwatched.delete();
    assert!(unwatched.observed.held(), "another controller saw it without a pod, and nobody what came then");
}
