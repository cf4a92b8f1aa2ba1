//! The end of an attempt, and its entry in the history.

use super::draft::Draft;
use crate::api::{CheckName, CoderUpgradeStatus, HistoryEntry, Phase, Severity};

/// Ends the attempt and puts it into the history.
pub(super) fn conclude(draft: &mut Draft, phase: Phase, message: String) {
    record(draft, phase, &message);
    draft.status.phase = phase;
    draft.status.change_started = false;
    draft.status.message = message;
}

/// Puts what was done into the history.
pub(super) fn record(draft: &mut Draft, outcome: Phase, message: &str) {
    let now = draft.observed.time();
    let limit = usize::try_from(draft.observed.upgrade.spec.history_limit).unwrap_or(1);
    let status = &mut draft.status;
    let plan = status.plan.as_ref();
    let wanted = || status.target.as_ref().map(|target| target.version.clone());
    let entry = HistoryEntry {
        attempt: status.attempt,
        from: plan.map_or_else(|| status.current.as_ref().map(|c| c.version.clone()), |plan| plan.from.clone()),
        to: plan.map_or_else(wanted, |plan| Some(plan.to.clone())),
        plan: plan.map(|plan| plan.id.clone()),
        revision: status.current.as_ref().map(|current| current.revision),
        overridden: overridden(status),
        outcome,
        started: status.steps.first().map_or_else(|| now.clone(), |step| step.started.clone()),
        finished: now,
        message: message.to_owned(),
    };
    status.history.insert(0, entry);
    status.history.truncate(limit);
}

/// The checks whose refusal was overridden for this attempt.
fn overridden(status: &CoderUpgradeStatus) -> Vec<CheckName> {
    let overridden = status.checks.iter().filter(|finding| finding.severity == Severity::Overridden);
    let mut checks: Vec<CheckName> = overridden.map(|finding| finding.check).collect();
    checks.dedup();
    checks
}
