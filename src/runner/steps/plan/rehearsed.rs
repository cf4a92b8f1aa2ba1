//! The rehearsal as the plan takes it: what helm would install, what is to be done, and whether it may be tried at all.

use std::path::{Path, PathBuf};

use super::release::Release;
use super::values;
use super::values::{ValuesFile, explain};
use crate::api::{FailureClass, PlannedAction};
use crate::core::helm::documents::Documents;
use crate::core::plan::additions;
use crate::core::plan::rehearsal::{Rehearsal, conflicting_managers, edited_by_hand};
use crate::core::plan::replicas;
use crate::core::plan::replicas::{KeptReplicas, ReplicasSource};
use crate::core::report::Problem;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::record::Record;
use crate::runner::steps::plan::rehearsal::{Rehearsed, Script, rehearse};

/// What the rehearsal tells the plan.
pub struct Outlook {
    /// What helm would install.
    pub rendered: Record,
    /// Its objects.
    pub objects: Documents,
    /// What is to be done.
    pub action: PlannedAction,
    /// What helm would do; no repairs if nothing is to be done.
    pub rehearsal: Rehearsal,
    /// The numbers of replicas that somebody else has set.
    pub kept: Vec<KeptReplicas>,
    /// The values from which the chart takes the numbers of replicas.
    pub replicas: Vec<ReplicasSource>,
}

/// Rehearses the upgrade of what is installed to this chart with these values. Fails if the chart cannot be rendered; what
/// the API server refuses stands in the rehearsal.
///
/// If somebody else has set numbers of replicas that the upgrade would change, it is rehearsed again with the values that keep
/// them.
pub async fn outlook(
    ctx: &Context,
    release: &str,
    chart: &Path,
    files: Vec<ValuesFile>,
    installed: &Release,
    stored: &Documents,
) -> Result<Outlook, Error> {
    let mut files = files;
    let mut outlook = once(ctx, release, chart, &files, installed, stored).await?;
    let scaled = replicas::scaled(&outlook.rehearsal, stored, &outlook.objects);
    if scaled.is_empty() || outlook.action == PlannedAction::Nothing {
        return Ok(outlook);
    }
    let mut kept: Vec<KeptReplicas> =
        scaled.into_iter().map(|scaled| KeptReplicas::by(scaled, &outlook.replicas)).collect();
    let overlay = replicas::overlay(&kept);
    if !overlay.is_empty() {
        files.push(values::replicas(ctx, overlay).await?);
        outlook = once(ctx, release, chart, &files, installed, stored).await?;
        replicas::confirm(&mut kept, &outlook.objects);
    }
    if outlook.action != PlannedAction::Nothing {
        outlook.kept = kept;
    }
    Ok(outlook)
}

async fn once(
    ctx: &Context,
    release: &str,
    chart: &Path,
    files: &[ValuesFile],
    installed: &Release,
    stored: &Documents,
) -> Result<Outlook, Error> {
    let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
    let script =
        Script { release, chart, values: &paths, installs: installed.from().is_none(), locked: installed.locked() };
    let Rehearsed { record, mut rehearsal, failure } = Box::pin(rehearse(ctx, &script)).await?;
    let Some(rendered) = record else {
        return Err(failure.map_or_else(
            || Problem::new(FailureClass::Unknown, "helm succeeded and wrote no record of the release").into(),
            |failure| explain(files, failure),
        ));
    };
    let objects = Documents::parse(rendered.manifest(), &ctx.namespace)?;
    let mut action = installed.action(&rendered);
    if action == PlannedAction::Nothing {
        let edited_by_hand: Vec<String> =
            edited_by_hand(&rehearsal, stored, &objects).iter().map(ToString::to_string).collect();
        if !edited_by_hand.is_empty() || conflicting_managers(&rehearsal.refusals).next().is_some() {
            tracing::info!("chart and values are the same, but objects are not: {}", edited_by_hand.join(", "));
            action = PlannedAction::Upgrade;
        }
    }
    match failure {
        // What helm would be refused for does not matter: it is not run.
        _ if action == PlannedAction::Nothing => rehearsal.repairs.clear(),
        Some(failure) if rehearsal.refusals.is_empty() => return Err(explain(files, failure)),
        // The checks tell of the refusals.
        _ => {}
    }
    additions::need_approval(&mut rehearsal, stored, &objects);
    tracing::info!("rehearsed: {} writes, {} repairs", rehearsal.writes.len(), rehearsal.repairs.len());
    let unreadable = |error| Problem::new(FailureClass::ChartInvalid, format!("the rendered release {error}"));
    let metadata = rendered.chart().map_err(unreadable)?;
    let under = metadata.wrapped.as_ref().map(|wrapped| wrapped.under.as_str());
    let replicas = replicas::sources(&objects, &rendered.values(), rendered.chart_part("values"), under);
    Ok(Outlook { rendered, objects, action, rehearsal, kept: Vec::new(), replicas })
}
