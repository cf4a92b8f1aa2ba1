//! Changes from outside: what follows when a workload is not what was verified any more.

use super::Draft;
use crate::{
    api::{CoderUpgradeStatus, Reason, WorkloadMark},
    core::drift::{Drift, is_watched},
};

/// Whether a change from outside gives reason for a new attempt, which begins with a plan. Puts it on record.
///
/// From now on the marks are what was found. So what a plan cannot or must not undo (somebody has installed a newer version by
/// hand, and going back is refused) is tried once, and again only when something changes further. An attempt that ends well
/// marks anew what it has verified.
pub(super) fn noticed(draft: &mut Draft) -> bool {
    if draft.observed.drift.is_empty() || !is_watched(&draft.status) {
        return false;
    }
    for Drift { line, now } in &draft.observed.drift {
        let status = &mut draft.status;
        let same = |mark: &&mut WorkloadMark| mark.kind == now.kind && mark.name == now.name;
        if let Some(mark) = status.workloads.iter_mut().find(same) {
            mark.clone_from(now);
        }
        let object = format!("{}/{} ", now.kind, now.name);
        status.changed_outside.retain(|earlier| !earlier.starts_with(&object));
        status.changed_outside.push(line.clone());
    }
    let message = format!("Changed from outside: {}.", draft.status.changed_outside.join("; "));
    draft.warn(Reason::ChangedOutside.into(), "Watch", message);
    true
}

/// Whether a change from outside is on record whose plan was held back.
pub(super) fn waits(status: &CoderUpgradeStatus) -> bool {
    status.request.is_empty() && !status.changed_outside.is_empty()
}

/// Takes over what was verified: from now on this is what counts as unchanged.
pub(super) fn verified(status: &mut CoderUpgradeStatus, workloads: Vec<WorkloadMark>) {
    status.workloads = workloads;
    status.changed_outside.clear();
}
