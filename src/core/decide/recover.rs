//! What follows from a failure: again, a repair, a reinstall, the saved release, or a person.

use super::{
    Draft,
    approval::{self, granted, plan_id},
    failure, history, step,
};
use crate::core::object::KindName;
use crate::{
    api::{
        Approvable, Approval, CoderUpgradeStatus, Failure, FailureClass, Phase, Recovery, Remedy, StepName, annotation,
    },
    core::{
        gates::{approval::how_to_allow, grant::Grant},
        report::Problem,
    },
};

/// How an approval of a reinstall ends.
const REINSTALL: &str = "/reinstall";

/// How it goes on after a failed step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextMove {
    /// The same step once more, after a delay; the new plan if it does not fit any more.
    Again,
    /// A larger remedy than the step could take, as soon as it is allowed.
    Remedy(Remedy),
    /// The saved release is restored.
    Restore,
    /// A person is needed.
    Stop,
}

/// The way on after `step` failed. Once something was removed, only lost data ends the attempt before Coder is back: what
/// was in danger is still there, and a new plan may succeed where the one before did not.
pub(super) fn way(draft: &Draft, step: StepName, problem: &Problem) -> NextMove {
    let (class, incomplete) = (problem.class, draft.status.recovery_required);
    let deleting = draft.observed.deleting();
    match step {
        _ if class == FailureClass::DataMissing => NextMove::Stop,
        _ if class == FailureClass::DataAtRisk && !incomplete => NextMove::Stop,
        // Somebody else has brought the release into a state of their own: there is nothing to take back.
        _ if class == FailureClass::PlanOutdated && deleting && !incomplete && deployed(problem) => NextMove::Stop,
        StepName::Plan if incomplete => NextMove::Again,
        StepName::Plan | StepName::Backup | StepName::Drain => retry(draft, problem, NextMove::Stop),
        StepName::Upgrade => match problem.remedy {
            // Nobody is waited for while an object that was to be replaced may be missing.
            Some(remedy) if remedy.needs() <= approval::allowed(draft) || !(incomplete || deleting) => {
                NextMove::Remedy(remedy)
            }
            _ if restorable(draft, Some(problem)) => retry(draft, problem, NextMove::Restore),
            _ if incomplete && !(problem.whole && draft.status.scaled_down.is_empty()) => NextMove::Again,
            _ => retry(draft, problem, NextMove::Stop),
        },
        StepName::Uninstall if !incomplete => retry(draft, problem, NextMove::Stop),
        // The new version has started meanwhile, and stays. What was restored of the old one by then is overcome; see `onward`.
        StepName::Restore if draft.status.new_version_started && !incomplete && !problem.changed => NextMove::Stop,
        StepName::Restore if deleting && !incomplete && exhausted(draft) => NextMove::Stop,
        StepName::Install if !class.retryable() && restorable(draft, Some(problem)) => NextMove::Restore,
        StepName::Uninstall | StepName::Install | StepName::Restore => NextMove::Again,
    }
}

/// The step that a failed one is followed by when it is tried again. Once the new version may have started, nothing is
/// restored any more: it is installed, or the upgrade to it is made once more.
pub(super) fn onward(status: &CoderUpgradeStatus, failed: StepName) -> StepName {
    match failed {
        StepName::Restore if status.new_version_started && status.recovery_required => StepName::Install,
        StepName::Restore if status.new_version_started => StepName::Upgrade,
        failed => failed,
    }
}

/// Again, if time can cure it and it was not tried too often. Only tries that changed helm's records count, unless somebody
/// waits for the object to go.
fn retry(draft: &Draft, problem: &Problem, otherwise: NextMove) -> NextMove {
    let exhausted = (problem.changed || draft.observed.deleting()) && exhausted(draft);
    if problem.class.retryable() && (!exhausted || draft.status.recovery_required) {
        NextMove::Again
    } else {
        otherwise
    }
}

fn exhausted(draft: &Draft) -> bool {
    draft.status.retries >= draft.observed.upgrade.spec.retry.limit
}

/// Whether the saved release may and must be restored: this try or an earlier one left something behind, helm has not rolled
/// back by itself, and no pod of the new version ever started, which could have migrated the database. Without a problem
/// nobody knows what became of the release.
pub(super) fn restorable(draft: &Draft, problem: Option<&Problem>) -> bool {
    let status = &draft.status;
    let saved = status.plan.as_ref().is_some_and(|plan| plan.from.is_some());
    let begun = status.change_started && approval::allowed(draft) > Recovery::Stop;
    saved && (status.recovery_required || begun) && !problem.is_some_and(deployed) && !status.new_version_started
}

/// Whether the step left the release as a whole: helm has rolled back, or somebody else was at work.
fn deployed(problem: &Problem) -> bool {
    problem.current.as_ref().is_some_and(|current| current.status == "deployed")
}

