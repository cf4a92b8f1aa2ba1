//! The conditions, derived from the rest of status.

use super::observed::Observed;
use super::start_failure;
use crate::api::{
    AddressChange, CoderUpgradeStatus, ConditionType, FailureClass, Phase, PlannedAction, Reason, Statement, StepName,
    StepState, set_condition,
};
use crate::core::gates::dependencies::Obstacle;
use crate::core::text::redact;

/// Longest message of a condition in bytes; Kubernetes allows 32768, people read far less.
const MESSAGE_LIMIT: usize = 1024;

/// The steps that bring the release to the planned version.
const CHANGES: [StepName; 2] = [StepName::Upgrade, StepName::Install];

/// Sets every condition again from what status says.
pub fn summarize(observed: &Observed, status: &mut CoderUpgradeStatus) {
    let statements = [ready(observed, status), reconciling(observed, status), stalled(observed, status)]
        .into_iter()
        .chain([planned(status), backed_up(observed, status), upgraded(status), data_kept(status)])
        .chain([address_changed(status), verified(status)]);
    let now = observed.time();
    let generation = status.observed_generation;
    let mut conditions = std::mem::take(&mut status.conditions);
    for mut statement in statements.collect::<Vec<_>>() {
        statement.message = redact::head(&statement.message, MESSAGE_LIMIT);
        set_condition(&mut conditions, statement, generation, &now);
    }
    status.conditions = conditions;
}

fn ready(observed: &Observed, status: &CoderUpgradeStatus) -> Statement {
    let asked = status.request == observed.request();
    let holds = asked && status.phase == Phase::Succeeded;
    let reason = match holds {
        true => success(status),
        false if drift(status) && status.blocked.is_none() => Reason::Drifted.into(),
        false => reason(observed, status),
    };
    let message = match status.drift.as_slice() {
        [] => sentence(status),
        changes => format!("Drift detected: {}. {}", changes.join("; "), sentence(status)),
    };
    Statement { type_: ConditionType::Ready, holds: Some(holds), reason, message }
}

/// A change from outside is why it is not ready, and nothing was begun about it yet.
fn drift(status: &CoderUpgradeStatus) -> bool {
    let waits = matches!(
        status.phase,
        Phase::Planning
            | Phase::Suspended
            | Phase::AwaitingPlace
            | Phase::AwaitingApproval
            | Phase::AwaitingDependency
            | Phase::AwaitingWindow
            | Phase::BackingUp
    );
    (waits || status.drift_answer_at.is_some()) && !status.drift.is_empty()
}

fn reconciling(observed: &Observed, status: &CoderUpgradeStatus) -> Statement {
    let waiting = status.failure.as_ref().is_some_and(|failure| failure.retryable);
    let holds = match status.phase {
        _ if needs_person(observed, status) => false,
        Phase::AwaitingDependency => !in_a_circle(observed),
        Phase::Planning
        | Phase::AwaitingPlace
        | Phase::AwaitingWindow
        | Phase::BackingUp
        | Phase::Upgrading
        | Phase::Repairing
        | Phase::Uninstalling
        | Phase::Draining
        | Phase::Installing
        | Phase::Restoring
        | Phase::Verifying => true,
        Phase::Pending => (waiting || status.drift_answer_at.is_some()) && observed.claimed_by.is_none(),
        Phase::Suspended | Phase::AwaitingApproval | Phase::Succeeded | Phase::Failed => false,
    };
    let reason = if holds { reason(observed, status) } else { Reason::Idle.into() };
    let message = if holds { status.message.clone() } else { String::new() };
    Statement { type_: ConditionType::Reconciling, holds: Some(holds), reason, message }
}

fn stalled(observed: &Observed, status: &CoderUpgradeStatus) -> Statement {
    let claimed = observed.claimed_by.is_some() && status.phase == Phase::Pending;
    let circle = status.phase == Phase::AwaitingDependency && in_a_circle(observed);
    let person = matches!(status.phase, Phase::Failed | Phase::AwaitingApproval) || needs_person(observed, status);
    let holds = person || claimed || circle;
    let reason = if holds { reason(observed, status) } else { Reason::Idle.into() };
    let message = if holds { sentence(status) } else { String::new() };
    Statement { type_: ConditionType::Stalled, holds: Some(holds), reason, message }
}

