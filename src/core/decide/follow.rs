//! The running step and what its Job says.

use super::{Draft, outcome};
use crate::{
    api::{FailureClass, Phase, StepName, StepState},
    core::{
        job::JobState,
        report::{Outcome, Problem},
    },
};

/// Takes over what the running step's Job says: progress, or how it ended.
///
/// The outcome counts as soon as the runner has written it, which it does as its last deed: to wait for Kubernetes to
/// call the Job complete would only cost seconds.
pub(super) fn running_step(draft: &mut Draft) {
    let Some(step) = draft.status.steps.last().filter(|step| step.state == StepState::Running) else { return };
    let Some(job) = draft.observed.job(&step.job_name) else { return };
    if job.owner_uid.as_deref() != Some(draft.observed.uid()) {
        return outcome::failed(draft, foreign(&job.name));
    }
    match (&job.report.outcome, &job.state) {
        (Some(Outcome::Planned(planned)), _) => outcome::planned(draft, planned.clone()),
        (Some(Outcome::Upgraded(upgraded)), _) => outcome::upgraded(draft, upgraded.clone()),
        (Some(Outcome::Uninstalled(_) | Outcome::Restored(_)), _) => {}
        (Some(Outcome::Failed(problem)), _) => outcome::failed(draft, problem.clone()),
        (None, JobState::Ended(how)) => outcome::lost(draft, how),
        (None, JobState::Active) => {
            let line = job.trouble.as_deref().unwrap_or(&job.report.progress);
            progress(draft, line, job.report.verifying);
        }
    }
}

fn progress(draft: &mut Draft, line: &str, verifying: bool) {
    if line.is_empty() {
        return;
    }
    if let Some(step) = draft.status.steps.last_mut() {
        line.clone_into(&mut step.message);
        line.clone_into(&mut draft.status.message);
        if step.name == StepName::Upgrade {
            draft.status.phase = if verifying { Phase::Verifying } else { Phase::Upgrading };
        }
    }
}

fn foreign(job: &str) -> Problem {
    Problem {
        class: FailureClass::Unknown,
        object: Some(format!("Job/{job}")),
        field: Some("metadata.ownerReferences".into()),
        message: format!(
            "Job {job} exists but does not belong to this CoderUpgrade, so nothing it says is trusted. Delete that Job."
        ),
        excerpt: None,
        changed: false,
        remedy: None,
        current: None,
    }
}
