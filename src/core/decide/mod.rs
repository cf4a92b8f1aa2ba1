//! From facts to one decision.
//!
//! A pass goes: observe → [`decide`] → at most one write. A decision holds the status that the facts lead to and at most
//! one action. **The status is written first**; the action is performed by the next pass, when the stored status says so
//! already. So the intent is always on record before the deed, and a crash between the two loses nothing.
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
//! Uninstall ──> Drain (no Job: what goes slowly is watched) ──> Install ─┬──> Succeeded
//!                                                                └───────┴──> Restore
//! ```
//!
//! From the uninstall on, and from the moment an object was removed to be replaced, the attempt is *incomplete*: neither a
//! changed spec, nor a deletion of the object, nor any number of failures ends it before Coder is back.
//!
//! From the moment at which helm's records may have been changed, the attempt has *begun*: no gate holds it back any more.

mod approval;
mod attempt;
mod drain;
mod drift;
mod follow;
mod gates;
mod outcome;
mod recover;

use std::{fmt, time::Duration};

use jiff::SignedDuration;

use super::{
    job::{JobRequest, JobState},
    observed::Observed,
    summary,
};
use crate::api::{CoderUpgradeStatus, Phase, Reason, StepState};

/// What is to be done now.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The status that the facts lead to. If it differs from the stored one, it is written and nothing else is done.
    pub status: CoderUpgradeStatus,
    /// What to tell people once the status is written.
    pub events: Vec<Event>,
    /// The deed, once the status is written.
    pub action: Option<Action>,
    /// When to look again, if nothing happens before.
    pub wake: Option<Duration>,
}

/// A change in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hold the object until the change is over.
    AddFinalizer,
    /// Let the object go.
    RemoveFinalizer,
    /// Start the Job of a step.
    CreateJob(JobRequest),
    /// Remove a Job that nobody needs any more.
    DeleteJob {
        /// Name of the Job.
        name: String,
        /// Its UID: a namesake stays.
        uid: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddFinalizer => write!(f, "add the finalizer: a change begins"),
            Self::RemoveFinalizer => write!(f, "remove the finalizer: no change is under way"),
            Self::CreateJob(request) => write!(f, "create Job {}", request.name),
            Self::DeleteJob { name, .. } => write!(f, "delete Job {name}, which nobody needs any more"),
        }
    }
}

/// A message for the object's event list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether somebody should look.
    pub warning: bool,
    /// CamelCase word.
    pub reason: &'static str,
    /// What was done.
    pub action: &'static str,
    /// Sentence.
    pub message: String,
}

/// The status while a decision is made.
struct Draft<'a> {
    observed: &'a Observed,
    status: CoderUpgradeStatus,
    events: Vec<Event>,
    wake: Option<Duration>,
}

impl Draft<'_> {
    fn event(&mut self, reason: &'static str, action: &'static str, message: impl Into<String>) {
        self.events.push(Event { warning: false, reason, action, message: message.into() });
    }

    /// Whether a Job that may change the release shall run or runs.
    fn changing(&self) -> bool {
        self.status.running_step().is_some_and(|step| step.name.changes())
    }

    fn warn(&mut self, reason: &'static str, action: &'static str, message: String) {
        self.events.push(Event { warning: true, reason, action, message });
    }

    fn wake_at(&mut self, at: jiff::Timestamp) {
        let left = at.duration_since(self.observed.now).max(SignedDuration::ZERO);
        self.wake = Some(left.unsigned_abs());
    }
}

/// Decides what is to be done. Pure: the same facts lead to the same decision.
#[must_use]
pub fn decide(observed: &Observed) -> Decision {
    let mut draft = Draft { observed, status: observed.status(), events: Vec::new(), wake: None };
    if observed.deleting() && !draft.status.incomplete {
        follow::running_step(&mut draft);
    } else {
        attempt::advance(&mut draft);
        summary::summarize(observed, &mut draft.status);
    }
    let action = action(&draft);
    Decision { status: draft.status, events: draft.events, action, wake: draft.wake }
}

/// What is to be said when the API server refuses a deed (a quota, a missing right, an invalid setting of the Job). The
/// deed is tried again; whoever looks at the object meanwhile must see what it waits for.
#[must_use]
pub fn refused(observed: &Observed, why: &str) -> Decision {
    let mut draft = Draft { observed, status: observed.status(), events: Vec::new(), wake: None };
    if draft.status.message != why {
        why.clone_into(&mut draft.status.message);
        if let Some(step) = draft.status.steps.last_mut().filter(|step| step.state == StepState::Running) {
            why.clone_into(&mut step.message);
        }
        let reason = Reason::Refused.into();
        draft.events.push(Event { warning: true, reason, action: "CreateJob", message: why.to_owned() });
        summary::summarize(observed, &mut draft.status);
    }
    Decision { status: draft.status, events: draft.events, action: None, wake: None }
}

/// The deed that the status asks for and that is not done yet.
fn action(draft: &Draft) -> Option<Action> {
    let observed = draft.observed;
    let begun = draft.status.steps.last().is_some_and(|step| step.name.changes());
    let waits = matches!(
        draft.status.phase,
        Phase::AwaitingApproval | Phase::AwaitingDependency | Phase::AwaitingWindow | Phase::Suspended
    );
    let bound = draft.status.incomplete;
    let hold = bound || (begun && !waits && !concluded(&draft.status));
    if observed.deleting() && !bound {
        let working = draft.changing() && job_of_last_step(draft).is_some_and(|state| *state == JobState::Active);
        return (observed.held() && !working).then_some(Action::RemoveFinalizer);
    }
    // Kubernetes takes no new finalizer once an object is deleted.
    if hold != observed.held() && !(hold && observed.deleting()) {
        return Some(if hold { Action::AddFinalizer } else { Action::RemoveFinalizer });
    }
    attempt::missing_job(draft).or_else(|| attempt::outdated_job(draft))
}

fn job_of_last_step<'a>(draft: &Draft<'a>) -> Option<&'a JobState> {
    let step = draft.status.steps.last()?;
    draft.observed.job(&step.job_name).map(|job| &job.state)
}

/// Whether the attempt has come to an end.
fn concluded(status: &CoderUpgradeStatus) -> bool {
    matches!(status.phase, Phase::Succeeded | Phase::Failed)
}

#[cfg(test)]
mod tests;
