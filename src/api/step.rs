//! The steps of an attempt, and the classes of their failures.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One line of the timeline of an attempt.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What is done.
    pub name: StepName,
    /// How far it is.
    pub state: StepState,
    /// How often this step was begun in this attempt, counted from 1.
    #[serde(rename = "try")]
    pub try_number: i32,
    /// The Job that does it. Its name is recorded before the Job can exist.
    pub job_name: String,
    /// When it began.
    pub started: Time,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Time>,
    /// Progress while it runs, the result at the end.
    #[serde(default)]
    pub message: String,
}

/// What a step does.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Deserialize,
    Serialize,
    JsonSchema,
    strum::Display,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::EnumIter,
    strum::EnumMessage,
)]
pub enum StepName {
    /// Resolve the version, fetch the chart, merge the values, render, take the inventory. Changes nothing in the release.
    Plan,
    /// Run helm, then ask every pod.
    Upgrade,
}

/// How far a step is.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Deserialize,
    Serialize,
    JsonSchema,
    strum::Display,
    strum::EnumIter,
    strum::EnumMessage,
)]
pub enum StepState {
    /// Its Job shall run, or runs.
    Running,
    /// It ended as wished.
    Succeeded,
    /// It failed; status.failure says why.
    Failed,
    /// Its Job ended without a word (killed pod, lost node): the same step is done again.
    Interrupted,
    /// A newer spec made it pointless before it had changed anything.
    Superseded,
}

/// What the plan says is to be done to the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema, strum::Display)]
pub enum PlannedAction {
    /// There is no release of that name yet.
    Install,
    /// The release gets another chart version or other values, or a failed one is done again.
    Upgrade,
    /// The release is at the wanted version with the wanted values.
    Nothing,
}

/// The class of a failure: decides whether it is tried again and what a person is told. See [`FailureClass::retryable`].
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Deserialize,
    Serialize,
    JsonSchema,
    strum::Display,
    strum::IntoStaticStr,
    strum::EnumIter,
    strum::EnumMessage,
)]
pub enum FailureClass {
    /// The repository has no such version of the chart.
    VersionNotFound,
    /// The repository does not answer, or not with an index.
    RepositoryUnreachable,
    /// The repository refuses the credentials.
    RepositoryUnauthorized,
    /// What was fetched is not a usable chart, or not the one that was asked for.
    ChartInvalid,
    /// An object that the spec refers to does not exist.
    ReferenceMissing,
    /// Values are no YAML map, or the chart's schema refuses them.
    ValuesInvalid,
    /// The chart cannot be rendered with these values.
    RenderFailed,
    /// The chart does not support this version of Kubernetes.
    Incompatible,
    /// The chart is of the other product line: Coder Classic and Coder v2 share a chart name, not their data.
    ProductLineChanged,
    /// The wanted version is older than the installed one, and Coder has no way back.
    Downgrade,
    /// The plan does not fit into a Secret.
    TooLarge,
    /// Another helm works on the release, or one was killed and left its lock.
    ReleaseLocked,
    /// The release is not what the plan was made for any more.
    PlanOutdated,
    /// The runner was told to stop.
    Interrupted,
    /// The runner lacks a right.
    Forbidden,
    /// The API server could not be reached.
    ApiUnavailable,
    /// helm reported a failure.
    HelmFailed,
    /// helm's objects did not become ready in time.
    RolloutTimedOut,
    /// The upgrade went through, yet what runs is not what was wanted.
    VerificationFailed,
    /// A `PersistentVolumeClaim` is gone or is another one than before.
    DataMissing,
    /// Steps kept ending without a word.
    RetriesExhausted,
    /// No rule knows the text; it is reported as it is.
    Unknown,
}

impl FailureClass {
    /// Whether time alone can cure it, so that the operator tries again by itself.
    #[must_use]
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::RepositoryUnreachable
                | Self::RepositoryUnauthorized
                | Self::VersionNotFound
                | Self::ReferenceMissing
                | Self::ReleaseLocked
                | Self::PlanOutdated
                | Self::Interrupted
                | Self::ApiUnavailable
        )
    }

    /// What a person can do about it, as a sentence.
    #[must_use]
    pub fn next_step(self) -> &'static str {
        match self {
            Self::VersionNotFound => {
                "Correct spec.version, or wait: the repository is asked again with growing delays, in case the version was only just published."
            }
            Self::RepositoryUnreachable => {
                "Check spec.chart.repository and whether pods of this namespace can reach it; it is tried again with growing delays."
            }
            Self::RepositoryUnauthorized => {
                "Correct the Secret named in spec.chart.credentialsSecret; it is read again at the next try."
            }
            Self::ChartInvalid => {
                "Check spec.chart: the name, the version and the archive must belong to one Coder chart."
            }
            Self::ReferenceMissing => {
                "Create the object, or correct its name in the spec; it is looked for again with growing delays."
            }
            Self::ValuesInvalid => "Correct the values in spec.values or in the object named in spec.valuesFrom.",
            Self::RenderFailed => "Correct the values that the message names, then apply the CoderUpgrade again.",
            Self::Incompatible => "Choose a version of Coder that supports this cluster, or upgrade Kubernetes first.",
            Self::ProductLineChanged => {
                "Choose a chart of the installed product line. Coder Classic cannot be upgraded to Coder v2 in place: v2 needs a deployment and a database of its own."
            }
            Self::Downgrade => {
                "Choose a version that is not older than the installed one. Going back needs a restored database and is done by hand."
            }
            Self::TooLarge => {
                "Use a smaller chart or fewer values: chart, values and the saved release must fit into one Secret of 1 MiB."
            }
            Self::ReleaseLocked => {
                "Find out who runs helm on this release (helm history). If nobody does, run helm rollback to the last deployed revision; it is tried again with growing delays."
            }
            Self::PlanOutdated => "Nothing: the release is planned again as it is now.",
            Self::Interrupted => "Nothing: the step is done again.",
            Self::Forbidden => {
                "Grant the right to the runner's ServiceAccount; deploy/runner lists what the Coder charts need."
            }
            Self::ApiUnavailable => "Check the API server; it is tried again with growing delays.",
            Self::HelmFailed | Self::Unknown => {
                "Read the message and the excerpt, correct the cause, then set the annotation coderupgrade.dev/requested-at to a new value."
            }
            Self::RolloutTimedOut => {
                "Look at the pods that the message names. If they only need more time, raise spec.helm.timeout; otherwise correct the cause and set the annotation coderupgrade.dev/requested-at."
            }
            Self::VerificationFailed => {
                "Look at the pods that the message names, correct the cause, then set the annotation coderupgrade.dev/requested-at to a new value."
            }
            Self::DataMissing => {
                "Stop and look at the PersistentVolumeClaim before anything else: restore its volume from a backup if it is really gone."
            }
            Self::RetriesExhausted => {
                "Look at the nodes and at the runner's pod (kubectl describe job); then set the annotation coderupgrade.dev/requested-at to a new value."
            }
        }
    }
}
