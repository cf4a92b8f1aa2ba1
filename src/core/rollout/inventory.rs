//! What belongs to a release beside its objects, and what its servers answer.

use serde::{Deserialize, Serialize};

use super::health::Fault;
use crate::api::{ClaimStatus, Exposure};

/// What belongs to the release beside its objects, and what Coder answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The claims that pods of the release mount.
    pub claims: Vec<ClaimStatus>,
    /// `LoadBalancer` Services and Ingresses of the release.
    pub exposures: Vec<Exposure>,
    /// What each Coder server answered before the change.
    pub answers: Vec<Answer>,
    /// The Coder servers that were ready before the change and did not tell the runner who they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<NoAnswer>,
    /// What Coder found wrong with itself before the change; none if it could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Vec<Fault>>,
}

/// What one pod of Coder answered about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Name of the pod.
    pub pod: String,
    /// Version without a leading v and without build metadata.
    pub version: String,
    /// Id that Coder v2 keeps in its database; another id means another database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// What is to be said of how it answered, each the end of a sentence that begins with the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Why it tells no `deployment_id` although it may have one, as the end of a sentence that begins with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
}

/// Why a pod that is ready did not tell who it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NoAnswer {
    /// Name of the pod.
    pub pod: String,
    /// The end of a sentence that begins with the pod.
    pub why: String,
    /// What kind of silence it is.
    pub silence: Silence,
}

/// What keeps a pod from answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Silence {
    /// No connection comes about, or it ends without an answer.
    Unreachable,
    /// Somebody before Coder sends the runner elsewhere, or asks who it is.
    TurnedAway,
    /// Something else was answered.
    Wrong,
}
