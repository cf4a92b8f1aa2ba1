//! What must be so before a planned change begins.

use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::Surroundings;
use crate::api::{Approvable, ApprovalMode, Backup, Phase, Recovery, annotation};
use crate::core::gates::dependencies::{Obstacle, obstacle};
use crate::core::gates::window::{Opening, Schedule};
use crate::core::plan::Plan;

/// What must be so before a planned change begins.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// Field of the spec that asks for it.
    pub field: String,
    /// Whether it is so now.
    pub open: bool,
    /// What it says.
    pub message: String,
}

impl Gate {
    fn new(field: &str, open: bool, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), open, message: message.into() }
    }
}

/// The gates that the spec asks for, in the order in which the operator asks them.
pub fn list(plan: &Plan, around: &Surroundings<'_>) -> Vec<Gate> {
    let spec = &around.upgrade.spec;
    let claimed = around.claimed_by.map(|other| {
        let message = format!("CoderUpgrade {other} is for release {} already. Delete one of the two.", spec.release);
        Gate::new("spec.release", false, message)
    });
    let suspended = spec.suspend.then(|| Gate::new("spec.suspend", false, "Nothing new is begun while it is true."));
    let after = (!spec.depends_on.is_empty()).then(|| after(around));
    [claimed, suspended, after, approved(plan, around), window(around), spec.backup.as_ref().map(backup)]
        .into_iter()
        .flatten()
        .collect()
}

/// The command that allows the plan, or its repairs, if a person must still allow them.
pub fn approval(plan: &Plan, around: &Surroundings<'_>) -> Option<String> {
    let value = wanted(plan, around)?;
    let (name, namespace) = (around.upgrade.name_any(), around.namespace);
    Some(format!("kubectl annotate --overwrite coderupgrade {name} -n {namespace} {}={value}", annotation::APPROVE))
}

/// The value of the annotation that is still to be set.
fn wanted(plan: &Plan, around: &Surroundings<'_>) -> Option<String> {
    let spec = &around.upgrade.spec;
    let given = around.upgrade.annotations().get(annotation::APPROVE).map(String::as_str).unwrap_or_default();
    let (id, step) = given.split_once('/').map_or((given, None), |(id, step)| (id, step.parse().ok()));
    let granted = (id == plan.id).then_some(match step {
        Some(Approvable::Reinstall) => Recovery::Reinstall,
        Some(Approvable::Repair) => Recovery::Repair,
        None => Recovery::Stop,
    });
    let needs = plan.forecast.needs();
    let by_name = plan.forecast.needs_approval() && granted < Some(Recovery::Repair);
    if by_name || needs > spec.recovery.max(granted.unwrap_or(Recovery::Stop)) {
        let step = if needs == Recovery::Reinstall { Approvable::Reinstall } else { Approvable::Repair };
        return Some(format!("{}/{step}", plan.id));
    }
    (spec.approval == ApprovalMode::Manual && granted.is_none()).then(|| plan.id.clone())
}

fn approved(plan: &Plan, around: &Surroundings<'_>) -> Option<Gate> {
    let spec = &around.upgrade.spec;
    let needs = plan.forecast.needs();
    let open = wanted(plan, around).is_none();
    if needs > spec.recovery {
        let message = format!("The repairs need {needs}, which is more than {} allows.", spec.recovery);
        return Some(Gate::new("spec.recovery", open, message));
    }
    if plan.forecast.needs_approval() {
        let message = if plan.forecast.lock_is_in_doubt() {
            "The release is locked: a person must say that no helm process works on it any more."
        } else {
            "What others have put into an object would be lost: a person must approve that."
        };
        return Some(Gate::new("spec.approval", open, message));
    }
    let message = if open { "This plan is approved." } else { "A person must approve this plan." };
    (spec.approval == ApprovalMode::Manual).then(|| Gate::new("spec.approval", open, message))
}

fn after(around: &Surroundings<'_>) -> Gate {
    let message = match obstacle(&around.upgrade.name_any(), &around.upgrade.spec.dependencies(), around.siblings) {
        None => {
            return Gate::new(
                "spec.dependsOn",
                true,
                format!("Ready: {}.", around.upgrade.spec.dependencies().join(", ")),
            );
        }
        Some(Obstacle::Missing(name)) => format!("CoderUpgrade {name} does not exist in this namespace."),
        Some(Obstacle::NotReady(name, Phase::Succeeded)) => format!("CoderUpgrade {name} is not ready."),
        Some(Obstacle::NotReady(name, phase)) => format!("CoderUpgrade {name} is not ready; it is {phase}."),
        Some(Obstacle::Circle(names)) => format!("It goes round in a circle: {}.", names.join(" after ")),
    };
    Gate::new("spec.dependsOn", false, message)
}

fn window(around: &Surroundings<'_>) -> Option<Gate> {
    let window = around.upgrade.spec.window.as_ref()?;
    Some(match Schedule::read(window) {
        Err(problem) => Gate::new("spec.window", false, problem.message),
        Ok(schedule) => match schedule.at(around.now) {
            Opening::Open => Gate::new("spec.window", true, "The window is open."),
            Opening::ClosedUntil(opens) => {
                Gate::new("spec.window", false, format!("The window opens on {}.", schedule.shown(opens)))
            }
        },
    })
}

fn backup(backup: &Backup) -> Gate {
    let what = match (&backup.cron_job, &backup.volume_snapshot_class) {
        (Some(name), _) => format!("A Job of CronJob/{name} must succeed first"),
        (None, Some(class)) => format!("Snapshots of the release's claims must be ready first (class {class})"),
        (None, None) => "A backup must be made first".into(),
    };
    let recent = backup.max_age.map(|age| {
        let minutes = std::time::Duration::from(age).as_secs().div_ceil(60);
        format!("; one that is not older than {} counts", duration(minutes))
    });
    Gate::new("spec.backup", true, format!("{what}{}.", recent.unwrap_or_default()))
}

/// A number of minutes as people write it.
fn duration(minutes: u64) -> String {
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes}m"),
        (hours, 0) => format!("{hours}h"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    }
}