/// Only a person can cure what keeps the running step from beginning.
fn needs_person(observed: &Observed, status: &CoderUpgradeStatus) -> bool {
    status.blocked.as_ref().is_some_and(|found| start_failure::needs_person(found, observed.now))
}

/// No time cures that upgrades wait for each other.
fn in_a_circle(observed: &Observed) -> bool {
    matches!(observed.obstacle(), Some(Obstacle::Circle(_)))
}

fn planned(status: &CoderUpgradeStatus) -> Statement {
    fact(status, ConditionType::Planned, &[StepName::Plan], Reason::PlanReady)
}

/// Whether what spec.backup asks for was saved for this plan: what, where and when.
fn backed_up(observed: &Observed, status: &CoderUpgradeStatus) -> Statement {
    let type_ = ConditionType::BackedUp;
    let plan = status.plan.as_ref().map(|plan| plan.id.as_str());
    if let Some(record) = status.backup.as_ref().filter(|record| Some(record.plan.as_str()) == plan) {
        let reason = if record.recent { Reason::BackupRecent } else { Reason::BackupSucceeded };
        let message = format!("{}, finished at {}.", record.detail, record.finished.0);
        return Statement { type_, holds: Some(true), reason: reason.into(), message };
    }
    if observed.upgrade.spec.backup.is_none() {
        let message = "spec.backup asks for no backup.".into();
        return Statement { type_, holds: None, reason: Reason::BackupNotRequested.into(), message };
    }
    let mut statement = fact(status, type_, &[StepName::Backup], Reason::BackupSucceeded);
    if statement.holds == Some(true) {
        // It was made for an earlier plan.
        (statement.holds, statement.reason) = (None, Reason::Pending.into());
    }
    statement
}

fn upgraded(status: &CoderUpgradeStatus) -> Statement {
    let type_ = ConditionType::Upgraded;
    // helm itself had succeeded when a verification failed.
    let verification_failed = failed_class(status) == Some(FailureClass::VerificationFailed) && ran_helm(status);
    if status.phase == Phase::Verifying || verification_failed {
        let message = "helm has succeeded.".into();
        return Statement { type_, holds: Some(true), reason: Reason::UpgradeSucceeded.into(), message };
    }
    if nothing_to_do(status) {
        return fact_from_plan(status, type_);
    }
    fact(status, type_, &CHANGES, Reason::UpgradeSucceeded)
}

fn verified(status: &CoderUpgradeStatus) -> Statement {
    let type_ = ConditionType::Verified;
    if nothing_to_do(status) {
        return fact_from_plan(status, type_);
    }
    let mut statement = fact(status, type_, &CHANGES, Reason::Verified);
    // Whatever else failed, nothing was verified then; only a failed verification makes it false.
    if statement.holds == Some(false) && failed_class(status) != Some(FailureClass::VerificationFailed) {
        statement.holds = None;
    }
    statement
}

fn data_kept(status: &CoderUpgradeStatus) -> Statement {
    let type_ = ConditionType::DataKept;
    if failed_class(status) == Some(FailureClass::DataMissing) {
        let reason = FailureClass::DataMissing.into();
        return Statement { type_, holds: Some(false), reason, message: sentence(status) };
    }
    if status.phase != Phase::Succeeded {
        return Statement { type_, holds: None, reason: Reason::Pending.into(), message: String::new() };
    }
    let message = match status.persistent_volume_claims.as_slice() {
        [] => "The release uses no PersistentVolumeClaim.".to_owned(),
        claims => {
            let names: Vec<_> = claims.iter().map(|claim| claim.name.as_str()).collect();
            let notes = claims.iter().filter_map(|claim| Some(format!(" {}: {}", claim.name, claim.note.as_ref()?)));
            format!("Same UID and volume as before: {}.{}", names.join(", "), notes.collect::<String>())
        }
    };
    Statement { type_, holds: Some(true), reason: Reason::VolumesUnchanged.into(), message }
}

fn address_changed(status: &CoderUpgradeStatus) -> Statement {
    let type_ = ConditionType::AddressChanged;
    if !status.address_changes.is_empty() {
        let message = address_changes(&status.address_changes);
        return Statement { type_, holds: Some(true), reason: Reason::AddressChanged.into(), message };
    }
    let (holds, reason) = match status.phase {
        Phase::Succeeded => (Some(false), Reason::AddressesUnchanged),
        _ => (None, Reason::Pending),
    };
    Statement { type_, holds, reason: reason.into(), message: String::new() }
}

