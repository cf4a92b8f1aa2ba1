//! Changes from outside: what follows when a workload is not what was verified any more.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Draft;
use crate::api::{CoderUpgradeStatus, DriftRepeat, Phase, Reason, WorkloadMark};
use crate::core::decide::backoff;
use crate::core::rollout::drift::{Drift, is_watched};

/// After a day without a change from outside the delays start again.
const CALM: SignedDuration = SignedDuration::from_hours(24);
/// Longest delay before a plan is made for a change that has come back.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// Whether a change from outside gives reason for a new attempt, which begins with a plan. Records it.
///
/// From now on the marks are what was found. So what a plan cannot or must not undo (somebody has installed a newer version by
/// hand, and going back is refused) is tried once, and again only when something changes further. An attempt that succeeds
/// records again what it has verified.
///
/// A change that has come back is answered after a delay, which grows each time: a program that sets a field again and again
/// would otherwise have Coder started again and again.
pub(super) fn noticed(draft: &mut Draft) -> bool {
    if draft.observed.drift.is_empty() || !is_watched(&draft.status) {
        return false;
    }
    let mut often: Option<DriftRepeat> = None;
    for drift in &draft.observed.drift {
        let Drift { line, now, .. } = drift;
        let status = &mut draft.status;
        let same = |mark: &&mut WorkloadMark| mark.kind == now.kind && mark.name == now.name;
        if let Some(mark) = status.workloads.iter_mut().find(same) {
            mark.clone_from(now);
        }
        let object = format!("{}/{} ", now.kind, now.name);
        status.drift.retain(|earlier| !earlier.starts_with(&object));
        status.drift.push(line.clone());
        let counted = count(status, drift, &draft.observed.time());
        if often.as_ref().is_none_or(|often| often.times < counted.times) {
            often = Some(counted);
        }
    }
    let mut message = format!("Drift detected: {}.", draft.status.drift.join("; "));
    draft.status.retries = 0;
    draft.status.failure = None;
    if let Some(often) = often.filter(|often| often.times > 1) {
        let delay = backoff::doubled(draft.observed.retry_delay, often.times - 1).min(LONGEST);
        let at = Time((draft.observed.now + delay).round(jiff::Unit::Second).unwrap_or(draft.observed.now));
        let by = often.manager.map(|manager| format!(" (last by {manager})")).unwrap_or_default();
        message = format!(
            "{message} {} was changed {} times{by} since {}, so a plan is made at {} only. Find out which program does it, or set \
             spec.suspend.",
            often.object, often.times, often.first.0, at.0
        );
        draft.status.phase = Phase::Pending;
        draft.status.message.clone_from(&message);
        draft.status.drift_answer_at = Some(at);
    }
    draft.warn(Reason::Drifted.into(), "Watch", message);
    true
}

/// Counts a change, and returns how often there was one.
fn count(status: &mut CoderUpgradeStatus, drift: &Drift, now: &Time) -> DriftRepeat {
    forget_calm(status, now);
    let object = format!("{}/{}", drift.now.kind, drift.now.name);
    let known = status.drift_repeats.iter().position(|repeat| repeat.object == object);
    let known = known.map(|at| status.drift_repeats.remove(at));
    let (times, first) = known.map_or((0, now.clone()), |known| (known.times, known.first));
    let manager = drift.manager.clone();
    let repeat = DriftRepeat { object, times: times.saturating_add(1), first, last: now.clone(), manager };
    status.drift_repeats.push(repeat.clone());
    repeat
}

fn forget_calm(status: &mut CoderUpgradeStatus, now: &Time) {
    status.drift_repeats.retain(|repeat| now.0.duration_since(repeat.last.0) < CALM);
}

/// Whether a plan for a change that has come back still has to wait. Sees to it that somebody looks again then.
pub(super) fn is_held(draft: &mut Draft) -> bool {
    let Some(at) = draft.status.drift_answer_at.clone().filter(|at| at.0 > draft.observed.now) else { return false };
    draft.wake_at(at.0);
    draft.status.next_check_time = Some(at);
    true
}

/// Whether a change from outside is recorded whose plan was held back.
pub(super) fn waits(status: &CoderUpgradeStatus) -> bool {
    status.request.is_empty() && !status.drift.is_empty()
}

/// Takes over what was verified: from now on this is what counts as unchanged.
pub(super) fn verified(status: &mut CoderUpgradeStatus, workloads: Vec<WorkloadMark>, now: &Time) {
    status.workloads = workloads;
    forget_calm(status, now);
    status.drift.clear();
}
