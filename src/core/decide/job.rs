//! Jobs: their names, whose they are and what they say.

use crate::core::object::controlling;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use crate::api::{CoderUpgrade, Recovery, ScaledDown, StepName, annotation, label};
use crate::core::report::Report;
use crate::core::rollout::workload::PodFacts;
use crate::core::text::digest::short_hash;
use crate::core::text::log_format::readable;

/// Kubernetes puts the name of a Job into this label of its pods.
pub const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

/// Kubernetes puts the UID of a Job into this label of its pods.
pub const JOB_UID_LABEL: &str = "batch.kubernetes.io/controller-uid";

/// Name of the container in which the runner works. Webhooks add others to its pod, which may go on for ever.
pub const CONTAINER: &str = "runner";

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
    /// Secrets with the plan, in the order of their numbers; none while planning.
    pub plan_secrets: Vec<String>,
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
    /// UID of the Job of that name that was created already and is not to be seen any more; empty if there was none.
    pub recorded: String,
    /// Something of the release was removed and is not back yet.
    pub recovery_required: bool,
    /// A person has approved the repairs of this plan by name, which spec.recovery alone does not.
    pub repair_approved: bool,
}

impl JobRequest {
    /// The request of a plan that nothing is known for yet.
    #[must_use]
    pub const fn planning() -> Self {
        Self {
            name: String::new(),
            step: StepName::Plan,
            attempt: 1,
            plan_secrets: Vec::new(),
            plan_id: None,
            target: None,
            recovery: Recovery::Repair,
            new_version_started: false,
            scaled_down: Vec::new(),
            recorded: String::new(),
            recovery_required: false,
            repair_approved: false,
        }
    }
}

/// What is known of a Job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFacts {
    /// Name of the Job.
    pub name: String,
    /// UID of the Job: what tells it from a namesake, and the precondition of its deletion.
    pub uid: String,
    /// Number of the attempt, from its label.
    pub attempt: i32,
    /// Digest of the settings that its pod was built with.
    pub settings: String,
    /// It is suspended: no pod of it runs.
    pub suspended: bool,
    /// When the controller let it start, or asked last for a pod that could not be created; none before.
    pub started_at: Option<Timestamp>,
    /// It is being deleted, and no pod of it is at work any more.
    pub leaving: bool,
    /// Where it stands.
    pub state: JobState,
    /// Its pod, if there is one.
    pub pod: Option<RunnerPod>,
    /// What the runner has said.
    pub report: Report,
    /// Why nobody can tell what the runner has said.
    pub unreadable: Option<String>,
}

/// The pod of a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerPod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its container runs or has run.
    pub started: bool,
    /// It is being deleted, or has ended.
    pub leaving: bool,
    /// What keeps it from running, for example an image that cannot be pulled.
    pub trouble: Option<String>,
    /// The end of its log, if its container ended with an error.
    pub last_words: Option<String>,
    /// The kernel killed the runner, or a process of it, because the memory of its container ran out.
    pub out_of_memory: bool,
    /// The runner's container has ended, and others that a webhook has added keep the pod from ending.
    pub outlived: Option<Outlived>,
}

/// The end of a runner in a pod that goes on without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlived {
    /// How it ended, in Kubernetes' words.
    pub how: String,
    /// When it ended, if the kubelet says.
    pub at: Option<Timestamp>,
}

/// None if the runner's container has not ended, or the pod ends with it.
fn outlived(status: &PodStatus, pod: &str) -> Option<Outlived> {
    let containers = || status.container_statuses.iter().flatten();
    let state = |container: &ContainerStatus| container.state.clone().unwrap_or_default();
    let ended = containers().find(|container| container.name == CONTAINER).and_then(|c| state(c).terminated)?;
    let others = containers().any(|container| state(container).running.is_some());
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    (others && !over).then(|| {
        let reason = ended.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        Outlived {
            how: format!("container {CONTAINER} of Pod/{pod} ended with exit code {}{reason}", ended.exit_code),
            at: ended.finished_at.map(|time| time.0),
        }
    })
}

impl From<&Pod> for RunnerPod {
    fn from(pod: &Pod) -> Self {
        let facts = PodFacts::from(pod);
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        let runner = facts.containers.iter().find(|container| container.name == CONTAINER);
        Self {
            started: runner.map_or(matches!(phase, Some("Running" | "Succeeded")), |container| container.started),
            trouble: facts.trouble().filter(|_| !facts.leaving),
            last_words: last_words(pod),
            out_of_memory: runner_end(pod).is_some_and(|end| end.reason.as_deref() == Some("OOMKilled")),
            outlived: status.and_then(|status| outlived(status, &facts.name)),
            name: facts.name,
            uid: facts.uid,
            leaving: facts.leaving,
        }
    }
}

