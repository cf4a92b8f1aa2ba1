//! An attempt: when one begins, and which step comes next.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Draft, approval, concluded, drift, gates, job_report, recover, step};
use crate::api::{
    CoderUpgradeSpec, CoderUpgradeStatus, FailureClass, Phase, PlannedAction, Step, StepName, StepState, Target,
};
use crate::core::decide::backoff;
use crate::core::helm::version;

/// What a new attempt begins for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    /// Something else is asked for, or it is asked for again.
    Asked,
    /// The plan does not fit what is installed any more.
    Outdated,
    /// The plan of the change under way is gone.
    PlanLost,
    /// The plan could not be made.
    Retry,
    /// A version on the path was reached.
    NextHop,
    /// What was verified has been changed from outside.
    Drifted,
}

/// Brings the attempt as far as the facts allow.
pub(super) fn advance(draft: &mut Draft) {
    draft.status.next_check_time = None; // Whatever is closed says so again.
    job_report::running_step(draft);
    if !draft.changing() && !draft.status.draining() {
        proceed(draft); // A changed spec takes effect after the running step, never in its middle.
    }
    approval::report_ignored(draft);
    if !draft.changing() && !draft.status.draining() {
        draft.status.observed_generation = draft.observed.generation();
    }
}

fn proceed(draft: &mut Draft) {
    if draft.observed.deleting() {
        return finish(draft);
    }
    if gates::refuse_what_is_not_allowed(draft) {
        return;
    }
    // A change that has begun comes to its end before what is not allowed is refused.
    gates::tell_of_an_edit_that_is_not_allowed(draft);
    let held = draft.status.change_started && !gates::is_allowed(draft);
    let free = !draft.status.recovery_required || concluded(&draft.status) || stuck(&draft.status);
    if requested_again(draft) && free && !held {
        draft.status.retries = 0;
        let missing = draft.status.failure.take().is_some_and(|failure| failure.class == FailureClass::ReleaseMissing);
        if missing && gives_values(&draft.observed.upgrade.spec) {
            draft.status.current = None; // Whoever has read that it is gone, and asks with values, wants it as a new one.
        }
        let occasion = if drift::waits(&draft.status) { Occasion::Drifted } else { Occasion::Asked };
        begin(draft, occasion);
    } else if draft.status.drift_answer_at.is_some() || drift::noticed(draft) {
        if !drift::is_held(draft) {
            begin(draft, Occasion::Drifted);
        }
    } else if due(draft) {
        again(draft);
    } else if hop_done(&draft.status) {
        begin(draft, Occasion::NextHop);
    } else if lock_check_due(draft) {
        draft.status.retries = draft.status.retries.saturating_add(1);
        begin(draft, Occasion::Outdated);
    } else if planned(draft) && !remedy_waits(&draft.status) {
        start(draft);
        if let Some(at) = next_lock_check(draft) {
            draft.status.next_check_time = Some(Time(at));
            draft.wake_at(at);
        }
    } else if remedy_waits(&draft.status) && draft.status.running_step().is_none() {
        gate(draft);
    }
}

/// Whether it is time to look again at a release that was locked by somebody else when it was planned.
fn lock_check_due(draft: &Draft) -> bool {
    next_lock_check(draft).is_some_and(|at| at <= draft.observed.now)
}

/// When that is, while a person is waited for: the helm process of somebody else may have ended, and nothing else would tell.
fn next_lock_check(draft: &Draft) -> Option<Timestamp> {
    let waits = draft.status.phase == Phase::AwaitingApproval && planned(draft) && approval::lock_is_in_doubt(draft);
    let made = draft.status.steps.last().and_then(|step| step.finished.as_ref()).filter(|_| waits)?;
    let delay = backoff::delay(draft.observed.retry_delay, draft.status.retries.saturating_add(1));
    made.0.checked_add(delay).ok()
}

