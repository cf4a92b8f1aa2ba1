//! The running step and what its Job says.

use super::{Draft, Event, blocked, drain, outcome, step};
use crate::api::{FailureClass, Phase, Reason, Remedy, StepName};
use crate::core::decide::job::{JobFacts, JobState};
use crate::core::report::{Activity, Outcome, Problem, Report};
use crate::core::rights::Lacking;

/// Most repairs that are kept. An attempt makes a few; only a report that is not a runner's has more.
const REPAIRS: usize = 128;

/// Takes over what the running step's Job says: progress, or how it ended.
///
/// The outcome counts as soon as the runner has written it, which it does as its last action: to wait for Kubernetes to
/// call the Job complete would only cost seconds.
pub(super) fn running_step(draft: &mut Draft) {
    let Some(step) = draft.status.running_step() else { return };
    if step.name == StepName::Drain {
        return drain::advance(draft);
    }
    let Some(job) = draft.observed.job(step) else { return };
    let mute = if step.name == StepName::Plan { mute(job) } else { None };
    remember(draft, &job.report);
    match (&job.report.outcome, &job.state) {
        (Some(Outcome::Planned(planned)), _) => outcome::planned(draft, (**planned).clone()),
        (Some(Outcome::BackedUp(record)), _) => outcome::backed_up(draft, record.clone()),
        (Some(Outcome::Upgraded(upgraded)), _) => outcome::upgraded(draft, upgraded.clone()),
        (Some(Outcome::Uninstalled(uninstalled)), _) => outcome::uninstalled(draft, uninstalled.clone()),
        (Some(Outcome::Restored(restored)), _) => outcome::restored(draft, restored.clone()),
        (Some(Outcome::Failed(problem)), _) => {
            outcome::failed(draft, problem.clone());
            // Whoever restores the saved release looks whether a pod has started meanwhile.
            let restoring = draft.status.running_step().is_some_and(|step| step.name == StepName::Restore);
            if job.report.may_start && !restoring {
                outcome::may_have_started(&mut draft.status);
            }
        }
        (None, JobState::Ended(how)) => {
            if let Some(lacking) = mute {
                return outcome::failed(draft, unreported(draft, &lacking));
            }
            let unreadable = job.unreadable.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
            let out_of_memory = job.pod.as_ref().is_some_and(|pod| pod.out_of_memory);
            outcome::lost(draft, &format!("{how}{unreadable}"), out_of_memory);
        }
        (None, JobState::Active) => {
            if !job.has_run() && job.settings != draft.observed.settings && !draft.observed.deleting() {
                return step::replace_job(draft);
            }
            blocked::look(draft, job);
            if draft.status.blocked.is_none() {
                let unreadable = job.unreadable.as_ref().map(|why| format!("Job {}: {why}", job.name));
                let instead = blocked::slow(draft, job).or(unreadable);
                progress(draft, instead.as_deref().unwrap_or(&job.report.progress), &job.report);
            }
        }
    }
}

/// The right for want of which a runner could not even report: all that is left are its last words.
fn mute(job: &JobFacts) -> Option<Lacking> {
    let words = job.pod.as_ref()?.last_words.as_ref()?;
    Lacking::read(words).filter(|lacking| lacking.by_account() && lacking.is_to("batch", "jobs", "patch"))
}

fn unreported(draft: &Draft, lacking: &Lacking) -> Problem {
    let metadata = &draft.observed.upgrade.metadata;
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
    let problem = Problem::new(FailureClass::Forbidden, lacking.while_doing("report in its Job"));
    Problem { lacks_right: true, ..problem }.with_command(namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// What stays true whatever becomes of the Job: repairs that were begun, and that the new version may have started.
fn remember(draft: &mut Draft, report: &Report) {
    let status = &mut draft.status;
    status.new_version_started |= report.started;
    if report.started {
        outcome::may_have_started(status);
    }
    status.change_started |= report.started || report.helm_started || !report.repairs.is_empty();
    if let Some(down) = &report.scaled_down {
        let was_down = !status.scaled_down.is_empty();
        status.scaled_down.clone_from(down);
        if down.is_empty() && was_down {
            // Only for the replicas, or for more than them.
            status.recovery_required = status.removed;
        }
        status.recovery_required |= !down.is_empty();
    }
    for repair in &report.repairs {
        if !status.repairs.contains(repair) && status.repairs.len() < REPAIRS {
            status.repairs.push(repair.clone());
            status.removed |= repair.remedy == Remedy::Replace;
            status.recovery_required |= repair.remedy == Remedy::Replace;
            let message = format!("{} {}: {}", repair.remedy, repair.object, repair.message);
            draft.events.push(Event { warning: false, reason: Reason::Repairing.into(), action: "Repair", message });
        }
    }
}

fn progress(draft: &mut Draft, line: &str, report: &Report) {
    if line.is_empty() {
        return;
    }
    let place = step::on_the_way(&draft.status).map(|place| format!("{place}: ")).unwrap_or_default();
    if let Some(step) = draft.status.steps.last_mut() {
        line.clone_into(&mut step.message);
        draft.status.message = format!("{place}{line}");
        draft.status.phase = match step.name {
            StepName::Plan | StepName::Backup | StepName::Drain | StepName::Uninstall => return,
            _ if report.activity == Activity::Repairing => Phase::Repairing,
            _ if report.activity == Activity::Verifying => Phase::Verifying,
            StepName::Upgrade => Phase::Upgrading,
            StepName::Install => Phase::Installing,
            StepName::Restore => Phase::Restoring,
        };
    }
}