fn last_words(pod: &Pod) -> Option<String> {
    Some(readable(runner_end(pod)?.message.as_ref()?))
}

/// How the runner's container ended.
fn runner_end(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let mut containers = pod.status.as_ref()?.container_statuses.as_ref()?.iter();
    containers.find(|container| container.name == CONTAINER)?.state.as_ref()?.terminated.as_ref()
}

impl JobFacts {
    /// How the runner has ended, where other containers keep its Job from ending.
    #[must_use]
    pub fn outlived(&self) -> Option<&Outlived> {
        self.pod.as_ref().filter(|_| self.state == JobState::Active)?.outlived.as_ref()
    }

    /// Whether the runner may have begun to work.
    #[must_use]
    pub fn has_run(&self) -> bool {
        self.state != JobState::Active
            || self.report != Report::default()
            || self.unreadable.is_some()
            || self.pod.as_ref().is_some_and(|pod| pod.started)
    }
}

/// What a Job is that has the name of a step's Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namesake {
    /// The one that the status names.
    Recorded,
    /// One that the controller created without coming to record it. It has never run.
    Unrecorded,
    /// The one that the status names, or the one before it, which is being deleted: the finalizers that hold it.
    Leaving(Vec<String>),
    /// Somebody else's: the field that tells, and what it says.
    Foreign(&'static str, String),
}

/// What a Job is that has the name of the Job of a step whose recorded UID is `recorded`.
///
/// A Job runs only after its UID was recorded. So whatever runs or has run under another UID was not created for this step,
/// whatever its labels, its owner and its report say: anybody who may create Jobs can write these.
#[must_use]
pub fn judge(job: &Job, upgrade: &CoderUpgrade, recorded: &str) -> Namesake {
    let facts = JobFacts::from(job);
    let status = job.status.clone().unwrap_or_default();
    let has_run = facts.started_at.is_some() || facts.has_run() || status.start_time.is_some();
    if facts.uid == recorded && !facts.leaving {
        return Namesake::Recorded;
    }
    if !is_owned(job, upgrade) {
        let owner = controlling(job).map_or_else(
            || "nobody controls it".to_owned(),
            |owner| format!("{} {} (UID {}) controls it", owner.kind, owner.name, owner.uid),
        );
        return Namesake::Foreign("metadata.ownerReferences", owner);
    }
    if job.metadata.deletion_timestamp.is_some() {
        return Namesake::Leaving(job.finalizers().to_vec());
    }
    if facts.suspended && !has_run {
        return Namesake::Unrecorded;
    }
    let expected = if recorded.is_empty() { "none yet" } else { recorded };
    Namesake::Foreign("metadata.uid", format!("its UID is {}, and status.steps[].jobUID is {expected}", facts.uid))
}

