//! How a step ended, and what follows from it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Draft, drift, failure, history,
    recover::{self, NextMove},
    step,
};
use crate::api::{
    BackupRecord, CoderUpgradeStatus, Failure, FailureClass, Phase, PlannedAction, Reason, StepName, StepState,
};
use crate::core::decide::{backoff, conditions};
use crate::core::helm::version;
use crate::core::report::{PlanReport, Problem, Uninstalled, Upgraded};

/// The plan is made.
pub(super) fn planned(draft: &mut Draft, planned: PlanReport) {
    let mut plan = planned.plan;
    if draft.status.recovery_required && plan.action == PlannedAction::Nothing {
        // The records say so, but what was removed is back only when Coder was verified after another run of helm.
        plan.action = PlannedAction::Upgrade;
    }
    let message = match plan.action {
        PlannedAction::Nothing => format!("Coder {} runs already, with these values: nothing to do.", plan.to),
        PlannedAction::Install => format!("Plan {}: install {}.", plan.id, plan.to),
        PlannedAction::Upgrade => {
            let from = plan.from.as_deref().unwrap_or("nothing");
            let hops = [&plan.to].into_iter().chain(&plan.forecast.hops).map(String::as_str).collect::<Vec<_>>();
            format!("Plan {}: upgrade from {from} to {}.", plan.id, hops.join(", then to "))
        }
    };
    step::end_step(draft, StepState::Succeeded, &message);
    let nothing = plan.action == PlannedAction::Nothing;
    let now = draft.observed.time();
    let status = &mut draft.status;
    if !plan.forecast.hops.is_empty() && status.path_from.is_none() {
        status.path_from.clone_from(&plan.from);
    }
    status.current = planned.current;
    status.target = Some(planned.target);
    status.plan = Some(plan);
    status.failure = None;
    status.checks = planned.findings;
    status.persistent_volume_claims = planned.claims;
    status.addresses = planned.exposures;
    status.message.clone_from(&message);
    if nothing {
        may_have_started(status); // What runs was verified.
        status.new_version_started = false;
        status.retries = 0;
        status.phase = Phase::Succeeded;
        drift::verified(status, planned.workloads, &now);
        draft.event(Reason::UpToDate.into(), "Plan", message);
    } else {
        draft.event(Reason::PlanReady.into(), "Plan", message);
    }
}

/// The backup is there.
pub(super) fn backed_up(draft: &mut Draft, record: BackupRecord) {
    let what = if record.recent { "A recent backup counts" } else { "Backed up" };
    let message = format!("{what}: {}.", record.objects.join(", "));
    step::end_step(draft, StepState::Succeeded, &message);
    let reason = if record.recent { Reason::BackupRecent } else { Reason::BackupSucceeded };
    draft.status.backup = Some(record);
    draft.event(reason.into(), "Backup", message);
}

/// The release is at the target and was verified.
pub(super) fn upgraded(draft: &mut Draft, upgraded: Upgraded) {
    step::end_step(draft, StepState::Succeeded, &upgraded.verified);
    let message = format!("Coder {} runs and was verified: {}.", upgraded.current.version, upgraded.verified);
    draft.status.highest_started_version = Some(upgraded.current.version.clone());
    found(draft, upgraded);
    draft.status.failure = None;
    if step::hops_left(&draft.status) && !draft.observed.deleting() {
        let target = draft.status.target.as_ref().map_or_else(String::new, |target| target.version.clone());
        let message = format!("{message} The path goes on to {target}.");
        history::record(draft, Phase::Succeeded, &message);
        draft.status.phase = Phase::Pending;
        draft.status.message.clone_from(&message);
        return draft.event(Reason::HopCompleted.into(), "Verify", message);
    }
    draft.status.path_from = None;
    history::conclude(draft, Phase::Succeeded, message.clone());
    draft.event(Reason::Verified.into(), "Verify", message);
}

