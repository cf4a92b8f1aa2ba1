//! What keeps a step from beginning.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What keeps the running step from beginning, and what a person can do about it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Blocked {
    /// What kind of obstacle it is.
    pub reason: BlockedReason,
    /// The object that it is about, as Kind/name.
    pub object: String,
    /// The field that cures it, of this object (spec.job.resources) or of that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What the API server, the scheduler or the kubelet says.
    pub message: String,
    /// What a person can do.
    pub next_step: String,
    /// Since when.
    pub since: Time,
}

/// What kind of obstacle keeps a step from beginning.
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
pub enum BlockedReason {
    /// The API server refuses to create the Job; it is tried again.
    JobRefused,
    /// A Job that the controller did not create has the name of the step's Job; nothing that it says counts.
    ForeignJob,
    /// Somebody else has suspended the step's Job.
    JobSuspended,
    /// The API server refuses to create the pod of the Job; it is tried again.
    PodRefused,
    /// The pod of the Job exists and does not start.
    PodNotStarted,
}
