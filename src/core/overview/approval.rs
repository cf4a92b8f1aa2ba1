//! What a person is asked before something begins that waits for an approval.

use kube::ResourceExt;

use crate::api::{CoderUpgrade, PlanSummary};
use crate::core::plan::preview::{check, counts, interruption, repair};
use crate::core::text::layout::screen;

/// The value that approves what waits, and what it would do; nothing if nothing waits.
#[must_use]
pub fn question(upgrade: &CoderUpgrade) -> Option<(String, String)> {
    let status = upgrade.status.as_ref()?;
    let waiting = status.approval.as_ref()?;
    let (name, namespace) = (upgrade.name_any(), upgrade.namespace().unwrap_or_default());
    let title = format!("CoderUpgrade {name} in namespace {namespace}, Helm release {}\n", upgrade.spec.release);
    let mut facts = vec![
        ("approves", waiting.action.clone()),
        ("interruption", waiting.interruption.clone()),
        ("annotation", waiting.value.clone()),
    ];
    let mut parts = Vec::new();
    if let Some(plan) = &status.plan {
        facts.push(("plan", path(plan)));
        facts.push(("foreseen", interruption(&plan.forecast)));
        facts.push(("objects", counts(plan.forecast.objects)));
        let repairs = plan.forecast.repairs.iter().map(repair).collect();
        parts.push(("Repairs that are made before helm runs".to_owned(), repairs));
        parts.push(("Not rehearsed".to_owned(), plan.forecast.not_rehearsed.clone()));
    }
    parts.push(("Checks".to_owned(), status.checks.iter().flat_map(check).collect()));
    Some((waiting.value.clone(), screen(&title, &facts, parts)))
}

fn path(plan: &PlanSummary) -> String {
    let from = plan.from.as_deref().unwrap_or("nothing");
    let stops = [from, plan.to.as_str()].into_iter().chain(plan.forecast.hops.iter().map(String::as_str));
    format!("{}: {}", plan.id, stops.collect::<Vec<_>>().join(" -> "))
}