/// The release is uninstalled: slow-to-delete objects are waited for.
pub(super) fn uninstalled(draft: &mut Draft, uninstalled: Uninstalled) {
    let kept = match uninstalled.kept.as_slice() {
        [] => "nothing of it is kept but records and volumes".to_owned(),
        kept => format!("kept: {}", kept.join(", ")),
    };
    step::end_step(draft, StepState::Succeeded, &format!("Uninstalled; {kept}."));
    draft.status.removed = true;
    draft.status.current = Some(uninstalled.current);
    draft.status.waiting_for = uninstalled.leftovers;
    step::begin_step(draft, StepName::Drain, 1);
}

/// The saved release is back. The attempt has failed all the same.
pub(super) fn restored(draft: &mut Draft, restored: Upgraded) {
    step::end_step(draft, StepState::Succeeded, &restored.verified);
    let version = restored.current.version.clone();
    let why = draft.status.failure.as_ref().map_or_else(String::new, |failure| {
        format!(" The upgrade failed with {}: {}", failure.class, step::first_line(&failure.message))
    });
    let message = format!("Coder {version} was restored and runs: {}.{why}", restored.verified);
    found(draft, restored);
    if let Some(failure) = &mut draft.status.failure {
        failure.retryable = false;
        failure.retry_at = None;
    }
    history::conclude(draft, Phase::Failed, message.clone());
    draft.warn(Reason::Restored.into(), "Restore", message);
}

/// What a verified release tells, whichever it is.
fn found(draft: &mut Draft, upgraded: Upgraded) {
    let now = draft.observed.time();
    let status = &mut draft.status;
    status.current = Some(upgraded.current);
    status.persistent_volume_claims = upgraded.claims;
    status.addresses = upgraded.exposures;
    status.retries = 0;
    status.recovery_required = false;
    status.removed = false;
    status.change_started = false;
    status.new_version_started = false;
    status.address_changes = upgraded.address_changes;
    drift::verified(status, upgraded.workloads, &now);
    if !draft.status.address_changes.is_empty() {
        let message = conditions::address_changes(&draft.status.address_changes);
        draft.warn(Reason::AddressChanged.into(), "Verify", message);
    }
}

/// A pod of the planned version may have started, and migrated the database.
pub(super) fn may_have_started(status: &mut CoderUpgradeStatus) {
    let Some(planned) = status.plan.as_ref().map(|plan| plan.to.clone()) else { return };
    let highest = version::higher(status.highest_started_version.as_deref(), &planned).to_owned();
    status.highest_started_version = Some(highest);
}

/// A Job of the step was at work, and nobody knows how far it came.
pub(super) fn unseen(status: &mut CoderUpgradeStatus, step: StepName) {
    status.change_started |= step.changes();
    if matches!(step, StepName::Upgrade | StepName::Install) {
        may_have_started(status);
    }
    status.removed |= step == StepName::Uninstall;
}

/// The step failed; see [`recover::way`] for what follows.
pub(super) fn failed(draft: &mut Draft, problem: Problem) {
    let Some(step) = draft.status.steps.last().cloned() else { return };
    step::end_step(draft, StepState::Failed, &problem.message);
    if step.name == StepName::Plan {
        draft.status.checks.clone_from(&problem.findings);
    }
    if problem.current.is_some() {
        draft.status.current.clone_from(&problem.current);
    }
    draft.status.change_started |= problem.changed;
    if step.name == StepName::Uninstall {
        // helm's records may say what they like (it only logs that it could not write them): the objects tell.
        // A step that does not find its plan has done nothing.
        draft.status.removed |= !problem.whole && problem.class != FailureClass::PlanMissing;
        draft.status.recovery_required = draft.status.removed || !draft.status.scaled_down.is_empty();
    }
    let way = recover::way(draft, step.name, &problem);
    let class = problem.class;
    let mut failure = Failure { retryable: way == NextMove::Again, ..failure::of(step.name, problem) };
    if let NextMove::Remedy(remedy) = way {
        failure.next_step = recover::offer(draft, remedy, failure.object.as_deref());
    }
    if class == FailureClass::PlanMissing && failure.object.is_none() {
        failure.object = draft.status.plan.as_ref().map(|plan| format!("Secret/{}", plan.secret_name));
    }
    failure::tell(draft, &failure);
    match way {
        NextMove::Again => again_later(draft, failure),
        NextMove::Stop => {
            // What the upgrade failed for is what a person has to cure, not that it was too late to go back.
            let failure = match draft.status.failure.take() {
                Some(first) if step.name == StepName::Restore && class == FailureClass::Downgrade => {
                    Failure { retryable: false, retry_at: None, ..first }
                }
                _ => failure,
            };
            failure::give_up(draft, failure);
        }
        NextMove::Remedy(_) => {
            recover::wait(draft, failure);
            // What the spec allows belongs to the change that has begun.
            if draft.status.change_started
                && let Some(step) = recover::open(draft)
            {
                step::remedy(draft, step);
            }
        }
        NextMove::Restore => recover::restore(draft, Some(failure)),
    }
}

