//! What may be done about a failure, what was done, and what waits for a person's word.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far the operator may go to repair a failed upgrade by itself.
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
    strum::EnumString,
)]
#[strum(ascii_case_insensitive)]
pub enum Recovery {
    /// A failed upgrade is reported only, with what would cure it.
    Stop,
    /// Adopt objects, or replace only the object that is refused.
    #[default]
    Repair,
    /// Uninstall and install again, as the last step.
    Reinstall,
}

/// What the operator can do about a failure, from the smallest to the largest.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Deserialize,
    Serialize,
    JsonSchema,
    strum::Display,
    strum::IntoStaticStr,
    strum::EnumIter,
    strum::EnumMessage,
)]
pub enum Remedy {
    /// Mark the revision as failed that a helm process which is gone left pending.
    Unlock,
    /// Take objects that belong to no Helm release into this one.
    Adopt,
    /// Write the APIs that replaced the removed ones into helm's stored manifest.
    RewriteApis,
    /// Delete the one object that refuses the change, and let helm recreate it.
    Replace,
    /// Enlarge a volume to what the new chart asks for.
    Expand,
    /// Uninstall the release, wait until it is gone, and install it again.
    Reinstall,
}

impl Remedy {
    /// The least `spec.recovery` that allows it.
    #[must_use]
    pub const fn needs(self) -> Recovery {
        match self {
            Self::Reinstall => Recovery::Reinstall,
            _ => Recovery::Repair,
        }
    }
}

/// A repair that was made in this attempt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Repair {
    /// What was done.
    pub remedy: Remedy,
    /// To which object, as Kind/name.
    pub object: String,
    /// Why and how, in a line.
    pub message: String,
    /// When it was begun.
    pub time: Time,
}

/// A plan or a step that waits for a person's approval.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Value of the annotation coderupgrade.dev/approve that lets it begin: the plan's id, or that with a slash and the step.
    pub value: String,
    /// What would be done.
    pub action: String,
    /// What it would interrupt, and for how long.
    pub interruption: String,
}

/// The steps that a person can approve, as they stand behind the slash of the annotation.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema, strum::Display, strum::EnumString,
)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Approvable {
    /// Repairs within the upgrade: adopt, rewrite, replace.
    Repair,
    /// Uninstall and install again.
    Reinstall,
}

/// An object that is still being deleted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingFor {
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// UID of the object: a namesake that was made later is not waited for.
    pub uid: String,
    /// Since when it is being deleted.
    pub since: Time,
    /// The finalizers that hold it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// Who must act; set when it takes unusually long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
}

/// An address that is another one than before.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressChange {
    /// Service or Ingress.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Addresses, cluster IPs and node ports before the upgrade.
    #[serde(default)]
    pub before: Vec<String>,
    /// The same now; empty if it has none any more.
    #[serde(default)]
    pub after: Vec<String>,
    /// Host names whose DNS must point to the new addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}
