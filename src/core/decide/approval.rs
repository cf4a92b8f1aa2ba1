//! What people approve: the plan, its repairs, or a remedy after a failure.

use kube::ResourceExt;

use super::{Draft, recover};
use crate::api::{
    Approvable, Approval, ApprovalMode, CoderUpgradeStatus, Forecast, PlanSummary, PlannedAction, Reason, Recovery,
    Remedy, annotation,
};

/// The annotation, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant<'a> {
    plan: &'a str,
    /// None: the plan as far as spec.recovery allows it.
    step: Option<Approvable>,
}

impl Grant<'_> {
    /// How far it goes beyond spec.recovery.
    pub(super) fn recovery(self) -> Recovery {
        match self.step {
            None => Recovery::Stop,
            Some(Approvable::Repair) => Recovery::Repair,
            Some(Approvable::Reinstall) => Recovery::Reinstall,
        }
    }
}

/// What was approved of the present plan, if anything.
pub(super) fn granted<'a>(draft: &Draft<'a>) -> Option<Grant<'a>> {
    given(draft).and_then(read).filter(|grant| Some(grant.plan) == plan_id(&draft.status))
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

/// Longest value of the annotation that is looked at, in bytes: it may be 256 KiB long, and is kept in status.
const LONGEST: usize = 128;

fn given<'a>(draft: &Draft<'a>) -> Option<&'a str> {
    let text = draft.observed.annotation(annotation::APPROVE)?;
    Some(text.get(..LONGEST).unwrap_or(if text.len() > LONGEST { "…" } else { text }))
}

fn read(text: &str) -> Option<Grant<'_>> {
    let (plan, step) = match text.split_once('/') {
        None => (text, None),
        Some((plan, step)) => (plan, Some(step.parse().ok()?)),
    };
    (!plan.is_empty()).then_some(Grant { plan, step })
}

/// Counts what was approved of a plan that waits to be carried out, and puts on record what is still to be approved.
///
/// Two things may be: with `spec.approval: Manual`, that the plan is carried out at all, once for the whole path to the
/// wanted version; and repairs that the plan foresees and that go beyond spec.recovery, for each plan. To allow the repairs
/// of a plan is to allow the plan, but not the other way round.
pub(super) fn count(draft: &mut Draft) {
    let Some(plan) = draft.status.plan.clone() else { return };
    let manual = draft.observed.upgrade.spec.approval == ApprovalMode::Manual;
    let grant = granted(draft);
    if let Some(grant) = grant {
        draft.status.approved = draft.status.approved.max(grant.step.map(|_| grant.recovery()));
        if manual {
            draft.status.approved_plan.clone_from(&plan.id);
        }
    }
    let needs = plan.forecast.needs();
    let by_name = plan.forecast.needs_approval() && !of_repairs(draft);
    let value = if by_name || needs > recover::allowed(draft) {
        let step = if needs == Recovery::Reinstall { Approvable::Reinstall } else { Approvable::Repair };
        Some(format!("{}/{step}", plan.id))
    } else {
        (manual && draft.status.approved_plan.is_empty()).then(|| plan.id.clone())
    };
    if grant.is_some() && value.is_none() {
        given(draft).unwrap_or_default().clone_into(&mut draft.status.observed_approval);
    }
    let interruption = interruption(&plan.forecast);
    let instead = if needs > recover::allowed(draft) && replaces(&plan) {
        format!(" ({}/{} would uninstall and install again instead)", plan.id, Approvable::Reinstall)
    } else {
        String::new()
    };
    let action = format!("{}{instead}", action(&plan));
    draft.status.approval = value.map(|value| Approval { value, action, interruption });
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

/// What waits, as a person reads it.
pub(super) fn message(draft: &Draft, waiting: &Approval) -> String {
    let plan = plan_id(&draft.status).unwrap_or_default();
    format!(
        "Plan {plan} waits for an approval: {}. Interruption: {} {}",
        waiting.action,
        waiting.interruption,
        how_to_allow(draft, waiting)
    )
}

/// The command that lets it begin.
pub(super) fn how_to_allow(draft: &Draft, waiting: &Approval) -> String {
    let name = draft.observed.upgrade.name_any();
    format!("To allow it: kubectl annotate --overwrite coderupgrade {name} {}={}", annotation::APPROVE, waiting.value)
}

/// Says once why an approval does not count. While there is no plan, nobody can tell: it may be for the next one.
pub(super) fn hear(draft: &mut Draft) {
    let given = given(draft).unwrap_or_default();
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
    let Some(grant) = read(given) else {
        let (repair, reinstall) = (Approvable::Repair, Approvable::Reinstall);
        return Some(format!("it is not of the form PLAN or PLAN/STEP, where STEP is {repair} or {reinstall}"));
    };
    match &draft.status.approval {
        _ if grant.plan != planned => Some(format!("the present plan is {planned}")),
        Some(waiting) if read(&waiting.value).is_some_and(|needed| needed.recovery() > grant.recovery()) => {
            Some(format!("what waits is {}", waiting.value))
        }
        None if draft.status.approved_plan != planned => Some("no step waits for an approval now".into()),
        _ => None,
    }
}

pub(super) fn plan_id(status: &CoderUpgradeStatus) -> Option<&str> {
    status.plan.as_ref().map(|plan| plan.id.as_str())
}
