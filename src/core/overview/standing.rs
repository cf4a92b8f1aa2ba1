//! What an upgrade has come to, in one word and one exit code.

use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use crate::api::{CoderUpgrade, CoderUpgradeStatus, ConditionType, FailureClass, Phase, annotation};
use crate::core::gates::dependencies::Sibling;
use crate::core::gates::request;

/// What an upgrade has come to. In the order in which people want to read of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, strum::Display)]
pub enum Standing {
    /// It has failed; a person must cure it.
    Failed,
    /// A person must let it go on.
    Waiting,
    /// It is at work, or goes on by itself.
    Working,
    /// Coder was verified at what the spec asks for.
    Verified,
}

impl Standing {
    /// The exit code. 1 is for what cannot be read.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Verified => 0,
            Self::Failed => 2,
            Self::Waiting => 3,
            Self::Working => 4,
        }
    }

    /// Where the object stands.
    #[must_use]
    pub fn of(upgrade: &CoderUpgrade) -> Self {
        let status = upgrade.status.clone().unwrap_or_default();
        if Sibling::from(upgrade).ready {
            return Self::Verified;
        }
        if !is_present(upgrade, &status) {
            return Self::Working;
        }
        match status.phase {
            Phase::Failed => Self::Failed,
            Phase::AwaitingApproval if is_approved(upgrade, &status) => Self::Working,
            Phase::Suspended | Phase::AwaitingApproval => Self::Waiting,
            _ if holds(&status, ConditionType::Stalled) => Self::Waiting,
            _ => Self::Working,
        }
    }
}

/// Whether the status speaks of what is asked for now, and not of a spec or a request before it.
pub fn is_present(upgrade: &CoderUpgrade, status: &CoderUpgradeStatus) -> bool {
    if Some(status.observed_generation) != upgrade.metadata.generation {
        return false;
    }
    // What is not allowed is recorded with the flags of the controller, which nobody else knows. Without a request nothing was
    // begun.
    let refused = status.failure.as_ref().is_some_and(|failure| failure.class == FailureClass::NotAllowed);
    let requested = upgrade.annotations().get(annotation::REQUESTED_AT).map(String::as_str);
    refused || status.request.is_empty() || status.request == request::digest(&upgrade.spec, requested)
}

/// The annotation that lets it begin is set, and the controller has not looked at it yet.
pub fn is_approved(upgrade: &CoderUpgrade, status: &CoderUpgradeStatus) -> bool {
    let given = upgrade.annotations().get(annotation::APPROVE);
    given.is_some() && given == status.approval.as_ref().map(|approval| &approval.value)
}

/// Whether a condition is true.
pub fn holds(status: &CoderUpgradeStatus, condition: ConditionType) -> bool {
    let name = condition.to_string();
    status.conditions.iter().any(|found| found.type_ == name && found.status == "True")
}
