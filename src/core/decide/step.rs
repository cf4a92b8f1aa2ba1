//! The steps of an attempt: how one begins and ends, and what is said of it.

use super::draft::Draft;
use super::job::job_name;
use crate::api::{CoderUpgradeStatus, Phase, Reason, Step, StepName, StepState};

/// Longest timeline. Only a step that is tried again and again comes near it.
const STEPS_KEPT: usize = 12;

/// Begins a remedy.
pub(super) fn remedy(draft: &mut Draft, step: StepName) {
    let status = &mut draft.status;
    if step == StepName::Upgrade {
        status.retries = 0;
    }
    status.approval = None;
    status.failure = None;
    let tries = tries(status, step);
    begin_step(draft, step, tries.saturating_add(1));
}

/// How often a step was tried in this attempt. In a full timeline earlier tries may be missing: the number only has to be
/// larger than all before then.
pub(super) fn tries(status: &CoderUpgradeStatus, step: StepName) -> i32 {
    let full = status.steps.len() >= STEPS_KEPT;
    let counted = status.steps.iter().filter(|done| full || done.name == step);
    counted.map(|done| done.try_number).max().unwrap_or_default()
}

/// Records the intent.
pub(super) fn begin_step(draft: &mut Draft, name: StepName, try_number: i32) {
    let observed = draft.observed;
    let status = &mut draft.status;
    let plan = status.plan.as_ref().map(|plan| plan.id.as_str()).unwrap_or_default();
    let job_name = if name == StepName::Drain {
        String::new()
    } else {
        job_name(&observed.upgrade.spec.release, observed.uid(), status.attempt, name, try_number, plan)
    };
    status.recovery_required |= name == StepName::Uninstall;
    status.blocked = None;
    if status.steps.len() >= STEPS_KEPT {
        status.steps.remove(1); // The plan stays at the head; what goes is the oldest of many tries.
    }
    status.steps.push(Step {
        name,
        state: StepState::Running,
        try_number,
        job_name,
        job_uid: String::new(),
        started: observed.time(),
        finished: None,
        message: String::new(),
    });
    let (phase, reason, message) = words(&draft.status, name);
    draft.status.phase = phase;
    draft.status.message.clone_from(&message);
    let action = if name == StepName::Drain { "Drain" } else { "CreateJob" };
    draft.event(reason.into(), action, message);
}

/// Says again what the running step does.
pub(super) fn tell_step(draft: &mut Draft) {
    if let Some(name) = draft.status.running_step().map(|step| step.name) {
        (draft.status.phase, _, draft.status.message) = words(&draft.status, name);
    }
}

/// What is said of a step that begins.
fn words(status: &CoderUpgradeStatus, name: StepName) -> (Phase, Reason, String) {
    let target = status.target.as_ref().map_or_else(|| "the newest version".into(), |target| target.version.clone());
    let goal = on_the_way(status).unwrap_or_else(|| target.clone());
    match name {
        StepName::Plan => (Phase::Planning, Reason::Planning, format!("Planning the upgrade to {target}.")),
        StepName::Backup => (Phase::BackingUp, Reason::BackingUp, "Creating the backup.".into()),
        StepName::Upgrade => (Phase::Upgrading, Reason::Upgrading, format!("Upgrading the Helm release to {goal}.")),
        StepName::Uninstall => (
            Phase::Uninstalling,
            Reason::Uninstalling,
            "Uninstalling the Helm release; values, records and volumes are kept.".into(),
        ),
        StepName::Drain => {
            (Phase::Draining, Reason::Draining, "Waiting until the objects of the release are gone.".into())
        }
        StepName::Install => (Phase::Installing, Reason::Installing, format!("Installing {goal}.")),
        StepName::Restore => (Phase::Restoring, Reason::Restoring, "Restoring the saved release.".into()),
    }
}

/// Does the running step with another Job, because the settings of its pod were changed before one had started.
pub(super) fn replace_job(draft: &mut Draft) {
    let Some(step) = draft.status.running_step().cloned() else { return };
    end_step(draft, StepState::Superseded, "The settings of its pod were changed before one had started.");
    begin_step(draft, step.name, step.try_number.saturating_add(1));
}

/// Whether the plan leads to a version on the way only.
pub(super) fn hops_left(status: &CoderUpgradeStatus) -> bool {
    status.plan.as_ref().is_some_and(|plan| !plan.forecast.hops.is_empty())
}

/// Where the plan stands on a path of several versions; none if it leads from the installed to the wanted one.
pub(super) fn on_the_way(status: &CoderUpgradeStatus) -> Option<String> {
    let (from, plan, target) = (status.path_from.as_ref()?, status.plan.as_ref()?, status.target.as_ref()?);
    Some(format!("{} of {from} → {}", plan.to, target.version))
}

/// Ends a step that runs for a spec that was changed.
pub(super) fn supersede(draft: &mut Draft) {
    if let Some(running) = draft.status.steps.last_mut().filter(|step| step.state == StepState::Running) {
        running.state = StepState::Superseded;
        running.finished = Some(draft.observed.time());
        draft.status.blocked = None;
        "The spec was changed.".clone_into(&mut running.message);
    }
}

pub(super) fn end_step(draft: &mut Draft, state: StepState, message: &str) {
    let now = draft.observed.time();
    draft.status.blocked = None;
    if let Some(step) = draft.status.steps.last_mut() {
        step.state = state;
        step.finished = Some(now);
        first_line(message).clone_into(&mut step.message);
    }
}

pub(super) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