/// Whether the values of the release stand in the spec.
fn gives_values(spec: &CoderUpgradeSpec) -> bool {
    spec.values.as_ref().is_some_and(|values| !values.is_empty()) || !spec.values_from.is_empty()
}

/// A deleted object begins nothing new, and nobody approves anything for it any more: what was begun is tried again or taken
/// back.
fn finish(draft: &mut Draft) {
    if due(draft) {
        again(draft);
    } else if planned(draft) && !remedy_waits(&draft.status) {
        start(draft);
    } else if draft.status.recovery_required {
        if remedy_waits(&draft.status) && draft.status.running_step().is_none() {
            gate(draft);
        }
    } else if draft.status.running_step().is_none() && draft.status.change_started && !retries(&draft.status) {
        recover::withdraw(draft);
    }
}

/// Whether the time of another try is set.
fn retries(status: &CoderUpgradeStatus) -> bool {
    status.failure.as_ref().is_some_and(|failure| failure.retry_at.is_some())
}

/// Whether only another spec can cure what fails: the saved plan was installed and started, or there is no plan any more.
fn stuck(status: &CoderUpgradeStatus) -> bool {
    let last = status.steps.last().map(|step| step.name);
    let spent = last == Some(StepName::Plan) || (last == Some(StepName::Install) && status.new_version_started);
    spent && status.failure.as_ref().is_some_and(|failure| !failure.class.retryable())
}

/// Begins the planned change, with the backup before it, as soon as every gate is open.
fn start(draft: &mut Draft) {
    let free = draft.status.recovery_required || draft.status.change_started;
    if !free {
        approval::count(draft);
        if gates::change_blocked(draft) {
            return;
        }
    }
    if draft.status.plan.as_ref().is_some_and(|plan| plan.forecast.lock_is_in_doubt()) {
        draft.status.retries = 0; // What was counted were looks at a lock.
    }
    let step = if !free && gates::backup_due(draft) {
        StepName::Backup
    } else if !draft.status.recovery_required && approval::reinstalls(draft) {
        StepName::Uninstall
    } else {
        StepName::Upgrade
    };
    expire(draft);
    step::begin_step(draft, step, step::tries(&draft.status, step).saturating_add(1));
}

/// Begins the remedy that waits for a person, if it may begin.
fn gate(draft: &mut Draft) {
    let Some(step) = recover::open(draft) else {
        draft.status.phase = Phase::AwaitingApproval; // It may have been suspended meanwhile.
        return;
    };
    if draft.status.recovery_required {
        return step::remedy(draft, step);
    }
    if gates::repair_blocked(draft) {
        return;
    }
    if gates::backup_due(draft) {
        let tries = step::tries(&draft.status, StepName::Backup);
        return step::begin_step(draft, StepName::Backup, tries.saturating_add(1));
    }
    step::remedy(draft, step);
}

/// Whether a remedy waits for a person, or for the backup before it, after a step has failed.
fn remedy_waits(status: &CoderUpgradeStatus) -> bool {
    let failed = status.failure.as_ref().is_some_and(|failure| failure.remedy.is_some() && !failure.retryable);
    failed && status.approval.is_some()
}

/// Whether what is asked for is not what the attempt was begun for.
fn requested_again(draft: &Draft) -> bool {
    let edited = draft.status.observed_generation != draft.observed.generation();
    let refused = draft.status.failure.as_ref().is_some_and(|failure| failure.class == FailureClass::NotAllowed);
    let asked = if refused { draft.observed.refused_request() } else { draft.observed.request() };
    draft.status.request != asked || (draft.status.phase == Phase::Failed && edited)
}

