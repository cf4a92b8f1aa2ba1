//! What must be so before a planned change begins.

use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::PreviewInput;
use crate::api::Backup;
use crate::core::gates::approval::{self, Remembered};
use crate::core::gates::{self, BEFORE_A_CHANGE, GateFacts, GateState, PlannedChange};
use crate::core::plan::Plan;
use crate::core::text::duration::span;

/// What must be so before a planned change begins.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatePreview {
    /// Field of the spec that asks for it.
    pub field: String,
    /// Whether it is so now.
    pub open: bool,
    /// What it says.
    pub message: String,
}

impl GatePreview {
    fn new(field: &str, open: bool, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), open, message: message.into() }
    }
}

/// The gates that the spec asks for, in the order in which the operator asks them.
pub fn list(plan: &Plan, around: &PreviewInput<'_>) -> Vec<GatePreview> {
    let spec = &around.upgrade.spec;
    let asked = approval::asked_for(spec, &plan.forecast).filter(|_| wanted(plan, around).is_some());
    let facts = GateFacts {
        upgrade: around.upgrade,
        claimed_by: around.claimed_by,
        siblings: around.siblings,
        plan: Some(PlannedChange {
            forecast: &plan.forecast,
            waiting: asked.as_ref().map(|asked| asked.message.as_str()),
        }),
        now: around.now,
    };
    let shown = |gate: gates::Gate| {
        let field = gate.field(&facts)?;
        Some(match gate.ask(&facts) {
            GateState::Open => GatePreview::new(field, true, gate.passed(&facts)),
            GateState::Closed(closed) => GatePreview::new(field, false, closed.message),
            GateState::Broken(problem) => GatePreview::new(field, false, problem.message),
        })
    };
    BEFORE_A_CHANGE.into_iter().filter_map(shown).chain(spec.backup.as_ref().map(backup)).collect()
}

/// The command that allows the plan, or its repairs, if a person must still allow them.
pub fn command(plan: &Plan, around: &PreviewInput<'_>) -> Option<String> {
    let value = wanted(plan, around)?;
    Some(approval::command(&around.upgrade.name_any(), around.namespace, &value))
}

/// The value of the annotation that is still to be set.
fn wanted(plan: &Plan, around: &PreviewInput<'_>) -> Option<String> {
    let status = around.upgrade.status.as_ref();
    let before = status.map(|status| Remembered::of_new_plan(status, around.request, &plan.id)).unwrap_or_default();
    approval::judge(around.upgrade, before, &plan.id, &plan.forecast).missing
}

fn backup(backup: &Backup) -> GatePreview {
    let what = match (&backup.cron_job, &backup.volume_snapshot_class) {
        (Some(name), _) => format!("A Job of CronJob/{name} must succeed first"),
        (None, Some(class)) => format!("Snapshots of the release's claims must be ready first (class {class})"),
        (None, None) => "A backup must be made first".into(),
    };
    let recent = backup.max_age.map(|age| format!("; one that is not older than {} counts", span(age.into())));
    GatePreview::new("spec.backup", true, format!("{what}{}.", recent.unwrap_or_default()))
}
