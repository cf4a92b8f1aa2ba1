//! Where an upgrade stands, on one screen: what the command `status` shows.

mod approval;
mod history;
mod list;
mod rollout;
mod standing;
mod text;
mod timeline;
mod waits;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

pub use self::approval::question;
pub use self::history::history;
pub use self::list::list;
pub use self::rollout::{PodLine, RolloutLine};
pub use self::standing::Standing;
pub use self::timeline::StepLine;
pub use self::waits::OverviewWait;
use crate::api::{
    AddressChange, ClaimStatus, CoderUpgrade, ConditionType, Exposure, Failure, Finding, Installed, Phase, Repair,
};
use crate::core::rollout::workload::{PodFacts, WorkloadFacts};

/// What is known of an upgrade.
#[derive(Clone, Copy, Debug)]
pub struct OverviewInput<'a> {
    /// The object.
    pub upgrade: &'a CoderUpgrade,
    /// The workloads of the release.
    pub workloads: &'a [WorkloadFacts],
    /// Their pods.
    pub pods: &'a [PodFacts],
    /// Why workloads or pods are not known.
    pub unseen: Option<&'a str>,
    /// How this program is called: `kubectl coder-upgrade`.
    pub program: &'a str,
    /// The present time.
    pub now: Timestamp,
}

impl OverviewInput<'_> {
    /// A command of this program for the object.
    fn command(&self, verb: &str, name: Option<&str>) -> String {
        let name = name.map(|name| format!(" {name}")).unwrap_or_default();
        let namespace = self.upgrade.namespace().unwrap_or_default();
        format!("{} {verb}{name} -n {namespace}", self.program)
    }
}

/// Where an upgrade stands.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// What it has come to.
    pub standing: Standing,
    /// Where it stands, in a word.
    pub phase: Phase,
    /// Where it stands, in a line.
    pub message: String,
    /// Name of the `CoderUpgrade`.
    pub upgrade: String,
    /// Namespace of the release.
    pub namespace: String,
    /// Name of the Helm release.
    pub release: String,
    /// What is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<Installed>,
    /// The version that is wanted; none while the newest one is not looked up yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// Id of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// What was verified, for example "2 pods answer 2.31.7, same deployment".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<String>,
    /// Number of the attempt.
    pub attempt: i32,
    /// What it waits for.
    pub waits: Vec<OverviewWait>,
    /// Why it does not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The timeline of the attempt.
    pub steps: Vec<StepLine>,
    /// What was repaired in this attempt.
    pub repairs: Vec<Repair>,
    /// The workloads of the release.
    pub rollout: Vec<RolloutLine>,
    /// Their pods.
    pub pods: Vec<PodLine>,
    /// Why workloads or pods are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<String>,
    /// What was changed from outside since Coder was verified.
    pub drift: Vec<String>,
    /// The claims of the release, as seen last.
    pub persistent_volume_claims: Vec<ClaimStatus>,
    /// Services and Ingresses of the release with their addresses, as seen last.
    pub addresses: Vec<Exposure>,
    /// The addresses that the upgrade changed.
    pub address_changes: Vec<AddressChange>,
    /// Warnings and refusals of the last plan.
    pub checks: Vec<Finding>,
}

impl Overview {
    /// What the object says, with what runs.
    #[must_use]
    pub fn of(input: &OverviewInput<'_>) -> Self {
        let upgrade = input.upgrade;
        let status = upgrade.status.clone().unwrap_or_default();
        let standing = Standing::of(upgrade);
        let verified = ConditionType::Verified.to_string();
        let verified = status.conditions.iter().find(|c| c.type_ == verified && c.status == "True");
        Self {
            standing,
            phase: status.phase,
            message: status.message.clone(),
            upgrade: upgrade.name_any(),
            namespace: upgrade.namespace().unwrap_or_default(),
            release: upgrade.spec.release.clone(),
            wanted: upgrade.spec.version.clone().or_else(|| Some(status.target.as_ref()?.version.clone())),
            plan: status.plan.as_ref().map(|plan| plan.id.clone()),
            verified: verified.map(|condition| condition.message.clone()).filter(|text| !text.is_empty()),
            attempt: status.attempt,
            waits: waits::waits(input, &status),
            steps: timeline::steps(&status.steps, &upgrade.spec, input.now),
            rollout: rollout::workloads(input.workloads),
            pods: rollout::pods(input.pods),
            unseen: input.unseen.map(ToOwned::to_owned),
            installed: status.current,
            failure: status.failure,
            repairs: status.repairs,
            drift: status.drift,
            persistent_volume_claims: status.persistent_volume_claims,
            addresses: status.addresses,
            address_changes: status.address_changes,
            checks: status.checks,
        }
    }

    /// As a person reads it at a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        text::render(self)
    }

    /// What is new since it looked like that, in a line for a log; nothing if nothing is.
    #[must_use]
    pub fn news(&self, before: Option<&Self>) -> Option<String> {
        text::news(self, before)
    }
}
