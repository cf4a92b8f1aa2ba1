//! A decision, and the status while it is made.

use std::{fmt, time::Duration};

use jiff::SignedDuration;

use super::job::{JobFacts, JobRequest};
use super::observed::Observed;
use crate::api::{CoderUpgradeStatus, Phase};

/// What is to be done now.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The status that the facts lead to. If it differs from the stored one, it is written and nothing else is done.
    pub status: CoderUpgradeStatus,
    /// What to tell people once the status is written.
    pub events: Vec<Event>,
    /// The action, once the status is written.
    pub action: Option<Action>,
    /// When to look again, if nothing happens before.
    pub wake: Option<Duration>,
    /// What becomes of the object's place among the Jobs that run.
    pub place: PlaceUse,
}

/// What an object does with a place among the Jobs that run at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlaceUse {
    /// It needs none.
    #[default]
    None,
    /// It waits for one.
    Waits,
    /// Its Job runs, or is about to.
    Has,
}

/// A change in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hold the object until the change is over.
    AddFinalizer,
    /// Let the object go.
    RemoveFinalizer,
    /// Create the Job of a step, record its UID, and let it start.
    CreateJob(JobRequest),
    /// Let a Job start whose UID is recorded, or ask again for a pod that could not be created.
    StartJob {
        /// Name of the Job.
        name: String,
        /// Its UID: a namesake is left alone.
        uid: String,
    },
    /// Keep a Job from trying until it is let start again: no pod can be created for it.
    SuspendJob {
        /// Name of the Job.
        name: String,
        /// Its UID: a namesake is left alone.
        uid: String,
    },
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
            Self::StartJob { name, .. } => write!(f, "let Job {name} start"),
            Self::SuspendJob { name, .. } => write!(f, "suspend Job {name}"),
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
pub(super) struct Draft<'a> {
    pub(super) observed: &'a Observed,
    pub(super) status: CoderUpgradeStatus,
    pub(super) events: Vec<Event>,
    pub(super) wake: Option<Duration>,
}

impl Draft<'_> {
    pub(super) fn event(&mut self, reason: &'static str, action: &'static str, message: impl Into<String>) {
        self.events.push(Event { warning: false, reason, action, message: message.into() });
    }

    /// Whether a Job that may change the release shall run or runs.
    pub(super) fn changing(&self) -> bool {
        self.status.running_step().is_some_and(|step| step.name.changes())
    }

    pub(super) fn warn(&mut self, reason: &'static str, action: &'static str, message: String) {
        self.events.push(Event { warning: true, reason, action, message });
    }

    pub(super) fn wake_at(&mut self, at: jiff::Timestamp) {
        let left = at.duration_since(self.observed.now).max(SignedDuration::ZERO).unsigned_abs();
        self.wake = Some(self.wake.map_or(left, |wake| wake.min(left)));
    }
}

pub(super) fn job_of_last_step<'a>(draft: &Draft<'a>) -> Option<&'a JobFacts> {
    draft.observed.job(draft.status.steps.last()?)
}

/// Whether the attempt has come to an end.
pub(super) fn concluded(status: &CoderUpgradeStatus) -> bool {
    matches!(status.phase, Phase::Succeeded | Phase::Failed)
}
