//! The command `logs`: what the pod of a step says, or what was saved of it.

use clap::Args;
use futures::io::{AsyncBufReadExt, Lines};
use futures::{AsyncBufRead, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, LogParams};
use strum::IntoEnumIterator;

use super::error::PluginError;
use super::session::{Session, SessionArgs, print};
use crate::api::{CoderUpgradeStatus, Step, StepName};
use crate::core::decide::job::{CONTAINER, JOB_NAME_LABEL};
use crate::core::text::display::printable;

/// What `logs` is told.
#[derive(Clone, Debug, Args)]
pub struct LogsArgs {
    /// Name of the CoderUpgrade
    #[arg(value_name = "NAME")]
    name: String,

    /// Step of the present attempt, for example Upgrade; by default the last one that has a Job
    #[arg(long, value_name = "STEP", value_parser = step)]
    step: Option<StepName>,

    /// Go on until the pod has ended
    #[arg(short, long)]
    follow: bool,

    /// Cluster, namespace and user.
    #[command(flatten)]
    session: SessionArgs,
}

/// The step of that name, in capitals or not.
fn step(text: &str) -> Result<StepName, String> {
    let found = StepName::iter().find(|step| step.to_string().eq_ignore_ascii_case(text));
    let all = || StepName::iter().map(|step| step.to_string()).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| format!("the steps are {}", all()))
}

/// Prints the log of a step's pod.
pub async fn run(args: &LogsArgs, program: &'static str) -> Result<u8, PluginError> {
    let session = Session::open(&args.session, program).await?;
    let status = session.upgrade(&args.name).await?.status.unwrap_or_default();
    let wanted = |step: &&Step| !step.job_name.is_empty() && args.step.is_none_or(|name| name == step.name);
    let Some(step) = status.steps.iter().rev().find(wanted) else {
        let what = args.step.map_or_else(|| "no step".to_owned(), |name| format!("no step {name}"));
        return Err(PluginError::Pointless(format!(
            "the present attempt of CoderUpgrade {} has {what} with a Job",
            args.name
        )));
    };
    match pod(&session, step).await? {
        Some(pod) => copy(&session, &pod, args.follow).await?,
        None => saved(&status, step)?,
    }
    Ok(0)
}

/// The newest pod of the step's Job.
async fn pod(session: &Session, step: &Step) -> Result<Option<String>, PluginError> {
    let doing = format!("list the pods of Job/{} in namespace {}", step.job_name, session.namespace);
    let parameters = ListParams::default().labels(&format!("{JOB_NAME_LABEL}={}", step.job_name));
    let pods = session.ask(&doing, session.api::<Pod>().list(&parameters)).await?.items;
    Ok(pods.into_iter().max_by_key(ResourceExt::creation_timestamp).map(|pod| pod.name_any()))
}

async fn copy(session: &Session, pod: &str, follow: bool) -> Result<(), PluginError> {
    let doing = format!("read the log of Pod/{pod} in namespace {}", session.namespace);
    let parameters = LogParams { follow, container: Some(CONTAINER.into()), ..LogParams::default() };
    let log = session.ask(&doing, session.api::<Pod>().log_stream(pod, &parameters)).await?;
    let mut lines = lines(log);
    let broken = |source| PluginError::Terminal { doing: "go on reading the log", source };
    while let Some(line) = lines.try_next().await.map_err(broken)? {
        print(&(printable(&line) + "\n"))?;
    }
    Ok(())
}

fn lines<R: AsyncBufRead>(log: R) -> Lines<std::pin::Pin<Box<R>>> {
    Box::pin(log).lines()
}

/// What status has kept of a pod that is gone.
fn saved(status: &CoderUpgradeStatus, step: &Step) -> Result<(), PluginError> {
    let failure = status.failure.as_ref().filter(|failure| failure.step == step.name);
    let kept = failure.map(|failure| failure.excerpt.as_deref().unwrap_or(&failure.message));
    let kept = kept.or(Some(step.message.as_str())).filter(|text| !text.is_empty());
    let gone = format!("the pod of Job/{} is gone", step.job_name);
    let Some(kept) = kept else {
        return Err(PluginError::Absent(format!("{gone}, and nothing of its log was saved")));
    };
    print(&format!("({gone}; this was saved in status)\n{}\n", printable(kept.trim_end())))
}
