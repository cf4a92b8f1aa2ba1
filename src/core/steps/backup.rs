//! Backups before a change: what they are called, which older ones count, and what they say of themselves.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, Job, JobSpec};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::api::ClaimStatus;
use crate::core::object::controlling;
use crate::core::text::digest::short_hash;

/// Longest name of a Job, which becomes a label of its pods.
const JOB_NAME: usize = 63;
/// Longest name of a `VolumeSnapshot`.
const SNAPSHOT_NAME: usize = 253;

/// Which change a backup is made for. A runner that was killed finds what it made again by this; another attempt makes its
/// own.
#[derive(Clone, Copy, Debug)]
pub struct Purpose<'a> {
    /// UID of the `CoderUpgrade`.
    pub uid: &'a str,
    /// Number of the attempt.
    pub attempt: i32,
    /// Id of the plan.
    pub plan: &'a str,
    /// How many backups of this attempt are stale by now, because a gate was closed for long after them.
    pub round: u32,
}

impl Purpose<'_> {
    /// Name of the Job that is made from this `CronJob`.
    pub fn job_name(self, cron_job: &str) -> String {
        self.name(cron_job, JOB_NAME)
    }

    /// Name of the `VolumeSnapshot` of this claim.
    pub fn snapshot_name(self, claim: &str) -> String {
        self.name(claim, SNAPSHOT_NAME)
    }

    fn name(self, of: &str, longest: usize) -> String {
        let (attempt, round) = (self.attempt.to_string(), self.round.to_string());
        let end = format!("-{attempt}-{}", short_hash(&[self.uid, &attempt, self.plan, of, &round], 10));
        let head: String = of.chars().take(longest - end.len()).collect();
        format!("{}{end}", head.trim_end_matches(['-', '.']))
    }
}

/// How long a backup that was made for a change counts for it: as long as a runner that was killed may take to come back.
/// After a longer wait (a window, an approval) another one is made.
const FRESH: SignedDuration = SignedDuration::from_mins(10);

/// Whether a backup that was finished at that time is too old for the change that it was made for.
pub fn is_stale(finished: Timestamp, now: Timestamp) -> bool {
    now.duration_since(finished) > FRESH
}

/// How a backup's Job has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupOutcome {
    /// Well, at that time.
    Succeeded(Timestamp),
    /// With a failure, in Kubernetes' words.
    Failed(String),
}

/// How a Job has ended; none while it works.
pub fn ended(job: &Job) -> Option<BackupOutcome> {
    let status = job.status.as_ref()?;
    let condition = |type_: &str| {
        status.conditions.iter().flatten().find(|condition| condition.type_ == type_ && condition.status == "True")
    };
    if let Some(complete) = condition("Complete") {
        let at = status.completion_time.as_ref().or(complete.last_transition_time.as_ref())?;
        return Some(BackupOutcome::Succeeded(at.0));
    }
    let failed = condition("Failed")?;
    let words = [&failed.reason, &failed.message].into_iter().flatten().map(String::as_str);
    Some(BackupOutcome::Failed(words.collect::<Vec<_>>().join(": ")))
}

/// The last success of a `CronJob` among its Jobs, if it was not before `since`: name and end of the Job.
pub fn recent_job(jobs: &[Job], cron_job: &CronJob, since: Timestamp) -> Option<(String, Timestamp)> {
    let ended_well = jobs.iter().filter(|job| is_of(job, cron_job)).filter_map(|job| match ended(job) {
        Some(BackupOutcome::Succeeded(at)) => Some((job.name_any(), at)),
        _ => None,
    });
    ended_well.filter(|(_, at)| *at >= since).max_by_key(|(_, at)| *at)
}

