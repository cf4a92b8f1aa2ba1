//! How a step ended, and what follows from it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Draft, Event};
use crate::{
    api::{CoderUpgradeStatus, Failure, FailureClass, HistoryEntry, Phase, PlannedAction, Reason, StepState},
    core::{
        report::{Planned, Problem, Upgraded},
        retry, summary,
    },
};

/// The plan is made.
pub(super) fn planned(draft: &mut Draft, planned: Planned) {
    let plan = planned.plan;
    let message = match plan.action {
        PlannedAction::Nothing => format!("Coder {} runs already, with these values: nothing to do.", plan.to),
        PlannedAction::Install => format!("Plan {}: install {}.", plan.id, plan.to),
        PlannedAction::Upgrade => {
            format!("Plan {}: upgrade from {} to {}.", plan.id, plan.from.as_deref().unwrap_or("nothing"), plan.to)
        }
    };
    end_step(draft, StepState::Succeeded, &message);
    let nothing = plan.action == PlannedAction::Nothing;
    let status = &mut draft.status;
    status.current = planned.current;
    status.target = Some(planned.target);
    status.plan = Some(plan);
    status.failure = None;
    status.persistent_volume_claims = planned.claims;
    status.addresses = planned.exposures;
    status.message.clone_from(&message);
    if nothing {
        status.retries = 0;
        status.phase = Phase::Succeeded;
        draft.event(Reason::UpToDate.into(), "Plan", message);
    } else {
        draft.event(Reason::PlanMade.into(), "Plan", message);
    }
}

/// The release is at the target and was verified.
pub(super) fn upgraded(draft: &mut Draft, upgraded: Upgraded) {
    end_step(draft, StepState::Succeeded, &upgraded.verified);
    let message = format!("Coder {} runs and was verified: {}.", upgraded.current.version, upgraded.verified);
    let status = &mut draft.status;
    status.current = Some(upgraded.current);
    status.persistent_volume_claims = upgraded.claims;
    status.addresses = upgraded.exposures;
    status.retries = 0;
    status.failure = None;
    conclude(draft, Phase::Succeeded, message.clone());
    draft.event(Reason::Verified.into(), "Verify", message);
}

/// The step failed: it is tried again later, or a person is needed.
pub(super) fn failed(draft: &mut Draft, problem: Problem) {
    let Some(step) = draft.status.steps.last().map(|step| step.name) else { return };
    end_step(draft, StepState::Failed, &problem.message);
    if problem.current.is_some() {
        draft.status.current.clone_from(&problem.current);
    }
    let exhausted = problem.changed && draft.status.retries >= draft.observed.upgrade.spec.retry.limit;
    let retryable = problem.class.retryable() && !exhausted;
    let failure = Failure {
        step,
        class: problem.class,
        object: problem.object,
        field: problem.field,
        message: problem.message,
        next_step: problem.class.next_step().into(),
        remedy: problem.remedy,
        retryable,
        retry_at: None,
        excerpt: problem.excerpt,
    };
    settle(draft, failure);
}

/// The Job ended without a word: the pod was killed, or its node is gone. The same step is done again, since every step
/// first looks at what is there and does only what remains.
pub(super) fn lost(draft: &mut Draft, how: &str) {
    let Some(step) = draft.status.steps.last().map(|step| step.name) else { return };
    let again = draft.status.retries < draft.observed.upgrade.spec.retry.limit;
    let class = if again { FailureClass::Interrupted } else { FailureClass::RetriesExhausted };
    let message = format!("The {} Job ended without an outcome ({how}).", step.to_string().to_lowercase());
    end_step(draft, StepState::Interrupted, &message);
    let failure = Failure {
        step,
        class,
        object: None,
        field: None,
        message,
        next_step: class.next_step().into(),
        remedy: None,
        retryable: again,
        retry_at: None,
        excerpt: None,
    };
    settle(draft, failure);
}

/// Whether the plan cannot be carried out any more, so that the next try must plan again.
pub(super) fn plan_is_void(status: &CoderUpgradeStatus) -> bool {
    status.failure.as_ref().is_some_and(|failure| failure.class == FailureClass::PlanOutdated)
}

fn settle(draft: &mut Draft, mut failure: Failure) {
    let message = format!("{}: {}", failure.class, first_line(&failure.message));
    draft.events.push(Event {
        warning: true,
        reason: failure.class.into(),
        action: failure.step.into(),
        message: summary::with_next_step(&message, &failure.next_step),
    });
    if failure.retryable {
        draft.status.retries = draft.status.retries.saturating_add(1);
        let at = draft.observed.now + delay(draft, failure.class);
        failure.retry_at = Some(Time(at));
        draft.wake_at(at);
        draft.status.phase = Phase::Pending;
        draft.status.message = message;
        draft.status.failure = Some(failure);
    } else {
        draft.status.failure = Some(failure);
        conclude(draft, Phase::Failed, message);
    }
}

/// What nobody is to blame for is done again at once; the rest waits longer each time.
fn delay(draft: &Draft, class: FailureClass) -> std::time::Duration {
    match class {
        FailureClass::Interrupted | FailureClass::PlanOutdated if draft.status.retries <= 1 => {
            std::time::Duration::ZERO
        }
        _ => retry::delay(draft.observed.retry_delay, draft.status.retries),
    }
}

fn end_step(draft: &mut Draft, state: StepState, message: &str) {
    let now = draft.observed.time();
    if let Some(step) = draft.status.steps.last_mut() {
        step.state = state;
        step.finished = Some(now);
        first_line(message).clone_into(&mut step.message);
    }
}

/// Ends the attempt and puts it into the history.
fn conclude(draft: &mut Draft, phase: Phase, message: String) {
    let now = draft.observed.time();
    let limit = usize::try_from(draft.observed.upgrade.spec.history_limit).unwrap_or(1);
    let status = &mut draft.status;
    status.phase = phase;
    let plan = status.plan.as_ref();
    let entry = HistoryEntry {
        attempt: status.attempt,
        from: plan.map_or_else(|| status.current.as_ref().map(|c| c.version.clone()), |plan| plan.from.clone()),
        to: status.target.as_ref().map(|target| target.version.clone()),
        plan: plan.map(|plan| plan.id.clone()),
        revision: status.current.as_ref().map(|current| current.revision),
        outcome: phase,
        started: status.steps.first().map_or_else(|| now.clone(), |step| step.started.clone()),
        finished: now,
        message: message.clone(),
    };
    status.history.insert(0, entry);
    status.history.truncate(limit);
    status.message = message;
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
