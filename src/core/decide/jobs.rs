//! The Jobs of the steps: which one is created, started, suspended or deleted next.

use jiff::{SignedDuration, Timestamp};

use super::{Action, Draft, approval, blocked, job_of_last_step, outcome, step};
use crate::api::{Blocked, BlockedReason, CoderUpgradeStatus, StepName, StepState};
use crate::core::decide::job::{JobFacts, JobRequest, JobState};
use crate::core::plan::parts;

/// The Job of a step that is not done any more, or by another one. It goes first, so that its pod does not start after all.
pub(super) fn superseded_job(draft: &Draft) -> Option<Action> {
    let superseded = draft.status.steps.iter().filter(|step| step.state == StepState::Superseded);
    let job = superseded.filter_map(|step| draft.observed.job(step)).find(|job| job.state == JobState::Active)?;
    Some(Action::DeleteJob { name: job.name.clone(), uid: job.uid.clone() })
}

/// The Job of the running step, if it is to be let start, or to be suspended until it is.
pub(super) fn waiting_job(draft: &Draft) -> Option<Action> {
    let job = job_of_last_step(draft).filter(|_| draft.status.running_step().is_some())?;
    let (name, uid) = (job.name.clone(), job.uid.clone());
    if blocked::is_in_vain(draft, job) {
        return Some(Action::SuspendJob { name, uid });
    }
    let created = job.suspended && job.started_at.is_none();
    (created || (blocked::asks_again(draft, job) && blocked::may_ask(draft))).then_some(Action::StartJob { name, uid })
}

/// The Job of the running step, if it is to be created.
pub(super) fn missing_job(draft: &Draft) -> Option<Action> {
    let step = draft.status.running_step().filter(|step| step.name != StepName::Drain)?;
    let refused = draft.status.blocked.is_some();
    if job_of_last_step(draft).is_some() || (refused && !blocked::may_ask(draft)) {
        return None;
    }
    let plan = draft.status.plan.as_ref().filter(|_| step.name != StepName::Plan);
    Some(Action::CreateJob(JobRequest {
        name: step.job_name.clone(),
        step: step.name,
        attempt: draft.status.attempt,
        plan_secrets: plan.map(|plan| parts::names(&plan.secret_name, plan.secret_parts)).unwrap_or_default(),
        plan_id: plan.map(|plan| plan.id.clone()),
        target: draft.status.target.as_ref().map(|target| target.version.clone()),
        recovery: approval::allowed(draft),
        new_version_started: draft.status.new_version_started,
        scaled_down: draft.status.scaled_down.clone(),
        recorded: step.job_uid.clone(),
        recovery_required: draft.status.recovery_required,
        repair_approved: approval::of_repairs(draft),
    }))
}

/// Records the Job that was created for the running step.
pub(crate) fn record_job(status: &mut CoderUpgradeStatus, watching_since: Timestamp, request: &JobRequest, uid: &str) {
    if status.steps.last().is_none_or(|step| step.job_name != request.name) {
        return;
    }
    count_lost_job(status, watching_since);
    if let Some(step) = status.steps.last_mut() {
        uid.clone_into(&mut step.job_uid);
    }
}

/// For a deleted object: a Job of which no pod has started is not needed any more, and goes before the object does, unless one
/// starts after all. One that is gone may have run.
pub(super) fn forgo(draft: &mut Draft) {
    let Some(step) = draft.status.steps.last().filter(|step| step.name.changes()) else { return };
    match (step.state, draft.observed.job(step)) {
        (StepState::Running, Some(job)) if job.state == JobState::Active && !job.has_run() => {
            step::end_step(draft, StepState::Superseded, "The CoderUpgrade was deleted before a pod had started.");
        }
        (StepState::Superseded, Some(job)) if job.has_run() => {
            if let Some(step) = draft.status.steps.last_mut() {
                (step.state, step.finished) = (StepState::Running, None);
            }
        }
        (StepState::Running, None) => count_lost_job(&mut draft.status, draft.observed.watching_since),
        _ => {}
    }
}

/// The Job that is recorded for the running step is gone: nobody has seen how far it came, unless this controller saw until
/// the end that no pod of it had started.
fn count_lost_job(status: &mut CoderUpgradeStatus, watching_since: Timestamp) {
    let unstarted = [BlockedReason::JobSuspended, BlockedReason::PodRefused, BlockedReason::PodNotStarted];
    let seen = |blocked: &Blocked| unstarted.contains(&blocked.reason) && blocked.since.0 > watching_since;
    let never_ran = status.blocked.as_ref().is_some_and(seen);
    let recorded = status.running_step().filter(|step| !step.job_uid.is_empty() && !never_ran);
    if let Some(name) = recorded.map(|step| step.name) {
        outcome::unseen(status, name);
    }
}

/// How long containers that outlive the runner may take to end by themselves: some meshes end theirs for Jobs.
const OUTLIVED: SignedDuration = SignedDuration::from_secs(10);

/// A Job whose step is over, and of which containers that a webhook has added still run. Suspended, it ends them and stays to
/// be looked at.
pub(super) fn outlived_job(draft: &mut Draft) -> Option<Action> {
    let running = draft.status.running_step().map(|step| step.job_uid.clone());
    let over = |job: &&JobFacts| Some(&job.uid) != running.as_ref() && !job.suspended && !job.leaving;
    let observed = draft.observed;
    let (job, outlived) = observed.jobs.iter().filter(over).find_map(|job| Some((job, job.outlived()?)))?;
    let due = outlived.at.map_or(observed.now, |at| at + OUTLIVED);
    if observed.now < due {
        draft.wake_at(due);
        return None;
    }
    Some(Action::SuspendJob { name: job.name.clone(), uid: job.uid.clone() })
}

/// A Job of ours that nobody needs: of an attempt too old to be kept, or still planning for a spec that was changed.
pub(super) fn outdated_job(draft: &Draft) -> Option<Action> {
    let attempt = draft.status.attempt;
    let oldest_kept = attempt.saturating_sub(draft.observed.upgrade.spec.history_limit);
    let outdated = |job: &&JobFacts| {
        let superseded = job.attempt < attempt && job.state == JobState::Active && job.report.outcome.is_none();
        !job.leaving && (job.attempt <= oldest_kept || superseded)
    };
    let job = draft.observed.jobs.iter().find(outdated)?;
    Some(Action::DeleteJob { name: job.name.clone(), uid: job.uid.clone() })
}
