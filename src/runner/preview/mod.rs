//! The command `plan`: makes a plan as the step in the Job does, writes nothing, and shows it.

mod args;
mod desk;
mod error;
pub mod rights;
mod source;

use std::io::Write;
use std::process::ExitCode;

use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

pub use self::args::{Format, PreviewArgs};
use self::desk::{Desk, Wanted};
use self::error::PreviewError;
use super::context::{self, Context};
use super::error::Error;
use super::secrets::Secrets;
use super::steps::plan;
use crate::api::CoderUpgrade;
use crate::core::gates::claim::holder;
use crate::core::gates::dependencies::Sibling;
use crate::core::plan::preview::{Preview, PreviewInput, is_refusal};
use crate::core::text::display::printable;

/// Shows what an upgrade would do. The exit code says what follows; see [`PreviewArgs`].
pub async fn run(args: PreviewArgs, secrets: Secrets) -> ExitCode {
    let shown = tokio::select! {
        shown = Box::pin(show(&args, &secrets)) => shown,
        stopped = tokio::signal::ctrl_c() => Err(stopped.map_or_else(PreviewError::Signals, |()| PreviewError::Stopped)),
    };
    match shown {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            secrets.say(&format!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

async fn show(args: &PreviewArgs, secrets: &Secrets) -> Result<u8, PreviewError> {
    let print = |error: &dyn std::fmt::Display| PreviewError::Print(error.to_string());
    // Whatever is printed is made of this.
    let preview = secrets.cleaned(&preview(args, secrets).await?).map_err(|e| print(&e))?;
    let text = match args.output {
        // A chart, a pod and a manager of fields choose their words, and a terminal must not obey them.
        Format::Text => printable(&preview.text()),
        Format::Markdown => printable(&preview.markdown()),
        Format::Json => serde_json::to_string_pretty(&preview).map_err(|e| print(&e))? + "\n",
        Format::Yaml => serde_saphyr::to_string(&preview).map_err(|e| print(&e))?,
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| print(&e))?;
    Ok(preview.verdict.exit_code())
}

async fn preview(args: &PreviewArgs, secrets: &Secrets) -> Result<Preview, PreviewError> {
    let (file, namespace) = (args.file.as_deref(), args.namespace.as_deref());
    let wanted = Wanted { name: args.name.as_deref(), file, namespace, access: &args.access };
    let directory = tempfile::tempdir().map_err(PreviewError::Scratch)?;
    let Desk { ctx, upgrade, request } = desk::set(&wanted, directory.path(), secrets, args.quiet).await?;
    let Context { client, namespace, .. } = &ctx;
    let allowed = args.allowed();
    let planned = match allowed.judge(&upgrade.spec) {
        Ok(()) => Box::pin(plan::look(&ctx, &upgrade, &allowed.repositories)).await,
        Err(problem) => Err(problem.into()),
    };
    let others = others(client, namespace, &upgrade).await?;
    let siblings: Vec<Sibling> = others.iter().map(Sibling::from).collect();
    let claimed_by = holder(&upgrade, &others);
    let around = PreviewInput {
        upgrade: &upgrade,
        request: &request,
        namespace,
        siblings: &siblings,
        claimed_by: claimed_by.as_deref(),
        now: Timestamp::now(),
    };
    match planned {
        Ok(plan) => Ok(Preview::of(plan, &around)),
        Err(error) => match error.into_problem().with_command(namespace, &upgrade.name_any()) {
            problem if is_refusal(&problem) => Ok(Preview::refused(problem, &around)),
            problem => Err(PreviewError::Problem(Box::new(problem))),
        },
    }
}

/// The other `CoderUpgrades` of the namespace; none where the cluster does not know the kind.
async fn others(client: &Client, namespace: &str, upgrade: &CoderUpgrade) -> Result<Vec<CoderUpgrade>, Error> {
    let upgrades: Api<CoderUpgrade> = Api::namespaced(client.clone(), namespace);
    let all = ListParams::default();
    match context::request(&format!("list the CoderUpgrades of namespace {namespace}"), || upgrades.list(&all)).await {
        Ok(found) => Ok(found.items.into_iter().filter(|other| other.name_any() != upgrade.name_any()).collect()),
        Err(error) if error.has_code(404) || error.has_code(403) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
