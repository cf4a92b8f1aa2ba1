//! Jobs: their names and what they say.

use k8s_openapi::api::batch::v1::{Job, JobCondition};

use super::{digest::short_hash, report::Report};
use crate::api::{Recovery, ScaledDown, StepName, annotation, label};

/// Kubernetes puts the name of a Job into this label of its pods.
pub const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

/// Longest part of a release's name in a Job's name, which must stay below 64 characters with the rest.
const RELEASE_PART: usize = 32;

/// Which Job a step needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRequest {
    /// Name, from [`job_name`].
    pub name: String,
    /// What the Job does.
    pub step: StepName,
    /// Number of the attempt.
    pub attempt: i32,
    /// Secret with the plan; none while planning.
    pub plan_secret: Option<String>,
    /// Id of the plan; none while planning.
    pub plan_id: Option<String>,
    /// The wanted version, if it is known: a plan that is made again for the same request does not look for a newer one.
    pub target: Option<String>,
    /// How far the step may go by itself: as the spec or an approval has it.
    pub recovery: Recovery,
    /// A pod of the new version may have started in an earlier step of the attempt.
    pub new_version_started: bool,
    /// Workloads that an earlier try of the step has scaled to zero.
    pub scaled_down: Vec<ScaledDown>,
}

/// What is known of a Job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFacts {
    /// Name of the Job.
    pub name: String,
    /// UID of the Job, the precondition of its deletion.
    pub uid: String,
    /// UID of the controlling owner. A namesake with another owner is never trusted.
    pub owner_uid: Option<String>,
    /// Number of the attempt, from its label.
    pub attempt: i32,
    /// Where it stands.
    pub state: JobState,
    /// What keeps its pod from running, for example an image that cannot be pulled.
    pub trouble: Option<String>,
    /// What the runner has said.
    pub report: Report,
}

/// Where a Job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Its pod runs, will run, or is still ending.
    Active,
    /// Its pod has ended; the text says how, in Kubernetes' words.
    Ended(String),
}

/// Name of the Job that does a step: the same for the same step, another for every other one.
///
/// Two controllers that both believe they have to create it collide at the API server: that is the fence.
#[must_use]
pub fn job_name(release: &str, uid: &str, attempt: i32, step: StepName, try_number: i32, plan: &str) -> String {
    let step = step.to_string().to_lowercase();
    let hash = short_hash(&[uid, &attempt.to_string(), &step, &try_number.to_string(), plan], 10);
    let release: String = release.chars().take(RELEASE_PART).map(|c| if c == '.' { '-' } else { c }).collect();
    format!("{release}-{step}-{attempt}-{hash}")
}

impl From<&Job> for JobFacts {
    fn from(job: &Job) -> Self {
        let meta = &job.metadata;
        let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let text = |map: &Option<std::collections::BTreeMap<String, String>>, key: &str| {
            map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
        };
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            owner_uid: owner.map(|owner| owner.uid.clone()),
            attempt: text(&meta.labels, label::ATTEMPT).parse().unwrap_or_default(),
            state: state(job),
            trouble: None,
            // A report that cannot be read counts as none: the step is then done again, which is always right.
            report: serde_json::from_str(&text(&meta.annotations, annotation::REPORT)).unwrap_or_default(),
        }
    }
}

/// A Job has ended when Kubernetes says so in a condition; counters alone can still change.
fn state(job: &Job) -> JobState {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ended = |condition: &&JobCondition| {
        condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed")
    };
    conditions.clone().find(ended).map_or(JobState::Active, |condition| {
        let reason = condition.reason.as_deref().unwrap_or(&condition.type_);
        let message = condition.message.as_deref().unwrap_or_default();
        JobState::Ended(format!("{reason}: {message}").trim_end_matches([':', ' ']).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_differ_by_everything_that_tells_steps_apart() {
        let name = |uid, attempt, step, try_number| job_name("coder", uid, attempt, step, try_number, "");
        let base = name("u", 1, StepName::Plan, 1);
        assert_eq!(base, name("u", 1, StepName::Plan, 1));
        for other in [
            name("v", 1, StepName::Plan, 1),
            name("u", 2, StepName::Plan, 1),
            name("u", 1, StepName::Upgrade, 1),
            name("u", 1, StepName::Plan, 2),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_long_release_still_makes_a_valid_name() {
        let name = job_name(&"a.b".repeat(17), "u", i32::MAX, StepName::Upgrade, 1, "");
        assert!(name.len() <= 63 && !name.contains('.'), "{name}");
    }

    #[test]
    fn a_job_has_ended_only_when_a_condition_says_so() {
        let job =
            |status| -> Job { serde_json::from_value(json!({"metadata": {"name": "x"}, "status": status})).unwrap() };
        assert_eq!(JobFacts::from(&job(json!({"failed": 1}))).state, JobState::Active);
        let condition =
            |type_: &str| json!({"conditions": [{"type": type_, "status": "True", "reason": "BackoffLimitExceeded"}]});
        assert_eq!(JobFacts::from(&job(condition("FailureTarget"))).state, JobState::Active);
        assert_eq!(JobFacts::from(&job(condition("Failed"))).state, JobState::Ended("BackoffLimitExceeded".into()));
    }

    #[test]
    fn a_broken_report_counts_as_none() {
        let job: Job = serde_json::from_value(
            json!({"metadata": {"name": "x", "annotations": {annotation::REPORT: "{"}}, "status": {}}),
        )
        .unwrap();
        assert_eq!(JobFacts::from(&job).report, Report::default());
    }
}