/// Which addresses changed, and whose DNS must follow.
pub fn address_changes(changes: &[AddressChange]) -> String {
    let list = |items: &[String]| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
    let each: Vec<String> = changes
        .iter()
        .map(|change| {
            let dns = match change.hosts.as_slice() {
                [] => "update whatever points to it (DNS, load balancers, firewalls)".to_owned(),
                hosts => format!("update the DNS of {}", hosts.join(", ")),
            };
            format!(
                "{}/{} had {} and has {}: {dns}.",
                change.kind,
                change.name,
                list(&change.before),
                list(&change.after)
            )
        })
        .collect();
    each.join(" ")
}

/// A fact that a step establishes.
fn fact(status: &CoderUpgradeStatus, type_: ConditionType, steps: &[StepName], done: Reason) -> Statement {
    let last = status.steps.iter().rev().find(|step| steps.contains(&step.name));
    let (holds, reason, message) = match last.map(|step| (step.state, step.message.clone())) {
        Some((StepState::Succeeded, message)) => (Some(true), done.into(), message),
        Some((StepState::Failed, message)) => {
            (Some(false), failed_class(status).map_or(Reason::Failed.into(), Into::into), message)
        }
        _ => (None, Reason::Pending.into(), String::new()),
    };
    Statement { type_, holds, reason, message }
}

fn fact_from_plan(status: &CoderUpgradeStatus, type_: ConditionType) -> Statement {
    Statement { type_, holds: Some(true), reason: Reason::UpToDate.into(), message: status.message.clone() }
}

fn nothing_to_do(status: &CoderUpgradeStatus) -> bool {
    status.phase == Phase::Succeeded && status.plan.as_ref().is_some_and(|plan| plan.action == PlannedAction::Nothing)
}

fn ran_helm(status: &CoderUpgradeStatus) -> bool {
    status.failure.as_ref().is_some_and(|failure| CHANGES.contains(&failure.step))
}

fn failed_class(status: &CoderUpgradeStatus) -> Option<FailureClass> {
    status.failure.as_ref().map(|failure| failure.class)
}

fn success(status: &CoderUpgradeStatus) -> &'static str {
    if nothing_to_do(status) { Reason::UpToDate.into() } else { Reason::Verified.into() }
}

/// Why it is not ready.
fn reason(observed: &Observed, status: &CoderUpgradeStatus) -> &'static str {
    if let Some(blocked) = &status.blocked {
        return blocked.reason.into();
    }
    match status.phase {
        Phase::Planning => Reason::Planning.into(),
        Phase::Upgrading => Reason::Upgrading.into(),
        Phase::Verifying => Reason::Verifying.into(),
        Phase::Repairing => Reason::Repairing.into(),
        Phase::Uninstalling => Reason::Uninstalling.into(),
        Phase::Draining => Reason::Draining.into(),
        Phase::Installing => Reason::Installing.into(),
        Phase::Restoring => Reason::Restoring.into(),
        Phase::AwaitingApproval => Reason::AwaitingApproval.into(),
        Phase::AwaitingDependency => Reason::AwaitingDependency.into(),
        Phase::AwaitingPlace => Reason::AwaitingPlace.into(),
        Phase::AwaitingWindow => Reason::AwaitingWindow.into(),
        Phase::BackingUp => Reason::BackingUp.into(),
        Phase::Suspended => Reason::Suspended.into(),
        Phase::Pending if observed.claimed_by.is_some() => Reason::ReleaseClaimed.into(),
        Phase::Pending | Phase::Failed | Phase::Succeeded => {
            failed_class(status).map_or(Reason::Pending.into(), Into::into)
        }
    }
}

/// The message, and after a failure what to do about it.
fn sentence(status: &CoderUpgradeStatus) -> String {
    if let Some(blocked) = &status.blocked {
        return with_next_step(&status.message, &blocked.next_step);
    }
    match &status.failure {
        Some(failure) if matches!(status.phase, Phase::Failed | Phase::Pending | Phase::AwaitingApproval) => {
            with_next_step(&status.message, &failure.next_step)
        }
        _ => status.message.clone(),
    }
}

/// A message, and what to do about it, as two sentences.
pub fn with_next_step(message: &str, next_step: &str) -> String {
    let end = if message.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{message}{end} {next_step}")
}
