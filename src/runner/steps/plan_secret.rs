//! The Secrets with the plan, as they are mounted into the Jobs that change something.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::plan::secret;
use crate::api::FailureClass;
use crate::core::helm::history::History;
use crate::core::plan::parts::{self, FileIndex, PlanFile};
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

/// What the plan Secret says, read and decoded once.
pub struct SavedPlan {
    /// The plan.
    pub plan: Plan,
    /// Helm's record of the release before the change; none if the plan is for a first install.
    pub previous: Option<Record>,
    /// Where its files lie.
    directory: PathBuf,
}

impl SavedPlan {
    /// Reads the plan from where its Secrets are mounted, and checks that its files belong together. What it holds of values is
    /// hidden from then on.
    pub async fn read(ctx: &Context, mounted: &Path) -> Result<Self, Error> {
        let directory = whole(ctx, mounted).await?;
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
        let mut previous = None;
        if plan.from.is_some() {
            let record = Record::decode(&io::read(&directory.join(key::PREVIOUS_RELEASE)).await?);
            let record = record.map_err(|e| Error::Plan(format!("{} {e}", key::PREVIOUS_RELEASE)))?;
            ctx.secrets.hide_values(&Value::Object(record.values()));
            pod_secrets::of_manifest(ctx, record.manifest()).await;
            previous = Some(record);
        }
        tracing::Span::current().record("plan", &plan.id);
        tracing::info!("plan {}: release {} to {} {}", plan.id, plan.release, plan.chart_name, plan.version);
        Ok(Self { plan, previous, directory })
    }

    /// The packaged chart.
    pub fn chart(&self) -> PathBuf {
        self.directory.join(key::CHART)
    }

    /// The file with all values.
    pub fn values(&self) -> PathBuf {
        self.directory.join(key::VALUES)
    }

    /// The files as they lie in the Secrets.
    pub async fn files(&self) -> Result<Vec<PlanFile>, Error> {
        let mut files = Vec::new();
        for key in self.plan.files() {
            files.push((key, io::read(&self.directory.join(key)).await?));
        }
        Ok(files)
    }

    /// The manifest of the release before the change; empty before a first install.
    pub fn previous_manifest(&self) -> &str {
        self.previous.as_ref().map_or("", Record::manifest)
    }

    /// Whether the newest revision is the saved release once more, after a failure of this plan: same chart, same values.
    pub async fn is_restored(&self, storage: &Storage, history: &History) -> Result<bool, Error> {
        let newest = history.first().filter(|_| follows_failure(&self.plan, history));
        let (Some(newest), Some(saved)) = (newest, &self.previous) else { return Ok(false) };
        let now = storage.read(newest).await?.record;
        Ok(now.same_chart(saved) && now.values() == saved.values())
    }
}

/// Where the files of the plan lie whole. If the plan takes more than one Secret, they are put together in the work directory
/// first, each of them only if it is the file of which the first Secret has the digest.
async fn whole(ctx: &Context, mounted: &Path) -> Result<PathBuf, Error> {
    let Some(index) = io::read_existing(&mounted.join(parts::INDEX)).await? else { return Ok(mounted.to_owned()) };
    let index = FileIndex::read(&index).map_err(|why| missing(format!("{} of the plan {why}", parts::INDEX)))?;
    let directory = ctx.work_dir.join("plan");
    io::create_dir(&directory).await?;
    for file in key::ALL {
        let Some(entry) = index.entry(file) else { continue };
        let mut content = Vec::new();
        for (number, key) in entry.pieces(file) {
            let Some(piece) = io::read_existing(&mounted.join(&key)).await? else {
                return Err(lost(&directory, &[number], |part| format!("{part} is gone, or has no {key}"))
                    .await
                    .into());
            };
            content.extend(piece);
        }
        if !entry.is_of(&content) {
            let numbers: Vec<usize> = entry.pieces(file).map(|(number, _)| number).collect();
            return Err(lost(&directory, &numbers, |part| format!("{part} has the {file} of another plan"))
                .await
                .into());
        }
        io::write_private(&directory.join(file), &content).await?;
    }
    Ok(directory)
}

fn missing(message: impl Into<String>) -> Box<Problem> {
    Problem::new(FailureClass::PlanMissing, message).boxed()
}

/// One of these parts of the plan is lost. How its Secret is called is known from the plan itself, which is put together first.
async fn lost(directory: &Path, numbers: &[usize], message: impl Fn(&str) -> String) -> Box<Problem> {
    let plan = io::read_existing(&directory.join(key::PLAN)).await.ok().flatten();
    let plan: Option<Plan> = plan.and_then(|plan| bounded::json(&plan).ok());
    let name = |number: &usize| match &plan {
        Some(plan) => format!("Secret/{}", parts::name(&secret::name(plan), *number)),
        None => format!("the Secret with part {number} of the plan"),
    };
    let names: Vec<String> = numbers.iter().map(name).collect();
    let problem = missing(message(&names.join(" or ")));
    match &names[..] {
        [one] if plan.is_some() => problem.object(one).boxed(),
        _ => problem,
    }
}