/// Begins a new attempt with a plan, unless something holds it back.
fn begin(draft: &mut Draft, occasion: Occasion) {
    step::supersede(draft);
    draft.status.drift_answer_at = None;
    // What is begun is not held back because its plan was lost. For a deleted object there is no other change after it.
    let same_change = occasion == Occasion::PlanLost || draft.observed.deleting();
    let bound = draft.status.recovery_required || (draft.status.change_started && same_change);
    if !bound && gates::planning_blocked(draft) {
        if matches!(occasion, Occasion::Asked | Occasion::Drifted) && draft.status.phase != Phase::Failed {
            draft.status.request.clear(); // Still to be done, whatever is edited until the gate opens.
        }
        return;
    }
    expire(draft);
    let spec = &draft.observed.upgrade.spec;
    let drifted = occasion == Occasion::Drifted;
    let asked = occasion == Occasion::Asked || (requested_again(draft) && !drifted);
    let status = &mut draft.status;
    if asked {
        status.drift.clear(); // Whoever asks now asks for what is there now.
    }
    if asked || (drifted && spec.version.is_some()) {
        // Otherwise the newest version that was found once stays the one that is wanted.
        let plain = |version: &str| Target { version: version::plain(version).to_owned(), app_version: None };
        status.target = spec.version.as_deref().map(plain);
    }
    if asked || drifted {
        status.path_from = None;
    }
    if asked || drifted || occasion == Occasion::Outdated {
        status.approved_plan.clear();
    }
    status.request = draft.observed.request();
    status.attempt = status.attempt.saturating_add(1);
    status.plan = None;
    status.steps.clear();
    if !status.recovery_required {
        status.repairs.clear(); // What is recreated and not back yet is not forgotten.
    }
    status.approval = None;
    if !same_change {
        status.approved = None;
        status.change_started = false;
    }
    status.waiting_for.clear();
    step::begin_step(draft, StepName::Plan, 1);
}

/// Does the failed or interrupted step again: a plan as a new attempt, because the world may have changed meanwhile.
fn again(draft: &mut Draft) {
    let Some(last) = draft.status.steps.last().cloned() else { return };
    if last.name == StepName::Plan {
        begin(draft, Occasion::Retry);
    } else if let Some(occasion) = void(draft) {
        begin(draft, occasion);
    } else if draft.status.recovery_required || draft.status.change_started {
        expire(draft);
        let step = recover::onward(&draft.status, last.name);
        let tries = step::tries(&draft.status, step).max(last.try_number);
        step::begin_step(draft, step, tries.saturating_add(1));
    } else {
        start(draft); // Nothing was changed yet: it may wait.
    }
}

/// Why the plan cannot be carried out any more, so that the next try must plan again.
fn void(draft: &Draft) -> Option<Occasion> {
    match draft.status.failure.as_ref()?.class {
        FailureClass::PlanMissing => Some(Occasion::PlanLost),
        FailureClass::PlanOutdated => Some(Occasion::Outdated),
        _ => None,
    }
}

/// The next try begins. The rest of the failure stays for people to read until it has ended.
fn expire(draft: &mut Draft) {
    if let Some(failure) = &mut draft.status.failure {
        failure.retry_at = None;
    }
}

/// Whether the time of the next try has come; otherwise sees to it that somebody looks again then.
fn due(draft: &mut Draft) -> bool {
    let Some(at) = draft.status.failure.as_ref().and_then(|failure| failure.retry_at.clone()) else { return false };
    let due = at.0 <= draft.observed.now;
    if !due {
        draft.wake_at(at.0);
    }
    due
}

/// Whether the plan is made, and the backup if there is one, and waits to be carried out.
fn planned(draft: &Draft) -> bool {
    let status = &draft.status;
    let made =
        |step: &Step| matches!(step.name, StepName::Plan | StepName::Backup) && step.state == StepState::Succeeded;
    let waits = status.steps.last().is_some_and(made) && !concluded(status);
    waits && status.plan.as_ref().is_some_and(|plan| plan.action != PlannedAction::Nothing)
}

/// Whether a version was reached on the way to the wanted one.
fn hop_done(status: &CoderUpgradeStatus) -> bool {
    let reached =
        |step: &Step| matches!(step.name, StepName::Upgrade | StepName::Install) && step.state == StepState::Succeeded;
    !concluded(status) && status.steps.last().is_some_and(reached) && step::hops_left(status)
}
