//! From facts to one decision.
//!
//! A pass goes: observe → [`decide`] → at most one write. A decision holds the status that the facts lead to and at most
//! one action. **The status is written first**; the action is performed by the next pass, when the stored status says so
//! already. So the intent is always recorded before the action, and a crash between the two loses nothing.
//!
//! ```text
//! (no attempt) ── begin ──> Plan Running ─┬─ Planned ──> nothing to do ──────────────────────────> Succeeded
//!       ^                                 │          └─> [gates] ─┬──────> Upgrade Running ─┬─ Upgraded ──> Succeeded
//!       │ spec changed, request renewed,  │                  ^    v                         │      │
//!       │ the retry is due, or a hop of   │                  └─ Backup Running              │      v
//!       │ the path is done <──────────────│─────────────────────────────────────────────────│── hops left
//!       └─────────────────────────────────┴── Failed, retryable <───────────────────────────┤
//!                                         └── Failed, final ──> Failed (Stalled) <──────────┤
//!                                                                                           │
//!        a remedy beyond the step: [AwaitingApproval] ──> Upgrade | Uninstall <─────────────┤
//!        half applied, and the new version never started: Restore ──> Failed <──────────────┘
//!
//! Uninstall ──> Drain (no Job: slow-to-delete objects are watched) ──> Install ─┬──> Succeeded
//!                                                                └───────┴──> Restore
//! ```
//!
//! All transitions of one pass, as the tests see them (`tests/diagram.rs`): between the steps that run, `Waiting` for a gate, an
//! approval or a place, `Pending` until a retry or the next plan, and the two ends.
//!
//! ```text
//! Pending   --> Plan | Backup | Upgrade | Uninstall | Install | Restore | Waiting
//! Plan      --> Backup | Upgrade | Succeeded | Failed | Waiting | Pending
//! Backup    --> Upgrade | Plan | Failed | Waiting | Pending
//! Upgrade   --> Uninstall | Restore | Plan | Succeeded | Failed | Waiting | Pending
//! Uninstall --> Drain | Plan | Pending
//! Drain     --> Install
//! Install   --> Restore | Plan | Succeeded | Waiting | Pending
//! Restore   --> Install | Plan | Failed | Waiting | Pending
//! Waiting   --> Plan | Backup | Upgrade | Uninstall | Pending
//! Succeeded --> Plan | Waiting | Pending
//! Failed    --> Plan | Waiting | Pending
//! ```
//!
//! From the uninstall on, and from the moment an object was removed to be replaced, the attempt is *incomplete*: neither a
//! changed spec, nor a deletion of the object, nor any number of failures ends it before Coder is back. It ceases to be so
//! when Coder was verified, and by nothing else.
//!
//! From the moment at which helm's records may have been changed, the attempt has *begun*: no gate holds it back any more,
//! and an object that is deleted meanwhile is held until the change succeeded, was taken back, or was given up.

mod approval;
mod attempt;
pub(crate) mod backoff;
mod blocked;
pub(crate) mod conditions;
mod draft;
mod drain;
mod drift;
mod failure;
mod gates;
mod history;
pub mod job;
pub(crate) mod job_report;
mod jobs;
pub(crate) mod observed;
mod outcome;
mod recover;
pub(crate) mod runner_job;
pub(crate) mod runner_proxy;
pub(crate) mod start_failure;
mod step;

use super::text::redact;
use crate::api::{CoderUpgradeStatus, Phase, StepState};
use job::JobState;
use observed::Observed;

use draft::{Draft, concluded, job_of_last_step};

pub(crate) use blocked::{Obstruction, is_silent};
pub(crate) use draft::{Action, Decision, Event, PlaceUse};
pub(crate) use jobs::record_job;

/// Longest line of a status, in bytes. The message of a failure, which is read whole, is bounded by the report.
const LINE: usize = 2048;

/// Decides what is to be done. Pure: the same facts lead to the same decision.
#[must_use]
pub fn decide(observed: &Observed) -> Decision {
    let mut draft = Draft { observed, status: observed.status(), events: Vec::new(), wake: None };
    if observed.deleting() && !unfinished(&draft.status) {
        job_report::running_step(&mut draft);
        jobs::forgo(&mut draft);
    } else {
        attempt::advance(&mut draft);
        conditions::summarize(observed, &mut draft.status);
    }
    fit(&mut draft.status);
    let action = action(&mut draft);
    let place = blocked::place(&draft, action.as_ref());
    Decision { status: draft.status, events: draft.events, action, wake: draft.wake, place }
}

/// Cuts the texts that were put together from others, so that the status can always be stored: a report is bounded, and
/// so is each list that outlives it.
fn fit(status: &mut CoderUpgradeStatus) {
    let steps = status.steps.iter_mut().map(|step| &mut step.message);
    let history = status.history.iter_mut().map(|entry| &mut entry.message);
    let approval = status.approval.iter_mut().flat_map(|approval| [&mut approval.action, &mut approval.interruption]);
    for text in steps.chain(history).chain(approval).chain([&mut status.message]) {
        if text.len() > LINE {
            *text = redact::head(text, LINE);
        }
    }
}

/// What is to be said when the Job of the step cannot be created. It is tried again; whoever looks at the object meanwhile must
/// see what it waits for.
#[must_use]
pub fn obstructed(observed: &Observed, found: Obstruction) -> Decision {
    let mut draft = Draft { observed, status: observed.status(), events: Vec::new(), wake: None };
    if draft.status.steps.last().is_some_and(|step| step.state == StepState::Running) {
        blocked::set(&mut draft, found);
        conditions::summarize(observed, &mut draft.status);
    }
    Decision { status: draft.status, events: draft.events, action: None, wake: None, place: PlaceUse::None }
}

/// The action that the status asks for and that is not done yet.
fn action(draft: &mut Draft) -> Option<Action> {
    let observed = draft.observed;
    let begun = draft.status.steps.last().is_some_and(|step| step.name.changes());
    let waits = matches!(
        draft.status.phase,
        Phase::AwaitingApproval
            | Phase::AwaitingDependency
            | Phase::AwaitingPlace
            | Phase::AwaitingWindow
            | Phase::Suspended
    );
    let unfinished = unfinished(&draft.status);
    let hold = unfinished || draft.status.recovery_required || (begun && !waits && !concluded(&draft.status));
    if observed.deleting() && !unfinished {
        let at_work = draft.changing() && job_of_last_step(draft).is_some_and(|job| job.state == JobState::Active);
        let goes = observed.held() && !at_work;
        return jobs::superseded_job(draft).or(goes.then_some(Action::RemoveFinalizer));
    }
    // Kubernetes takes no new finalizer once an object is deleted.
    if hold != observed.held() && !(hold && observed.deleting()) {
        return Some(if hold { Action::AddFinalizer } else { Action::RemoveFinalizer });
    }
    jobs::superseded_job(draft)
        .or_else(|| jobs::missing_job(draft))
        .or_else(|| jobs::waiting_job(draft))
        .or_else(|| jobs::outdated_job(draft))
        .or_else(|| jobs::outlived_job(draft))
}

/// Whether a change is half made: it is finished or taken back before the object goes.
fn unfinished(status: &CoderUpgradeStatus) -> bool {
    (status.recovery_required || status.change_started) && !concluded(status)
}

#[cfg(test)]
mod tests;
