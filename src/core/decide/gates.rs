//! The gates: what keeps a change from beginning, in the order in which they are asked.
//!
//! A gate that is closed says so in phase and message, and when it is looked at again, if that is known. All are asked anew
//! in every pass, so that each takes effect at once, whichever was closed before. None holds back what has begun: from the
//! moment at which helm's records may have been changed (`status.changeStarted`), the change is tried again until it has ended.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Draft, Event, outcome};
use crate::api::{Phase, Reason};
use crate::core::decide::observed::Place;
use crate::core::gates::dependencies::Obstacle;
use crate::core::gates::window::{Opening, Schedule};
use crate::core::helm::values::within_limits;
use crate::core::report::Problem;

/// How long a backup counts that was made for a plan: the plan may wait for its next window, but not much longer.
const BACKUP_COUNTS: SignedDuration = SignedDuration::from_hours(24);

/// What a gate says.
enum Gate {
    /// It may begin.
    Open,
    /// It may not begin yet.
    Closed(Closed),
    /// What the spec says of the gate cannot be read.
    Broken(Box<Problem>),
}

/// Why it may not begin yet.
struct Closed {
    phase: Phase,
    reason: Reason,
    warning: bool,
    message: String,
    /// When it is looked at again, if nothing happens before.
    until: Option<Timestamp>,
}

/// Whether something keeps even a plan from being made.
pub(super) fn keep_from_planning(draft: &mut Draft) -> bool {
    closed(draft, &[claimed, suspended, allowed, values, readable, place])
}

/// Whether something keeps the planned change from beginning.
pub(super) fn keep_from_changing(draft: &mut Draft) -> bool {
    closed(draft, &[claimed, suspended, after, approval, window, place])
}

/// Whether something keeps a remedy from beginning that was approved by itself.
pub(super) fn keep_from_repairing(draft: &mut Draft) -> bool {
    closed(draft, &[claimed, suspended, after, window, place])
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
    closed(draft, &[allowed])
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

/// Asks one gate after the other, and says what the first one says that is not open.
fn closed(draft: &mut Draft, gates: &[fn(&Draft) -> Gate]) -> bool {
    for gate in gates {
        match gate(draft) {
            Gate::Open => {}
            Gate::Closed(closed) => {
                say(draft, closed);
                return true;
            }
            Gate::Broken(problem) => {
                outcome::supersede(draft);
                outcome::refused(draft, *problem);
                return true;
            }
        }
    }
    false
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

/// One release, one `CoderUpgrade`.
fn claimed(draft: &Draft) -> Gate {
    let Some(other) = &draft.observed.claimed_by else { return Gate::Open };
    let release = &draft.observed.upgrade.spec.release;
    Gate::Closed(Closed {
        phase: Phase::Pending,
        reason: Reason::ReleaseClaimed,
        warning: true,
        message: format!("CoderUpgrade {other} is for release {release} already. Delete one of the two."),
        until: None,
    })
}

fn suspended(draft: &Draft) -> Gate {
    if !draft.observed.upgrade.spec.suspend {
        return Gate::Open;
    }
    Gate::Closed(Closed {
        phase: Phase::Suspended,
        reason: Reason::Suspended,
        warning: false,
        message: "Nothing new is begun while spec.suspend is true.".into(),
        until: None,
    })
}

fn allowed(draft: &Draft) -> Gate {
    match draft.observed.allowed.judge(&draft.observed.upgrade.spec) {
        Ok(()) => Gate::Open,
        Err(problem) => Gate::Broken(problem),
    }
}

/// Whether the values of the spec could be read.
fn values(draft: &Draft) -> Gate {
    match within_limits(&draft.observed.upgrade.spec) {
        Err(problem) => Gate::Broken(problem),
        Ok(()) => Gate::Open,
    }
}

/// Whether the window can be read: a person shall learn of it before the night in which it should open.
fn readable(draft: &Draft) -> Gate {
    match draft.observed.upgrade.spec.window.as_ref().map(Schedule::read) {
        Some(Err(problem)) => Gate::Broken(problem),
        _ => Gate::Open,
    }
}

fn after(draft: &Draft) -> Gate {
    let Some(obstacle) = draft.observed.obstacle() else { return Gate::Open };
    let (warning, message) = match obstacle {
        Obstacle::Missing(name) => (
            true,
            format!(
                "CoderUpgrade {name} must be ready first (spec.dependsOn), but does not exist in this namespace. Create it, or \
                 take it out of spec.dependsOn."
            ),
        ),
        Obstacle::NotReady(name, phase) => {
            (false, format!("CoderUpgrade {name} must be ready first (spec.dependsOn); it is {phase}."))
        }
        Obstacle::Circle(names) => (
            true,
            format!(
                "spec.dependsOn goes round in a circle, so that none of them ever begins: {}. Take one of them out of the \
                 spec.dependsOn of the one before it.",
                names.join(" after ")
            ),
        ),
    };
    let (phase, reason) = (Phase::AwaitingDependency, Reason::AwaitingDependency);
    Gate::Closed(Closed { phase, reason, warning, message, until: None })
}

/// What was approved is counted before; see [`super::approval::count`].
fn approval(draft: &Draft) -> Gate {
    let Some(waiting) = &draft.status.approval else { return Gate::Open };
    Gate::Closed(Closed {
        phase: Phase::AwaitingApproval,
        reason: Reason::AwaitingApproval,
        warning: false,
        message: super::approval::message(draft, waiting),
        until: None,
    })
}

fn window(draft: &Draft) -> Gate {
    let Some(window) = &draft.observed.upgrade.spec.window else { return Gate::Open };
    let schedule = match Schedule::read(window) {
        Ok(schedule) => schedule,
        Err(problem) => return Gate::Broken(problem),
    };
    match schedule.at(draft.observed.now) {
        Opening::Open => Gate::Open,
        Opening::ClosedUntil(opens) => Gate::Closed(Closed {
            phase: Phase::AwaitingWindow,
            reason: Reason::AwaitingWindow,
            warning: false,
            message: format!("The window is closed (spec.window); it opens on {}.", schedule.shown(opens)),
            until: Some(opens),
        }),
    }
}

/// Jobs cost memory and requests; so only so many are started at a time. What has begun is not asked.
fn place(draft: &Draft) -> Gate {
    let Place::Taken { limit } = draft.observed.place else { return Gate::Open };
    Gate::Closed(Closed {
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
