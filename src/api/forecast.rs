//! What a plan foresees.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Recovery, Remedy};

/// A repair that the upgrade will make before helm runs, because helm would be refused without it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedRepair {
    /// What will be done.
    pub remedy: Remedy,
    /// To which object, as Kind/name; empty where it is about the release.
    pub object: String,
    /// What helm would be refused for, in a line.
    pub message: String,
    /// A person must approve it by name, whatever spec.recovery allows: the helm process of somebody else may still run, or what
    /// others have put into the object would be lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_approval: bool,
}

/// How long Coder will be interrupted.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Deserialize,
    Serialize,
    JsonSchema,
    strum::Display,
)]
pub enum InterruptionLength {
    /// Not at all, or as little as any rolling update.
    #[default]
    None,
    /// Seconds: connections drop and are made again.
    Seconds,
    /// Minutes: Coder is down while pods go and new ones start.
    Minutes,
}

/// How long Coder will be interrupted, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Interruption {
    /// For how long.
    pub length: InterruptionLength,
    /// Why, in a sentence.
    pub reason: String,
}

/// How many objects of the release change. Which, and how, lies in the plan Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectCounts {
    /// Objects that are new.
    pub added: i32,
    /// Objects that are changed in place.
    pub changed: i32,
    /// Objects that go.
    pub removed: i32,
    /// Objects that are recreated.
    pub replaced: i32,
}

/// What a plan foresees, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// Versions that follow after this plan's, up to the wanted one; empty if this plan leads there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<String>,
    /// Repairs that will be made before helm runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<PlannedRepair>,
    /// What the rehearsal could not see: hooks, definitions, objects behind webhooks that know no dry run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_rehearsed: Vec<String>,
    /// How long Coder will be interrupted.
    #[serde(default)]
    pub interruption: Interruption,
    /// How many objects change.
    #[serde(default)]
    pub objects: ObjectCounts,
}

impl Forecast {
    /// How far the operator must be allowed to go for the foreseen repairs.
    #[must_use]
    pub fn needs(&self) -> Recovery {
        self.repairs.iter().map(|repair| repair.remedy.needs()).max().unwrap_or(Recovery::Stop)
    }

    /// Whether a person must approve the repairs by name, whatever spec.recovery allows.
    #[must_use]
    pub fn needs_approval(&self) -> bool {
        self.repairs.iter().any(|repair| repair.needs_approval)
    }

    /// Whether a person must say that nobody works on the release, which time may tell as well.
    #[must_use]
    pub fn lock_is_in_doubt(&self) -> bool {
        self.repairs.iter().any(|repair| repair.needs_approval && repair.remedy == Remedy::Unlock)
    }
}

/// A workload of the release as it was when Coder was verified the last time: whatever changes it afterwards comes from
/// outside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadMark {
    /// Kind of the workload.
    pub kind: String,
    /// Name of the workload.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// Digest of its labels and of its spec, without the number of replicas, which may change.
    pub fingerprint: String,
}
