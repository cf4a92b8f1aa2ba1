//! What keeps a change from beginning: the gates that `plan` shows as well, and those that only this controller knows.
//!
//! A gate that is closed says so in phase and message, and when it is looked at again, if that is known. All are asked again
//! in every pass, so that each takes effect at once, whichever was closed before. None holds back what has begun: from the
//! moment at which helm's records may have been changed (`status.changeStarted`), the change is tried again until it has ended.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Draft, Event, approval, failure, step};
use crate::api::{Phase, PlanSummary, Reason};
use crate::core::decide::observed::Capacity;
use crate::core::gates::window::Schedule;
use crate::core::gates::{
    self, BEFORE_A_CHANGE, BEFORE_A_PLAN, BEFORE_A_REPAIR, Closed, Gate, GateFacts, GateState, PlannedChange,
};
use crate::core::helm::values::within_limits;

/// How long a backup counts that was made for a plan: the plan may wait for its next window, but not much longer.
const BACKUP_COUNTS: SignedDuration = SignedDuration::from_hours(24);

/// Whether something keeps even a plan from being made.
pub(super) fn planning_blocked(draft: &mut Draft) -> bool {
    shut(draft, &BEFORE_A_PLAN, &[allowed, values, readable, place])
}

/// Whether something keeps the planned change from beginning.
pub(super) fn change_blocked(draft: &mut Draft) -> bool {
    shut(draft, &BEFORE_A_CHANGE, &[place])
}

/// Whether something keeps a remedy from beginning that was approved by itself.
pub(super) fn repair_blocked(draft: &mut Draft) -> bool {
    shut(draft, &BEFORE_A_REPAIR, &[place])
}

/// Refuses what is not allowed, whatever is to be done with it: nobody shall learn of it only when something is to begin.
/// Whether it did. What has begun goes on first, under the default `ServiceAccount` and image if need be; an object that is
/// suspended or waits for another of the same release says so instead.
pub(super) fn refuse_what_is_not_allowed(draft: &mut Draft) -> bool {
    let (status, observed) = (&draft.status, draft.observed);
    let under_way = status.change_started || (status.recovery_required && !super::concluded(status));
    if under_way || observed.upgrade.spec.suspend || observed.claimed_by.is_some() {
        return false;
    }
    shut(draft, &[], &[allowed])
}

/// Says once of an edit in the middle of a change that what it names is not allowed.
pub(super) fn tell_of_an_edit_that_is_not_allowed(draft: &mut Draft) {
    let (status, observed) = (&draft.status, draft.observed);
    let edited = status.observed_generation != observed.generation();
    if !edited || !(status.change_started || status.recovery_required) {
        return;
    }
    if let Err(problem) = observed.allowed.judge(&observed.upgrade.spec) {
        let message = format!("{}. The change that has begun is finished first, without it.", problem.message);
        draft.warn(problem.class.into(), "Wait", message);
    }
}

/// Whether the spec names only what is allowed.
pub(super) fn is_allowed(draft: &Draft) -> bool {
    draft.observed.allowed.judge(&draft.observed.upgrade.spec).is_ok()
}

/// Whether what spec.backup asks for is still to be made for the present plan.
pub(super) fn backup_due(draft: &Draft) -> bool {
    let Some(backup) = &draft.observed.upgrade.spec.backup else { return false };
    let plan = draft.status.plan.as_ref().map(|plan| plan.id.as_str());
    let asked = backup.max_age.map(|age| SignedDuration::try_from(std::time::Duration::from(age)).unwrap_or_default());
    let counts = BACKUP_COUNTS.max(asked.unwrap_or_default());
    !draft.status.backup.as_ref().is_some_and(|record| {
        Some(record.plan.as_str()) == plan && draft.observed.now.duration_since(record.finished.0) <= counts
    })
}

/// Asks one gate after the other, those of this controller last, and says what the first one says that is not open.
fn shut(draft: &mut Draft, gates: &[Gate], ours: &[fn(&Draft) -> GateState]) -> bool {
    let mut answers = gates.iter().map(|gate| ask(draft, *gate)).chain(ours.iter().map(|gate| gate(draft)));
    let Some(answer) = answers.find(|answer| !matches!(answer, GateState::Open)) else { return false };
    match answer {
        GateState::Open => {}
        GateState::Closed(closed) => say(draft, closed),
        GateState::Broken(problem) => {
            step::supersede(draft);
            failure::refused(draft, *problem);
        }
    }
    true
}

fn ask(draft: &Draft, gate: Gate) -> GateState {
    let observed = draft.observed;
    let waiting = draft.status.approval.as_ref().map(|waiting| {
        let plan = approval::plan_id(&draft.status).unwrap_or_default();
        gates::approval::message(plan, &observed.upgrade, waiting)
    });
    gate.ask(&GateFacts {
        upgrade: &observed.upgrade,
        claimed_by: observed.claimed_by.as_deref(),
        siblings: &observed.siblings,
        plan: draft
            .status
            .plan
            .as_ref()
            .map(|PlanSummary { forecast, .. }| PlannedChange { forecast, waiting: waiting.as_deref() }),
        now: observed.now,
    })
}

fn say(draft: &mut Draft, closed: Closed) {
    let Closed { phase, reason, warning, message, until } = closed;
    // Pending has more than one cause. The other messages may tell of progress, which is no news.
    let same = draft.status.phase == phase && (phase != Phase::Pending || draft.status.message == message);
    if !same {
        let message = message.clone();
        draft.events.push(Event { warning, reason: reason.into(), action: "Wait", message });
    }
    draft.status.phase = phase;
    draft.status.message = message;
    if let Some(until) = until {
        draft.status.next_check_time = Some(Time(until));
        draft.wake_at(until);
    }
}

fn allowed(draft: &Draft) -> GateState {
    match draft.observed.allowed.judge(&draft.observed.upgrade.spec) {
        Ok(()) => GateState::Open,
        Err(problem) => GateState::Broken(problem),
    }
}

/// Whether the values of the spec could be read.
fn values(draft: &Draft) -> GateState {
    match within_limits(&draft.observed.upgrade.spec) {
        Err(problem) => GateState::Broken(problem),
        Ok(()) => GateState::Open,
    }
}

/// Whether the window can be read: a person shall learn of it before the night in which it should open.
fn readable(draft: &Draft) -> GateState {
    match draft.observed.upgrade.spec.window.as_ref().map(Schedule::read) {
        Some(Err(problem)) => GateState::Broken(problem),
        _ => GateState::Open,
    }
}

/// Jobs cost memory and requests; so only so many are started at a time. What has begun is not asked.
fn place(draft: &Draft) -> GateState {
    let Capacity::Taken { limit } = draft.observed.place else { return GateState::Open };
    GateState::Closed(Closed {
        phase: Phase::AwaitingPlace,
        reason: Reason::AwaitingPlace,
        warning: false,
        message: format!(
            "Waiting for a free place: {limit} Jobs of other CoderUpgrades run or come first, as many as the controller allows \
             (--max-running-jobs)."
        ),
        until: None,
    })
}