/// Whether a Job does what a `CronJob` would do now: it is controlled by it, and its pods are built as the `CronJob` says. The
/// owner alone can be written by whoever creates the Job; pods that are built in this way make the backup, whoever asks for it.
pub fn is_of(job: &Job, cron_job: &CronJob) -> bool {
    let owned = controlling(job).is_some_and(|owner| {
        owner.kind == "CronJob"
            && Some(&owner.uid) == cron_job.metadata.uid.as_ref()
            && owner.name == cron_job.name_any()
    });
    let template =
        |spec: Option<&JobSpec>| spec.and_then(|spec| serde_json::to_value(spec.template.spec.as_ref()?).ok());
    let wanted = template(cron_job.spec.as_ref().and_then(|spec| spec.job_template.spec.as_ref()));
    owned && wanted.zip(template(job.spec.as_ref())).is_some_and(|(wanted, found)| covers(&found, &wanted))
}

/// Whether everything that is wanted is there. The API server adds defaults, and admission adds members to lists.
fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| covers(found, wanted)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            wanted.iter().all(|wanted| found.iter().any(|found| covers(found, wanted)))
        }
        (found, wanted) => found == wanted,
    }
}

/// A `VolumeSnapshot`, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Name of the snapshot.
    pub name: String,
    /// The claim that it is of.
    pub claim: String,
    /// A volume could be made from it.
    pub ready: bool,
    /// When it was taken.
    pub taken: Option<Timestamp>,
    /// Size of a volume that is made from it.
    pub size: Option<String>,
    /// What went wrong the last time that it was tried.
    pub error: Option<String>,
}

impl From<&DynamicObject> for Snapshot {
    fn from(object: &DynamicObject) -> Self {
        let (spec, status) = (&object.data["spec"], &object.data["status"]);
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let leaving = object.metadata.deletion_timestamp.is_some();
        let failed = &status["error"];
        Self {
            name: object.name_any(),
            claim: text(&spec["source"]["persistentVolumeClaimName"]).unwrap_or_default(),
            ready: status["readyToUse"] == true && !leaving,
            taken: text(&status["creationTime"]).and_then(|time| time.parse().ok()),
            size: text(&status["restoreSize"]),
            error: failed.is_object().then(|| text(&failed["message"]).unwrap_or_else(|| "it does not say why".into())),
        }
    }
}

/// The newest snapshot of each claim, if all are ready and none was taken before `since`.
pub fn recent_snapshots(snapshots: &[Snapshot], claims: &[ClaimStatus], since: Timestamp) -> Option<Vec<Snapshot>> {
    let of = |claim: &ClaimStatus| {
        let good = snapshots.iter().filter(|s| s.claim == claim.name && s.ready && s.taken >= Some(since));
        good.max_by_key(|snapshot| snapshot.taken).cloned()
    };
    claims.iter().map(of).collect()
}

