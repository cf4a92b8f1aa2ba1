//! What people approve: the plan, its repairs, or a remedy after a failure.

use super::Draft;
use crate::api::{
    Approvable, Approval, ApprovalMode, CoderUpgradeStatus, Forecast, PlanSummary, PlannedAction, Reason, Recovery,
    Remedy,
};
use crate::core::gates::approval::{ApprovalState, Remembered, judge};
use crate::core::gates::grant::{Grant, given};

/// What was approved of the present plan, if anything.
pub(super) fn granted<'a>(draft: &Draft<'a>) -> Option<Grant<'a>> {
    Grant::of(&draft.observed.upgrade, plan_id(&draft.status)?)
}

/// Whether the plan waits for a person's word about the lock of somebody else.
pub(super) fn lock_is_in_doubt(draft: &Draft) -> bool {
    let locked = draft.status.plan.as_ref().is_some_and(|plan| plan.forecast.lock_is_in_doubt());
    locked && !of_repairs(draft)
}

/// Whether a person has approved the repairs of this plan by name.
pub(super) fn of_repairs(draft: &Draft) -> bool {
    let now = granted(draft).map(Grant::recovery);
    draft.status.approved.max(now) >= Some(Recovery::Repair)
}

/// Counts what was approved of a plan that waits to be carried out, and records what is still to be approved.
pub(super) fn count(draft: &mut Draft) {
    let Some(plan) = draft.status.plan.clone() else { return };
    let upgrade = &draft.observed.upgrade;
    let ApprovalState { repairs, granted, missing } =
        judge(upgrade, Remembered::of(&draft.status), &plan.id, &plan.forecast);
    draft.status.approved = repairs;
    if granted && upgrade.spec.approval == ApprovalMode::Manual {
        draft.status.approved_plan.clone_from(&plan.id);
    }
    if granted && missing.is_none() {
        given(upgrade).unwrap_or_default().clone_into(&mut draft.status.observed_approval);
    }
    let needs = plan.forecast.needs();
    let interruption = interruption(&plan.forecast);
    let instead = if needs > allowed(draft) && replaces(&plan) {
        format!(" ({}/{} would uninstall and install again instead)", plan.id, Approvable::Reinstall)
    } else {
        String::new()
    };
    let action = format!("{}{instead}", action(&plan));
    draft.status.approval = missing.map(|value| Approval { value, action, interruption });
}

/// Whether a person wants the reinstall instead of the foreseen replacement of an object.
pub(super) fn reinstalls(draft: &Draft) -> bool {
    let wanted = granted(draft).is_some_and(|grant| grant.step == Some(Approvable::Reinstall));
    wanted && draft.status.plan.as_ref().is_some_and(replaces)
}

/// Whether a plan replaces an object of an installed release, where a reinstall is the other way.
fn replaces(plan: &PlanSummary) -> bool {
    plan.from.is_some() && plan.forecast.repairs.iter().any(|repair| repair.remedy == Remedy::Replace)
}

/// What carrying out a plan would do.
fn action(plan: &PlanSummary) -> String {
    let repairs = plan.forecast.repairs.iter();
    let repairs: Vec<String> =
        repairs.map(|repair| format!("{} {}", repair.remedy, repair.object).trim_end().to_owned()).collect();
    let first = if repairs.is_empty() { String::new() } else { format!("; before helm runs: {}", repairs.join(", ")) };
    let then = match plan.forecast.hops.as_slice() {
        [] => String::new(),
        hops => format!("; then on to {}", hops.join(", ")),
    };
    match (plan.action, &plan.from) {
        (PlannedAction::Upgrade, Some(from)) => format!("upgrade from {from} to {}{first}{then}", plan.to),
        _ => format!("install {}{first}{then}", plan.to),
    }
}

fn interruption(forecast: &Forecast) -> String {
    let foreseen = &forecast.interruption;
    match foreseen.reason.as_str() {
        "" => format!("{}.", foreseen.length),
        reason => format!("{}: {reason}", foreseen.length),
    }
}

/// Says once why an approval does not count. While there is no plan, nobody can tell: it may be for the next one.
pub(super) fn report_ignored(draft: &mut Draft) {
    let given = given(&draft.observed.upgrade).unwrap_or_default();
    let Some(planned) = plan_id(&draft.status) else { return };
    if draft.status.observed_approval == given {
        return;
    }
    let ignored = ignored(draft, given, planned);
    given.clone_into(&mut draft.status.observed_approval);
    if let Some(why) = ignored {
        let message = format!("The approval {given:?} is ignored: {why}.");
        draft.warn(Reason::ApprovalIgnored.into(), "Approve", message);
    }
}

fn ignored(draft: &Draft, given: &str, planned: &str) -> Option<String> {
    if given.is_empty() {
        return None;
    }
    let Some(grant) = Grant::parse(given) else {
        let (repair, reinstall) = (Approvable::Repair, Approvable::Reinstall);
        return Some(format!("it is not of the form PLAN or PLAN/STEP, where STEP is {repair} or {reinstall}"));
    };
    match &draft.status.approval {
        _ if grant.plan != planned => Some(format!("the present plan is {planned}")),
        Some(waiting) if Grant::parse(&waiting.value).is_some_and(|needed| needed.recovery() > grant.recovery()) => {
            Some(format!("what waits is {}", waiting.value))
        }
        None if draft.status.approved_plan != planned => Some("no step waits for an approval now".into()),
        _ => None,
    }
}

pub(super) fn plan_id(status: &CoderUpgradeStatus) -> Option<&str> {
    status.plan.as_ref().map(|plan| plan.id.as_str())
}

/// How far this attempt may go: what the spec allows, or a person has approved.
pub(super) fn allowed(draft: &Draft) -> Recovery {
    draft.observed.upgrade.spec.recovery.max(draft.status.approved.unwrap_or(Recovery::Stop))
}
