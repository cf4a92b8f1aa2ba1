//! What the runner says to the controller: one JSON document in an annotation of the runner's own Job.
//!
//! It never holds values of the release. Texts from helm and from pods are redacted before they come here.

use serde::{Deserialize, Serialize};

use crate::api::{
    AddressChange, BackupRecord, ClaimStatus, Exposure, FailureClass, Finding, Installed, PlanSummary, Remedy, Repair,
    ScaledDown, Target, WaitingFor, WorkloadMark,
};

/// Greatest length of [`Problem::message`] and [`Problem::excerpt`] in bytes. All annotations of an object together may
/// take 256 KiB, and status keeps these texts too.
pub const TEXT_LIMIT: usize = 4096;

/// Progress while a step runs; its outcome at the end.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub struct Report {
    /// One line for people, for example "Deployment/coder: 1 of 3 pods updated".
    #[serde(default)]
    pub progress: String,
    /// helm has ended well and the pods are being asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verifying: bool,
    /// A repair is being made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repairing: bool,
    /// What was repaired, each written before it was begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<Repair>,
    /// A pod of the new version may have started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub started: bool,
    /// The step has left workloads of the new version behind, of which a pod may start later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_start: bool,
    /// helm was started with a command that changes the release. Written before it is started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub helm_started: bool,
    /// Workloads that are scaled to zero now, each written before it is done and taken out once its replicas are back; none
    /// while the step has not come to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled_down: Option<Vec<ScaledDown>>,
    /// Set once, as the last thing the runner does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The plan is made and saved. If it says that nothing is to be done, what runs was verified as well.
    Planned(Box<Planned>),
    /// What spec.backup asks for is backed up.
    BackedUp(BackupRecord),
    /// The release is at the target and was verified.
    Upgraded(Upgraded),
    /// The release is uninstalled, with its records kept.
    Uninstalled(Uninstalled),
    /// The saved release is back, and runs.
    Restored(Upgraded),
    /// The step failed.
    Failed(Problem),
}

/// The plan that was made.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// The plan in short.
    pub plan: PlanSummary,
    /// The installed release; none for a first install.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Installed>,
    /// The wanted version.
    pub target: Target,
    /// The claims of the release.
    #[serde(default)]
    pub claims: Vec<ClaimStatus>,
    /// `LoadBalancer` Services and Ingresses of the release.
    #[serde(default)]
    pub exposures: Vec<Exposure>,
    /// What the checks found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The workloads of the release as they were verified, if nothing is to be done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadMark>,
}

/// The upgrade that was made and verified.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Upgraded {
    /// The release as it is now.
    pub current: Installed,
    /// What was verified, as a line for people: "2 pods answer 2.31.7, same deployment".
    pub verified: String,
    /// The claims of the release, checked against the plan.
    #[serde(default)]
    pub claims: Vec<ClaimStatus>,
    /// `LoadBalancer` Services and Ingresses of the release.
    #[serde(default)]
    pub exposures: Vec<Exposure>,
    /// Addresses that are not what the plan found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address_changes: Vec<AddressChange>,
    /// The workloads of the release as they were verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadMark>,
}

/// The release that was uninstalled.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Uninstalled {
    /// The newest record of the release.
    pub current: Installed,
    /// What helm keeps for the install that follows, as Kind/name.
    #[serde(default)]
    pub kept: Vec<String>,
    /// Objects of the release that are still being deleted, and pods that still hold a volume of it.
    #[serde(default)]
    pub leftovers: Vec<WaitingFor>,
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Class of the failure.
    pub class: FailureClass,
    /// Object that it is about, as Kind/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Field that it is about: of the `CoderUpgrade` (spec.version) or of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What happened, in the words of helm or of the API server where they said it; at most [`TEXT_LIMIT`] bytes.
    pub message: String,
    /// Lines of a pod's log that explain it; at most [`TEXT_LIMIT`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
    /// Whether helm's records of the release were changed by this step. Only such failures count against the limit.
    #[serde(default)]
    pub changed: bool,
    /// Every object that the newest record of the release names exists and is not being deleted, and the record does not
    /// speak of an uninstall. Only what was looked at counts: false if it could not be found out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// What could cure it beyond what the step has done: the smallest remedy that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Remedy>,
    /// What the checks found, if the plan was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The release as the step left it, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Installed>,
}

impl Problem {
    /// A problem of which only the class and the words are known.
    #[must_use]
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            class,
            object: None,
            field: None,
            message: message.into(),
            excerpt: None,
            changed: false,
            whole: false,
            remedy: None,
            findings: Vec::new(),
            current: None,
        }
    }

    /// The same, about an object (Kind/name).
    #[must_use]
    pub fn object(self, object: impl Into<String>) -> Self {
        Self { object: Some(object.into()), ..self }
    }

    /// The same, about a field.
    #[must_use]
    pub fn field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// For `Err`: a problem is large, and results mostly are not problems.
    #[must_use]
    pub fn boxed(self) -> Box<Self> {
        Box::new(self)
    }
}