/// The Job ended without a word: the pod was killed, or its node is gone. The same step is done again, since every step
/// first looks at what is there and does only what remains.
pub(super) fn lost(draft: &mut Draft, how: &str, out_of_memory: bool) {
    let Some(step) = draft.status.steps.last().map(|step| step.name) else { return };
    let again = draft.status.recovery_required || draft.status.retries < draft.observed.upgrade.spec.retry.limit;
    let class = match again {
        _ if out_of_memory => FailureClass::OutOfMemory,
        true => FailureClass::Interrupted,
        false => FailureClass::RetriesExhausted,
    };
    let why = if out_of_memory { "the memory of its container ran out; " } else { "" };
    let message = format!("The {} Job ended without an outcome ({why}{how}).", step.to_string().to_lowercase());
    step::end_step(draft, StepState::Interrupted, &message);
    unseen(&mut draft.status, step);
    let failure = Failure { retryable: again, ..failure::of(step, Problem::new(class, message)) };
    failure::tell(draft, &failure);
    if again {
        again_later(draft, failure);
    } else if step == StepName::Upgrade && recover::restorable(draft, None) {
        recover::restore(draft, Some(failure));
    } else {
        failure::give_up(draft, failure);
    }
}

/// Retries the step after a delay. The failure of the upgrade stays recorded while the saved release is restored.
fn again_later(draft: &mut Draft, failure: Failure) {
    draft.status.retries = draft.status.retries.saturating_add(1);
    let at = draft.observed.now + delay(draft, failure.class);
    let mut message = failure::line(&failure);
    if draft.status.recovery_required {
        let tries = draft.status.retries;
        message = format!("{message} (failed {tries} times; the operator goes on until Coder is back)");
    }
    let retry_at = Some(Time(at));
    let record = match draft.status.failure.take() {
        Some(first) if failure.step == StepName::Restore && !replans(failure.class) => {
            Failure { retryable: true, retry_at, ..first }
        }
        _ => Failure { retry_at, ..failure },
    };
    draft.wake_at(at);
    draft.status.phase = Phase::Pending;
    draft.status.message = message;
    draft.status.failure = Some(record);
}

/// What nobody is to blame for is done again at once; the rest waits longer each time.
fn delay(draft: &Draft, class: FailureClass) -> std::time::Duration {
    match class {
        FailureClass::Interrupted | FailureClass::PlanMissing if draft.status.retries <= 1 => std::time::Duration::ZERO,
        FailureClass::PlanOutdated if draft.status.retries <= 1 && !draft.status.recovery_required => {
            std::time::Duration::ZERO
        }
        _ => backoff::delay(draft.observed.retry_delay, draft.status.retries),
    }
}

/// Whether a failure of this class is followed by a new plan.
fn replans(class: FailureClass) -> bool {
    matches!(class, FailureClass::PlanOutdated | FailureClass::PlanMissing)
}
