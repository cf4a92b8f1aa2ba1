//! The command `plan`: makes a plan as the step in the Job does, writes nothing, and shows it.

mod args;
mod error;
mod source;

use std::io::Write;
use std::process::ExitCode;

use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

pub use self::args::{Format, PreviewArgs};
use self::error::Failure;
use super::context::{self, Context, request};
use super::error::Error;
use super::helm::Helm;
use super::plan;
use super::report::Reporter;
use super::secrets::Secrets;
use crate::api::{CoderUpgrade, annotation};
use crate::core::after::Sibling;
use crate::core::preview::{Preview, Surroundings, is_refusal};
use crate::core::request::digest;
use crate::core::text::printable;

/// Shows what an upgrade would do. The exit code says what follows; see [`PreviewArgs`].
pub async fn run(args: PreviewArgs, secrets: Secrets) -> ExitCode {
    let shown = tokio::select! {
        shown = Box::pin(show(&args, &secrets)) => shown,
        stopped = tokio::signal::ctrl_c() => Err(stopped.map_or_else(Failure::Signals, |()| Failure::Stopped)),
    };
    match shown {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            secrets.say(&format!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

async fn show(args: &PreviewArgs, secrets: &Secrets) -> Result<u8, Failure> {
    let print = |error: &dyn std::fmt::Display| Failure::Print(error.to_string());
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

async fn preview(args: &PreviewArgs, secrets: &Secrets) -> Result<Preview, Failure> {
    let object = args.file.as_ref().map(|file| source::read(file, args.name.as_deref())).transpose()?;
    let client = context::client().await?;
    let named = object.as_ref().and_then(|object| object["metadata"]["namespace"].as_str());
    if let (Some(named), Some(asked)) = (named, args.namespace.as_deref())
        && named != asked
    {
        let file = args.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        let what = format!("says metadata.namespace: {named}, but --namespace says {asked}");
        return Err(Failure::Content { file, what });
    }
    let namespace = named.or(args.namespace.as_deref()).unwrap_or(client.default_namespace()).to_owned();
    let mut upgrade = match (&object, &args.name) {
        (Some(object), _) => {
            let (upgrade, note) = source::declared(&client, &namespace, object).await?;
            if let Some(note) = note {
                secrets.say(&format!("note: {note}"));
            }
            upgrade
        }
        (None, name) => source::installed(&client, &namespace, name.as_deref().unwrap_or_default()).await?,
    };
    upgrade.spec.version = upgrade.spec.version.take().or_else(|| found_before(&upgrade));

    let directory = tempfile::tempdir().map_err(Failure::Scratch)?;
    let ctx = Context {
        client: client.clone(),
        namespace: namespace.clone(),
        upgrade: upgrade.name_any(),
        uid: upgrade.uid().unwrap_or_default(),
        job: String::new(),
        work_dir: directory.path().to_owned(),
        helm: Helm::detect(directory.path()).await?,
        secrets: secrets.clone(),
        reporter: Reporter::to_terminal(secrets.clone(), args.quiet),
        stop: CancellationToken::new(),
    };
    let allowed = args.allowed();
    let planned = match allowed.judge(&upgrade.spec) {
        Ok(()) => Box::pin(plan::look(&ctx, &upgrade, &allowed.repositories)).await,
        Err(problem) => Err(problem.into()),
    };
    let others = others(&client, &namespace, &upgrade).await?;
    let siblings: Vec<Sibling> = others.iter().map(Sibling::from).collect();
    let same = others.iter().find(|other| other.spec.release == upgrade.spec.release);
    let claimed_by = same.map(ResourceExt::name_any);
    let around = Surroundings {
        upgrade: &upgrade,
        namespace: &namespace,
        siblings: &siblings,
        claimed_by: claimed_by.as_deref(),
        now: Timestamp::now(),
    };
    match planned {
        Ok(plan) => Ok(Preview::of(plan, &around)),
        Err(error) => match error.into_problem() {
            problem if is_refusal(&problem) => Ok(Preview::refused(problem, &around)),
            problem => Err(Failure::Problem(Box::new(problem))),
        },
    }
}

/// The newest version, if the operator has looked it up for this very spec: it does so once.
fn found_before(upgrade: &CoderUpgrade) -> Option<String> {
    let status = upgrade.status.as_ref()?;
    let requested = upgrade.annotations().get(annotation::REQUESTED_AT).map(String::as_str);
    let target = status.target.as_ref().filter(|_| status.request == digest(&upgrade.spec, requested));
    target.map(|target| target.version.clone())
}

/// The other `CoderUpgrades` of the namespace; none where the cluster does not know the kind.
async fn others(client: &Client, namespace: &str, upgrade: &CoderUpgrade) -> Result<Vec<CoderUpgrade>, Error> {
    let upgrades: Api<CoderUpgrade> = Api::namespaced(client.clone(), namespace);
    let all = ListParams::default();
    match request(&format!("list the CoderUpgrades of namespace {namespace}"), || upgrades.list(&all)).await {
        Ok(found) => Ok(found.items.into_iter().filter(|other| other.name_any() != upgrade.name_any()).collect()),
        Err(error) if error.has_code(404) || error.has_code(403) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