/// Restores the saved release; what the upgrade failed for stays recorded.
pub(super) fn restore(draft: &mut Draft, failure: Option<Failure>) {
    draft.status.failure = failure;
    draft.status.retries = 0;
    let tries = step::tries(&draft.status, StepName::Restore);
    step::begin_step(draft, StepName::Restore, tries.saturating_add(1));
}

/// Ends what waits for an approval that nobody gives any more, or for a gate.
pub(super) fn withdraw(draft: &mut Draft) {
    draft.status.approval = None;
    let failure = draft.status.failure.take();
    let whole = draft.status.current.as_ref().is_some_and(|current| current.status == "deployed");
    if !whole && restorable(draft, None) {
        restore(draft, failure);
    } else {
        match failure {
            Some(failure) => failure::give_up(draft, failure),
            None => history::conclude(
                draft,
                Phase::Failed,
                "The CoderUpgrade was deleted before the change had ended.".into(),
            ),
        }
    }
}

/// Records what could be done next, and returns what a person can do about it. The gate [`open`] decides whether it
/// may begin.
pub(super) fn offer(draft: &mut Draft, remedy: Remedy, object: Option<&str>) -> String {
    let object = object.unwrap_or("the refused object");
    let plan = plan_id(&draft.status).unwrap_or_default();
    let reinstall = format!("{plan}/{}", Approvable::Reinstall);
    let approval = match remedy.needs() {
        Recovery::Reinstall => Approval {
            value: reinstall,
            action: "Uninstall the release with its records kept, wait until slow-to-delete objects are gone, and install the planned \
                     version with the saved values; PersistentVolumeClaims are kept."
                .into(),
            interruption: "Coder is down from the uninstall until its new pods answer: minutes, and as long as slow objects take."
                .into(),
        },
        _ => Approval {
            value: format!("{plan}/{}", Approvable::Repair),
            action: format!("{}. ({reinstall} would uninstall and install again instead.)", small(remedy, object)),
            interruption: interruption(remedy, object),
        },
    };
    let next_step = if remedy.needs() <= approval::allowed(draft) {
        "No action needed: the operator does what status.steps says, as spec.recovery allows.".into()
    } else {
        format!(
            "{} Interruption: {} {}",
            approval.action,
            approval.interruption,
            how_to_allow(&draft.observed.upgrade, &approval)
        )
    };
    draft.status.approval = Some(approval);
    next_step
}

/// Waits for a person.
pub(super) fn wait(draft: &mut Draft, failure: Failure) {
    draft.status.phase = Phase::AwaitingApproval;
    draft.status.message = failure::line(&failure);
    draft.status.failure = Some(failure);
}

fn small(remedy: Remedy, object: &str) -> String {
    match remedy {
        Remedy::Unlock => "Release the stale lock, then upgrade".into(),
        Remedy::Adopt => {
            format!("Take {object}, and what else belongs to no Helm release, into this one, then upgrade")
        }
        Remedy::RewriteApis => "Replace removed APIs in helm's stored manifest, then upgrade".into(),
        Remedy::Expand => format!("Enlarge {object}"),
        Remedy::Replace | Remedy::Reinstall => format!("Delete {object} alone and let helm recreate it"),
    }
}

fn interruption(remedy: Remedy, object: &str) -> String {
    let kind = KindName::read(object).map(|object| object.kind);
    match (remedy, kind.as_deref().unwrap_or_default()) {
        (Remedy::Replace, "Deployment") => "None: the old pods serve until the new ones are ready.".into(),
        (Remedy::Replace, "StatefulSet") => {
            "Its pods are kept and then started again one by one, as in any rollout.".into()
        }
        (Remedy::Replace, "Service") => {
            "Seconds without the Service; a LoadBalancer Service may get another address.".into()
        }
        (Remedy::Replace, _) => "None, or seconds while the object is missing.".into(),
        _ => "None.".into(),
    }
}

/// What may begin now, of that which waits for a person: because the annotation says so, or the spec allows it by now.
pub(super) fn open(draft: &mut Draft) -> Option<StepName> {
    let waiting = draft.status.approval.as_ref()?;
    let needed = if waiting.value.ends_with(REINSTALL) { Recovery::Reinstall } else { Recovery::Repair };
    let granted = granted(draft).map(Grant::recovery);
    let begun = match granted.filter(|granted| *granted >= needed) {
        Some(granted) => {
            draft.status.approved = Some(granted);
            // It counts, so it needs no word.
            draft
                .observed
                .annotation(annotation::APPROVE)
                .unwrap_or_default()
                .clone_into(&mut draft.status.observed_approval);
            granted
        }
        None if approval::allowed(draft) >= needed => needed,
        None => return None,
    };
    Some(if begun == Recovery::Reinstall { StepName::Uninstall } else { StepName::Upgrade })
}
