//! The steps of an attempt.

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
    /// The Job that does it. Its name is recorded before the Job can exist. Empty for a step that only waits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub job_name: String,
    /// UID of that Job, recorded before its pod may start: a Job of that name with another UID is somebody else's, and
    /// nothing that it says counts.
    #[serde(rename = "jobUID", default, skip_serializing_if = "String::is_empty")]
    pub job_uid: String,
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
    /// Make the backup that spec.backup asks for, or find a recent one.
    Backup,
    /// Run helm, repair what it is refused for, then ask every pod.
    Upgrade,
    /// `helm uninstall`, with the records and everything that cannot be made again kept.
    Uninstall,
    /// Wait until slow-to-delete objects are gone. No Job: the controller watches them.
    Drain,
    /// Install the planned version after an uninstall, then ask every pod.
    Install,
    /// Restore the saved release: the old chart's objects with the old values.
    Restore,
}

impl StepName {
    /// Whether its Job may change the release.
    #[must_use]
    pub fn changes(self) -> bool {
        !matches!(self, Self::Plan | Self::Backup | Self::Drain)
    }
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