/// What was saved where, and how large it is.
pub fn snapshots_line(snapshots: &[Snapshot]) -> String {
    let each = snapshots.iter().map(|Snapshot { name, claim, size, .. }| {
        let size = size.as_ref().map(|size| format!(", {size}")).unwrap_or_default();
        format!("PersistentVolumeClaim/{claim} in VolumeSnapshot/{name}{size}")
    });
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn job(name: &str, owner: &str, condition: &str, end: i64) -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": name, "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": owner, "controller": true}]},
            "spec": {"template": {"spec": {"dnsPolicy": "ClusterFirst", "containers": [
                {"name": "sidecar"}, {"name": "dump", "image": "pg:1", "args": ["all"], "terminationMessagePath": "/x"}]}}},
            "status": {
                "completionTime": at(end),
                "conditions": [{"type": condition, "status": "True", "reason": "Why", "message": "so"}]},
        }))
        .unwrap()
    }

    #[test]
    fn names_are_found_again_and_fit() {
        let purpose = Purpose { uid: "u", attempt: 3, plan: "p", round: 0 };
        assert_eq!(purpose.job_name("nightly"), purpose.job_name("nightly"));
        assert_ne!(purpose.job_name("nightly"), Purpose { attempt: 4, ..purpose }.job_name("nightly"));
        assert_ne!(purpose.job_name("nightly"), Purpose { plan: "q", ..purpose }.job_name("nightly"));
        assert_ne!(purpose.job_name("nightly"), Purpose { round: 1, ..purpose }.job_name("nightly"));
        let longest = Purpose { attempt: i32::MAX, ..purpose };
        assert!(longest.job_name(&"a".repeat(52)).len() <= JOB_NAME);
        assert!(longest.snapshot_name(&"a".repeat(253)).len() <= SNAPSHOT_NAME);
    }

    #[test]
    fn a_job_has_ended_when_a_condition_says_so() {
        assert_eq!(ended(&job("a", "u", "Complete", 5)), Some(BackupOutcome::Succeeded(at(5))));
        assert_eq!(ended(&job("a", "u", "Failed", 5)), Some(BackupOutcome::Failed("Why: so".into())));
        assert_eq!(ended(&job("a", "u", "SuccessCriteriaMet", 5)), None);
    }

    #[test]
    fn the_last_success_of_the_cron_job_counts_if_it_is_recent() {
        let jobs = [
            job("early", "u", "Complete", 10),
            job("late", "u", "Complete", 20),
            job("failed", "u", "Failed", 30),
            job("other", "v", "Complete", 40),
        ];
        assert_eq!(recent_job(&jobs, &nightly("pg:1"), at(15)), Some(("late".into(), at(20))));
        assert_eq!(recent_job(&jobs, &nightly("pg:1"), at(21)), None);
    }

    fn nightly(image: &str) -> CronJob {
        serde_json::from_value(json!({
            "metadata": {"name": "nightly", "uid": "u"},
            "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": {"spec": {"containers": [
                {"name": "dump", "image": image, "args": ["all"]}]}}}}},
        }))
        .unwrap()
    }

    #[test]
    fn a_job_that_does_something_else_is_no_backup() {
        let job = job("x", "u", "Complete", 10);
        assert!(is_of(&job, &nightly("pg:1")) && !is_of(&job, &nightly("pg:2")));
        let mut uncontrolled = job;
        uncontrolled.metadata.owner_references.as_mut().unwrap()[0].controller = None;
        assert!(!is_of(&uncontrolled, &nightly("pg:1")));
    }

    #[test]
    fn snapshots_count_only_if_all_claims_have_one() {
        let snapshot = |claim: &str, taken, ready| -> Snapshot {
            let object: DynamicObject = serde_json::from_value(json!({
                "metadata": {"name": format!("{claim}-{taken}")},
                "spec": {"source": {"persistentVolumeClaimName": claim}},
                "status": {"readyToUse": ready, "creationTime": at(taken), "restoreSize": "1Gi"},
            }))
            .unwrap();
            Snapshot::from(&object)
        };
        let claims = ["a", "b"].map(|name| ClaimStatus {
            name: name.into(),
            uid: String::new(),
            volume: None,
            phase: None,
            reclaim_policy: None,
            capacity: None,
            note: None,
        });
        let all = [snapshot("a", 10, true), snapshot("a", 12, true), snapshot("a", 14, false), snapshot("b", 11, true)];
        let names = |since| recent_snapshots(&all, &claims, at(since)).map(|all| snapshots_line(&all));
        assert_eq!(
            names(10).as_deref(),
            Some(
                "PersistentVolumeClaim/a in VolumeSnapshot/a-12, 1Gi; PersistentVolumeClaim/b in VolumeSnapshot/b-11, 1Gi"
            )
        );
        assert_eq!(names(12), None, "that of b is too old");
    }

    #[test]
    fn an_error_is_told_even_if_it_has_no_words() {
        let object = |status| -> DynamicObject {
            serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).unwrap()
        };
        assert_eq!(Snapshot::from(&object(json!({}))).error, None);
        assert!(Snapshot::from(&object(json!({"error": {}}))).error.is_some());
        assert_eq!(Snapshot::from(&object(json!({"error": {"message": "full"}}))).error.as_deref(), Some("full"));
    }
}