/// Whether a Job, by its own words, belongs to the object: in its namespace and controlled by it. That is needed and not
/// enough; the recorded UID decides.
#[must_use]
pub fn is_owned(job: &Job, upgrade: &CoderUpgrade) -> bool {
    let wanted = upgrade.controller_owner_ref(&());
    let same = |owner: &OwnerReference, wanted: &OwnerReference| {
        (&owner.api_version, &owner.kind, &owner.name, &owner.uid)
            == (&wanted.api_version, &wanted.kind, &wanted.name, &wanted.uid)
    };
    job.metadata.namespace == upgrade.metadata.namespace
        && controlling(job).zip(wanted.as_ref()).is_some_and(|(owner, wanted)| same(owner, wanted))
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
        let status = job.status.as_ref();
        let text = |map: &Option<std::collections::BTreeMap<String, String>>, key: &str| {
            map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
        };
        let (report, unreadable) = match Report::read(&text(&meta.annotations, annotation::REPORT)) {
            Ok(report) => (report, None),
            Err(why) => (Report::default(), Some(format!("its annotation {} {why}", annotation::REPORT))),
        };
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            attempt: text(&meta.labels, label::ATTEMPT).parse().unwrap_or_default(),
            settings: text(&meta.annotations, annotation::SETTINGS),
            suspended: job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true)),
            started_at: text(&meta.annotations, annotation::STARTED_AT).parse().ok(),
            leaving: meta.deletion_timestamp.is_some() && status.and_then(|status| status.active).unwrap_or(0) == 0,
            state: state(job),
            pod: None,
            report,
            unreadable,
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

    fn upgrade() -> CoderUpgrade {
        let mut upgrade = CoderUpgrade::new("coder", crate::api::CoderUpgradeSpec::default());
        upgrade.metadata.namespace = Some("ns".into());
        upgrade.metadata.uid = Some("owner".into());
        upgrade
    }

    /// A Job as the controller creates it, with a change.
    fn created(change: impl FnOnce(&mut serde_json::Value)) -> Job {
        let mut job = json!({
            "metadata": {"name": "x", "namespace": "ns", "uid": "u", "ownerReferences": [{"apiVersion": "coderupgrade.dev/v1alpha1",
                "kind": "CoderUpgrade", "name": "coder", "uid": "owner", "controller": true}]},
            "spec": {"suspend": true, "template": {}},
        });
        change(&mut job);
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn only_the_recorded_uid_speaks() {
        let running = created(|job| job["spec"]["suspend"] = json!(false));
        assert_eq!(judge(&running, &upgrade(), "u"), Namesake::Recorded);
        for recorded in ["", "other"] {
            assert!(matches!(judge(&running, &upgrade(), recorded), Namesake::Foreign("metadata.uid", _)));
        }
    }

    #[test]
    fn the_runners_own_container_tells_whether_it_has_ended() {
        let pod = |phase: &str, runner: serde_json::Value, other: serde_json::Value| {
            let container = |name: &str, state: serde_json::Value| json!({"name": name, "ready": true, "restartCount": 0, "image": "", "imageID": "", "state": state});
            let status =
                json!({"phase": phase, "containerStatuses": [container("proxy", other), container("runner", runner)]});
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap();
            RunnerPod::from(&pod)
        };
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let killed = json!({"terminated": {"exitCode": 137, "reason": "Error", "startedAt": "2026-01-01T00:00:00Z"}});
        let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no"}});
        let no_memory = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        assert!(pod("Failed", no_memory, killed.clone()).out_of_memory);
        let ended = pod("Running", killed.clone(), running.clone());
        assert!(!ended.out_of_memory);
        let how = ended.outlived.map(|outlived| outlived.how);
        assert_eq!(how.as_deref(), Some("container runner of Pod/p ended with exit code 137 (Error)"));
        assert!(ended.started);
        assert_eq!(pod("Failed", killed.clone(), killed.clone()).outlived, None, "the pod ends with it");
        assert_eq!(pod("Running", running.clone(), killed).outlived, None, "another container is not the runner");
        assert!(!pod("Pending", waiting, running).started, "nor does another one start for it");
    }

    #[test]
    fn what_was_created_and_never_ran_is_no_danger() {
        assert_eq!(judge(&created(|_| {}), &upgrade(), ""), Namesake::Unrecorded);
        assert_eq!(judge(&created(|_| {}), &upgrade(), "before"), Namesake::Unrecorded);
        let reports =
            created(|job| job["metadata"]["annotations"] = json!({annotation::REPORT: "{\"progress\": \"x\"}"}));
        assert!(matches!(judge(&reports, &upgrade(), ""), Namesake::Foreign(..)));
        let ended = created(|job| job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]}));
        assert!(matches!(judge(&ended, &upgrade(), ""), Namesake::Foreign(..)));
    }

    #[test]
    fn every_part_of_the_owner_counts_and_so_does_the_namespace() {
        for (part, value) in [("apiVersion", "v1"), ("kind", "Other"), ("name", "x"), ("uid", "v")] {
            let job = created(|job| job["metadata"]["ownerReferences"][0][part] = json!(value));
            assert!(matches!(judge(&job, &upgrade(), ""), Namesake::Foreign("metadata.ownerReferences", _)), "{part}");
        }
        let uncontrolled = created(|job| job["metadata"]["ownerReferences"][0]["controller"] = json!(false));
        assert!(!is_owned(&uncontrolled, &upgrade()));
        assert!(!is_owned(&created(|job| job["metadata"]["namespace"] = json!("evil")), &upgrade()));
    }

    #[test]
    fn one_that_is_being_deleted_speaks_while_its_pod_works() {
        let leaving = |active: i32| {
            created(|job| {
                job["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                job["metadata"]["finalizers"] = json!(["keep.example.com/it"]);
                job["status"] = json!({"active": active});
            })
        };
        assert_eq!(judge(&leaving(1), &upgrade(), "u"), Namesake::Recorded);
        assert_eq!(judge(&leaving(0), &upgrade(), "u"), Namesake::Leaving(vec!["keep.example.com/it".into()]));
    }

    #[test]
    fn a_broken_report_counts_as_none_and_says_so() {
        let job: Job = serde_json::from_value(
            json!({"metadata": {"name": "x", "annotations": {annotation::REPORT: "{"}}, "status": {}}),
        )
        .unwrap();
        let facts = JobFacts::from(&job);
        assert_eq!(facts.report, Report::default());
        let why = facts.unreadable.unwrap();
        assert!(why.starts_with("its annotation coderupgrade.dev/report is not the expected JSON"), "{why}");
    }
}
