//! Condition types and their reasons: two closed sets, each member with its meaning.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The conditions in status. The first three follow kstatus, the others are facts of the current attempt.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, strum::Display, strum::IntoStaticStr, strum::EnumIter, strum::EnumMessage,
)]
pub enum ConditionType {
    /// Coder runs at the wanted version and was verified.
    Ready,
    /// The operator is at work, or will be without anybody's help.
    Reconciling,
    /// The operator needs a person to go on.
    Stalled,
    /// There is a plan for the wanted version.
    Planned,
    /// What spec.backup asks for was backed up for this plan.
    BackedUp,
    /// helm brought the release to the planned version.
    Upgraded,
    /// Every `PersistentVolumeClaim` has the UID and the volume that it had before.
    DataKept,
    /// A Service or an Ingress has another address than before; status.addressChanges names the hosts to update.
    AddressChanged,
    /// Every pod answers with the wanted version, on the same data, and went on doing so.
    Verified,
}

/// Why a condition has its status.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, strum::Display, strum::IntoStaticStr, strum::EnumIter, strum::EnumMessage,
)]
pub enum Reason {
    /// The upgrade was made and verified.
    Verified,
    /// The release was at the wanted version with the wanted values before anything was begun.
    UpToDate,
    /// The attempt has not come to this point yet.
    Pending,
    /// The plan is being made.
    Planning,
    /// The plan is made.
    PlanReady,
    /// helm is at work.
    Upgrading,
    /// helm has succeeded.
    UpgradeSucceeded,
    /// What helm was refused for is being repaired.
    Repairing,
    /// The release is being uninstalled.
    Uninstalling,
    /// Slow-to-delete objects are being waited for.
    Draining,
    /// The release is being installed again.
    Installing,
    /// The saved release is being restored.
    Restoring,
    /// The saved release was restored; status.failure says what the upgrade failed for.
    Restored,
    /// A step waits for a person's approval; status.approval says which.
    AwaitingApproval,
    /// Another `CoderUpgrade` must be Ready first.
    AwaitingDependency,
    /// As many upgrades have a Job as the controller allows.
    AwaitingPlace,
    /// The time window is closed.
    AwaitingWindow,
    /// The backup is being made.
    BackingUp,
    /// The backup was made.
    BackupSucceeded,
    /// A backup was there that is recent enough.
    BackupRecent,
    /// `spec.backup` asks for none.
    BackupNotRequested,
    /// A version on the path was reached and verified; the next one is planned.
    HopCompleted,
    /// What was verified has been changed by somebody else; status.drift says what.
    Drifted,
    /// The annotation coderupgrade.dev/approve names another plan or step than the one that waits.
    ApprovalIgnored,
    /// The addresses are the same as before.
    AddressesUnchanged,
    /// An address is another one than before.
    AddressChanged,
    /// The pods are being asked.
    Verifying,
    /// The claims are the same as before.
    VolumesUnchanged,
    /// `spec.suspend` is true.
    Suspended,
    /// An older `CoderUpgrade` in this namespace is for the same release.
    ReleaseClaimed,
    /// A step failed; status.failure says why.
    Failed,
    /// Nothing is to be done.
    Idle,
}

/// What is said of one condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Which condition.
    pub type_: ConditionType,
    /// Whether it holds; `None` where that is not known yet.
    pub holds: Option<bool>,
    /// Why, in a CamelCase word: a [`Reason`] or a [`super::FailureClass`].
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
}

/// Puts a condition into the list. `lastTransitionTime` moves only when the status does.
pub fn set_condition(conditions: &mut Vec<Condition>, statement: Statement, generation: i64, now: &Time) {
    let type_ = statement.type_.to_string();
    let status = statement.holds.map_or("Unknown", |holds| if holds { "True" } else { "False" });
    let previous = conditions.iter().position(|c| c.type_ == type_);
    let since = previous
        .map(|i| &conditions[i])
        .filter(|c| c.status == status)
        .map_or_else(|| now.clone(), |c| c.last_transition_time.clone());
    let condition = Condition {
        type_,
        status: status.into(),
        reason: statement.reason.into(),
        message: statement.message,
        observed_generation: Some(generation),
        last_transition_time: since,
    };
    match previous {
        Some(i) => conditions[i] = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let (early, late) = (time("2026-01-01T00:00:00Z"), time("2026-01-02T00:00:00Z"));
        let ready = |holds, reason| Statement {
            type_: ConditionType::Ready,
            holds: Some(holds),
            reason,
            message: String::new(),
        };
        let mut conditions = Vec::new();
        set_condition(&mut conditions, ready(false, "Planning"), 1, &early);
        set_condition(&mut conditions, ready(false, "Upgrading"), 1, &late);
        assert_eq!((conditions[0].reason.as_str(), &conditions[0].last_transition_time), ("Upgrading", &early));
        set_condition(&mut conditions, ready(true, "Verified"), 1, &late);
        assert_eq!((conditions.len(), &conditions[0].last_transition_time), (1, &late));
    }
}
