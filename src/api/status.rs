//! What the operator answers, for people, `kubectl wait` and GitOps tools alike.
#![allow(clippy::struct_excessive_bools)] // facts of which any may hold beside the others

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AddressChange, Approval, BackupRecord, Blocked, CheckName, DriftRepeat, FailureClass, Finding, Forecast,
    PlannedAction, Recovery, Remedy, Repair, ScaledDown, Step, StepName, StepState, WaitingFor, WorkloadMark,
};

/// Where the upgrade stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoderUpgradeStatus {
    /// Generation of the spec that this status speaks of. -1 for an object that the operator has not seen yet, so that
    /// no tool takes a new object for a ready one.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// Where the upgrade stands, in a word.
    #[serde(default)]
    pub phase: Phase,

    /// Where the upgrade stands, in a line.
    #[serde(default)]
    pub message: String,

    /// What is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Installed>,

    /// What is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,

    /// The plan of this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanSummary>,

    /// Number of the attempt, counted up for ever: part of the names of Jobs, so that no name comes twice.
    #[serde(default)]
    pub attempt: i32,

    /// Digest of the spec fields and of the request that this attempt was begun for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request: String,

    /// How often in a row it was tried again for this request.
    #[serde(default)]
    pub retries: i32,

    /// Timeline of this attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,

    /// Why it does not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,

    /// What keeps the running step from beginning: its Job cannot be created, or no pod of it starts. It goes on by itself
    /// once that is cured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Blocked>,

    /// What was repaired in this attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<Repair>,

    /// A step that waits for a person's approval: what it would do and what it would interrupt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,

    /// How far a person has allowed this attempt to go, beyond spec.recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<Recovery>,

    /// Value of the annotation coderupgrade.dev/approve that was evaluated last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub observed_approval: String,

    /// Id of the plan whose approval (spec.approval: Manual) holds for the rest of the path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub approved_plan: String,

    /// Version from which the path to the wanted one began, while it goes over others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_from: Option<String>,

    /// Warnings and refusals of the last plan; docs/checks.md explains each check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Finding>,

    /// When the gate that holds the change back is checked again, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_check_time: Option<Time>,

    /// The backup that was made or accepted before the last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupRecord>,

    /// Workloads that are scaled to zero for the change under way, with the replicas that are restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scaled_down: Vec<ScaledDown>,

    /// The workloads of the release as they were verified: what differs from this was changed from outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadMark>,

    /// What was changed from outside since Coder was verified, one line for each object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<String>,

    /// Workloads that were changed from outside, and how often since the last day without such a change: each time it is
    /// waited twice as long before a plan is made, at most an hour.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift_repeats: Vec<DriftRepeat>,

    /// When a plan is made for a change from outside that has come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_answer_at: Option<Time>,

    /// The change of this attempt has started: helm's records were changed, or may have been. It is finished, whatever
    /// suspend, dependsOn, approval and window say meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub change_started: bool,

    /// Something was removed that is not back yet: the release, an object that is being replaced, or the replicas of Coder. Until
    /// it is back, neither a changed spec, nor the deletion of this object, nor any number of failures ends the attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recovery_required: bool,

    /// The release, or an object of it that is to be replaced, was removed or may have been, and Coder was not verified
    /// since. Only a verification resets this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,

    /// A pod of a new version may have started since Coder was verified the last time, and may have migrated the database:
    /// from then on the operator does not restore the old version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_version_started: bool,

    /// The highest version of which a pod may have started and migrated the database. An older version is refused by the check
    /// Downgrade, whether or not anything runs now. Only an upgrade that was verified lowers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest_started_version: Option<String>,

    /// Objects that are still being deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<WaitingFor>,

    /// The PersistentVolumeClaims of the release, as seen last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub persistent_volume_claims: Vec<ClaimStatus>,

    /// The Services and the Ingresses of the release with their addresses, as seen last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Exposure>,

    /// The addresses that the upgrade changed, with the host names whose DNS must be updated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address_changes: Vec<AddressChange>,

    /// Finished attempts, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,

    /// Ready, Reconciling and Stalled after kstatus, and the facts Planned, Upgraded, `DataKept` and Verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl CoderUpgradeStatus {
    /// The step that is being done.
    #[must_use]
    pub fn running_step(&self) -> Option<&Step> {
        self.steps.last().filter(|step| step.state == StepState::Running)
    }

    /// Whether an uninstalled release is waited for until it is gone.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.running_step().is_some_and(|step| step.name == StepName::Drain)
    }
}

fn unobserved() -> i64 {
    -1
}

