//! The plan Secret, as it is mounted into the Jobs that change something.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::api::FailureClass;
use crate::core::helm::history::{History, follows_failure};
use crate::core::plan::{Plan, key};
use crate::core::report::Problem;
use crate::core::text::bounded;
use crate::core::text::digest::hex;
use crate::runner::cluster::pod_secrets;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::record::Record;
use crate::runner::helm::storage::Storage;
use crate::runner::io;

/// Reads the plan Secret and checks that its parts belong together. What it holds of values is hidden from then on.
pub async fn read_plan(ctx: &Context, directory: &Path) -> Result<Plan, Error> {
    if !directory.join(key::PLAN).exists() {
        let message = "the Secret with the plan is gone: somebody deleted it in the middle of the change";
        return Err(Problem::new(FailureClass::PlanMissing, message).into());
    }
    let plan: Plan = bounded::json(&io::read(&directory.join(key::PLAN)).await?)
        .map_err(|why| Error::Plan(format!("{} {why}", key::PLAN)))?;
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
pub async fn is_put_back(
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
