//! What a plan asks of people, and what of it they must still allow.
//!
//! Two things may be asked: with `spec.approval: Manual`, that the plan is carried out at all, once for the whole path to the
//! wanted version; and repairs that the plan foresees and that go beyond spec.recovery, for each plan. To allow the repairs of a
//! plan is to allow the plan, but not the other way round.

use kube::ResourceExt;

use super::grant::Grant;
use crate::api::{
    Approvable, Approval, ApprovalMode, CoderUpgrade, CoderUpgradeSpec, CoderUpgradeStatus, Forecast, Phase, Recovery,
    annotation,
};

/// What was allowed before, as the status remembers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// How far the repairs of this very plan may go.
    pub repairs: Option<Recovery>,
    /// An earlier plan on the path to the wanted version was allowed.
    pub path: bool,
}

impl Remembered {
    /// Of the plan in the status.
    pub fn of(status: &CoderUpgradeStatus) -> Self {
        Self { repairs: status.approved, path: !status.approved_plan.is_empty() }
    }

    /// Of a plan that is made now for what is asked now, of which `request` is the digest. What was allowed for another request,
    /// or for a change that has ended, does not count.
    pub fn of_new_plan(status: &CoderUpgradeStatus, request: &str, plan: &str) -> Self {
        if status.request != request || matches!(status.phase, Phase::Succeeded | Phase::Failed) {
            return Self::default();
        }
        let same = status.plan.as_ref().is_some_and(|known| known.id == plan);
        let Self { repairs, path } = Self::of(status);
        Self { repairs: repairs.filter(|_| same), path }
    }
}

/// What people have said of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalState {
    /// How far its repairs may go beyond spec.recovery.
    pub repairs: Option<Recovery>,
    /// The annotation speaks of this plan.
    pub granted: bool,
    /// The value of the annotation that is still to be set.
    pub missing: Option<String>,
}

/// Judges what the annotation says, and the status remembers, about a plan.
pub fn judge(upgrade: &CoderUpgrade, before: Remembered, plan: &str, forecast: &Forecast) -> ApprovalState {
    let spec = &upgrade.spec;
    let grant = Grant::of(upgrade, plan);
    let repairs = before.repairs.max(grant.and_then(|grant| grant.step.map(|_| grant.recovery())));
    let needs = forecast.needs();
    let by_name = forecast.needs_approval() && repairs < Some(Recovery::Repair);
    let missing = if by_name || needs > spec.recovery.max(repairs.unwrap_or(Recovery::Stop)) {
        let step = if needs == Recovery::Reinstall { Approvable::Reinstall } else { Approvable::Repair };
        Some(format!("{plan}/{step}"))
    } else {
        let manual = spec.approval == ApprovalMode::Manual && !before.path && grant.is_none();
        manual.then(|| plan.to_owned())
    };
    ApprovalState { repairs, granted: grant.is_some(), missing }
}

/// What a plan asks of people, whether they have allowed it or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedFor {
    /// The field of the spec because of which it does.
    pub field: &'static str,
    /// What a person must allow.
    pub message: String,
}

/// What a plan asks of people.
pub fn asked_for(spec: &CoderUpgradeSpec, forecast: &Forecast) -> Option<AskedFor> {
    let needs = forecast.needs();
    let (field, message) = if needs > spec.recovery {
        ("spec.recovery", format!("The repairs need {needs}, which is more than {} allows.", spec.recovery))
    } else if forecast.lock_is_in_doubt() {
        let message = "The release is locked: a person must say that no helm process works on it any more.";
        ("spec.approval", message.to_owned())
    } else if forecast.needs_approval() {
        let message = "What others have put into an object would be lost: a person must approve that.";
        ("spec.approval", message.to_owned())
    } else if spec.approval == ApprovalMode::Manual {
        ("spec.approval", "A person must approve this plan.".to_owned())
    } else {
        return None;
    };
    Some(AskedFor { field, message })
}

/// The command that sets the annotation.
pub fn command(name: &str, namespace: &str, value: &str) -> String {
    format!("kubectl annotate --overwrite coderupgrade {name} -n {namespace} {}={value}", annotation::APPROVE)
}

/// What waits, as a person reads it.
pub fn message(plan: &str, upgrade: &CoderUpgrade, waiting: &Approval) -> String {
    let how = how_to_allow(upgrade, waiting);
    format!("Plan {plan} waits for an approval: {}. Interruption: {} {how}", waiting.action, waiting.interruption)
}

/// The command that lets it begin, as a sentence.
pub fn how_to_allow(upgrade: &CoderUpgrade, waiting: &Approval) -> String {
    let namespace = upgrade.namespace().unwrap_or_default();
    format!("To allow it: {}", command(&upgrade.name_any(), &namespace, &waiting.value))
}
