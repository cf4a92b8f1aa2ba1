//! The Secrets with the plan, as they are mounted into the Jobs that change something.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::api::FailureClass;
use crate::core::helm::history::History;
use crate::core::plan::parts::{self, FileIndex};
use crate::core::plan::{Plan, key};
use crate::core::report::Problem;
use crate::core::steps::upgrade::follows_failure;
use crate::core::text::bounded;
use crate::core::text::digest::hex;
use crate::runner::cluster::pod_secrets;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::record::Record;
use crate::runner::helm::storage::Storage;
use crate::runner::io;

/// Where the files of the plan lie whole. If the plan takes more than one Secret, they are put together in the work directory
/// first, each of them only if it is the file of which the first Secret has the digest.
pub async fn whole(ctx: &Context, mounted: &Path) -> Result<PathBuf, Error> {
    let Some(index) = io::read_existing(&mounted.join(parts::INDEX)).await? else { return Ok(mounted.to_owned()) };
    let index = FileIndex::read(&index).map_err(|why| missing(format!("{} of the plan {why}", parts::INDEX)))?;
    let directory = ctx.work_dir.join("plan");
    io::create_dir(&directory).await?;
    for file in key::ALL {
        let Some(entry) = index.entry(file) else { continue };
        let mut content = Vec::new();
        for (number, key) in entry.pieces(file) {
            let piece = io::read_existing(&mounted.join(&key)).await?;
            let gone = || missing(format!("the Secret with part {number} of the plan is gone, or has no {key}"));
            content.extend(piece.ok_or_else(gone)?);
        }
        if !entry.is_of(&content) {
            let numbers: Vec<String> = entry.pieces(file).map(|(number, _)| number.to_string()).collect();
            let numbers = numbers.join(" or ");
            return Err(
                missing(format!("the Secret with part {numbers} of the plan has the {file} of another plan")).into()
            );
        }
        io::write_private(&directory.join(file), &content).await?;
    }
    Ok(directory)
}

fn missing(message: impl Into<String>) -> Box<Problem> {
    Problem::new(FailureClass::PlanMissing, message).boxed()
}

/// Reads the plan and checks that its files belong together. What it holds of values is hidden from then on.
pub async fn read_plan(ctx: &Context, directory: &Path) -> Result<Plan, Error> {
    if !directory.join(key::PLAN).exists() {
        let message = "the Secret with the plan is gone: somebody deleted it in the middle of the change";
        return Err(missing(message).into());
    }
    let plan: Plan = bounded::json(&io::read(&directory.join(key::PLAN)).await?)
        .map_err(|why| Error::Plan(format!("{} {why}", key::PLAN)))?;
    if let Some(key) = plan.files().find(|key| !directory.join(key).exists()) {
        return Err(missing(format!("the Secret with the plan has no {key}")).into());
    }
    let digest = hex(&Sha256::digest(io::read(&directory.join(key::CHART)).await?));
    if digest != plan.chart_digest {
        return Err(Error::Plan(format!("the chart has the digest {digest} instead of {}", plan.chart_digest)));
    }
    let values: Value = bounded::json(&io::read(&directory.join(key::VALUES)).await?)
        .map_err(|why| Error::Plan(format!("{} {why}", key::VALUES)))?;
    ctx.secrets.hide_values(&values);
    if let Some(record) = read_previous(&plan, directory).await? {
        ctx.secrets.hide_values(&Value::Object(record.values()));
        pod_secrets::of_record(ctx, &record).await;
    }
    tracing::Span::current().record("plan", &plan.id);
    tracing::info!("plan {}: release {} to {} {}", plan.id, plan.release, plan.chart_name, plan.version);
    Ok(plan)
}

/// Reads helm's record of the release before the change; none if the plan is for a first install.
pub async fn read_previous(plan: &Plan, directory: &Path) -> Result<Option<Record>, Error> {
    if plan.from.is_none() {
        return Ok(None);
    }
    let record = Record::decode(&io::read(&directory.join(key::PREVIOUS_RELEASE)).await?);
    record.map(Some).map_err(|e| Error::Plan(format!("{} {e}", key::PREVIOUS_RELEASE)))
}

/// Whether the newest revision is the saved release once more, after a failure of this plan: same chart, same values.
pub async fn is_restored(
    plan: &Plan,
    storage: &Storage,
    history: &History,
    saved: Option<&Record>,
) -> Result<bool, Error> {
    let newest = history.first().filter(|_| follows_failure(plan, history));
    let (Some(newest), Some(saved)) = (newest, saved) else { return Ok(false) };
    let now = storage.read(newest).await?.record;
    Ok(now.same_chart(saved) && now.values() == saved.values())
}