/// Where the upgrade stands, in a word.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    Deserialize,
    Serialize,
    JsonSchema,
    strum::Display,
    strum::EnumIter,
    strum::EnumMessage,
)]
pub enum Phase {
    /// Nothing was begun yet, or the next try is being waited for.
    #[default]
    Pending,
    /// `spec.suspend` holds it back.
    Suspended,
    /// The plan is being made.
    Planning,
    /// helm is at work.
    Upgrading,
    /// What helm was refused for is being repaired.
    Repairing,
    /// The release is being uninstalled; values, records and `PersistentVolumeClaims` are kept.
    Uninstalling,
    /// Slow-to-delete objects are being waited for; status.waitingFor names them.
    Draining,
    /// The release is being installed again.
    Installing,
    /// The saved release is being restored.
    Restoring,
    /// The plan, or a repair, waits for a person's approval; status.approval says which.
    AwaitingApproval,
    /// Another `CoderUpgrade` must be Ready first (spec.dependsOn).
    AwaitingDependency,
    /// As many upgrades have a Job as the controller allows (`--max-running-jobs`); its turn comes by itself.
    AwaitingPlace,
    /// The time window is closed; status.nextCheckTime says when it opens.
    AwaitingWindow,
    /// The backup is being made.
    BackingUp,
    /// The pods are being asked.
    Verifying,
    /// Coder runs at the wanted version and was verified.
    Succeeded,
    /// A person is needed; status.failure says for what.
    Failed,
}

/// The product line of a chart. Both charts are called `coder`; mixing them up destroys data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema, strum::Display)]
pub enum ProductLine {
    /// Coder Classic: chart major 1.
    #[serde(rename = "v1")]
    #[strum(serialize = "v1")]
    V1,
    /// Coder v2: chart major 2 (and 0, its first releases).
    #[serde(rename = "v2")]
    #[strum(serialize = "v2")]
    V2,
}

/// The installed release.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Installed {
    /// Version of the chart.
    pub version: String,
    /// Version of Coder that the chart names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_version: Option<String>,
    /// Revision of the Helm release.
    pub revision: i32,
    /// Status of that revision in Helm's words, for example deployed or failed.
    pub status: String,
    /// Product line of the chart.
    pub line: ProductLine,
}

/// The wanted version.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Version of the chart, without a leading v.
    pub version: String,
    /// Version of Coder that the chart names; known once the chart was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_version: Option<String>,
}

/// The plan, in short. All of it lies in the Secret.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanSummary {
    /// Digest of everything that decides the outcome.
    pub id: String,
    /// What will be done to the release.
    pub action: PlannedAction,
    /// Version that the plan starts from; absent for a first install.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Version that the plan leads to.
    pub to: String,
    /// SHA-256 of the packaged chart.
    pub chart_digest: String,
    /// Secret in this namespace that holds the chart, the values and the saved release.
    pub secret_name: String,
    /// How many Secrets the plan lies in, if one, which holds 1 MiB, was not enough. The others have the name of the first one
    /// with a dash and their number: NAME-2, NAME-3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_parts: Option<i32>,
    /// What the plan foresees.
    #[serde(default)]
    pub forecast: Forecast,
}

/// A `PersistentVolumeClaim` of the release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimStatus {
    /// Name of the claim.
    pub name: String,
    /// UID of the claim: the same after every upgrade.
    pub uid: String,
    /// Name of the bound `PersistentVolume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Phase of the claim, for example Bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Reclaim policy of the volume, where the runner may read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim_policy: Option<String>,
    /// Size of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<String>,
    /// What about the claim is not as the chart asks for, and what to do about it: a `StatefulSet` that was recreated with a
    /// larger template leaves its claims as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A Service or an Ingress of the release, by which Coder is reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exposure {
    /// Service or Ingress.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// UID of the object.
    pub uid: String,
    /// Addresses and host names outside of the cluster that it was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// What the cluster assigned to a Service, for example `cluster IP 10.96.0.7` and `node port 32329 (http)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assigned: Vec<String>,
}

/// Why it does not go on, and what a person can do.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The step that failed.
    pub step: StepName,
    /// Class of the failure.
    pub class: FailureClass,
    /// Object that it is about, for example Deployment/coder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Field that it is about, for example spec.version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What happened, in helm's own words where helm said it.
    pub message: String,
    /// What a person can do.
    pub next_step: String,
    /// What the operator could do about it beyond what was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Remedy>,
    /// Whether the operator tries again by itself.
    pub retryable: bool,
    /// When it tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// The lines of a pod's log that explain it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

/// A finished attempt.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Number of the attempt.
    pub attempt: i32,
    /// Version before; absent for a first install.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Version that was wanted; absent if it could not be resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Id of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Revision of the Helm release afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i32>,
    /// Checks whose refusal was overridden for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overridden: Vec<CheckName>,
    /// How it ended: Succeeded or Failed.
    pub outcome: Phase,
    /// When it began.
    pub started: Time,
    /// When it ended.
    pub finished: Time,
    /// The result in a line.
    pub message: String,
}
