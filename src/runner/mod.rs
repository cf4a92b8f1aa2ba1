//! The program inside the Jobs: makes plans and upgrades with a real helm, verifies, and reports.
//!
//! A step first looks at what is, and does only what is left to do. It ends in exactly one outcome, written into the
//! annotation `coderupgrade.dev/report` of its own Job; a step that ends without one is begun again by the controller.

mod args;
mod cluster;
mod coder;
mod context;
mod error;
mod helm;
mod io;
pub mod preview;
mod repair;
mod report;
mod rollout;
pub mod secrets;
mod steps;

use std::process::ExitCode;
use std::sync::Arc;

use kube::Api;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, info_span};

use self::args::CommonArgs;
pub use self::args::{RunnerArgs, StepArgs};
use self::context::Context;
use self::error::Error;
use self::helm::Helm;
use self::report::{Addressee, ReportWriter};
use self::secrets::Secrets;
use crate::access::Access;
use crate::core::report::Outcome;

/// Performs a step. The exit code is 0 only if it succeeded and could report that.
pub async fn run(args: RunnerArgs, secrets: Secrets) -> ExitCode {
    let CommonArgs { namespace, upgrade, job, .. } = args.step.common();
    let span = info_span!("step", step = %args.step.name(), namespace, upgrade, job, plan = Empty);
    Box::pin(step(&args, secrets)).instrument(span).await
}

async fn step(args: &RunnerArgs, secrets: Secrets) -> ExitCode {
    let common = args.step.common();
    let client = match context::client(&Access::default()).await {
        Ok(client) => client,
        Err(error) => {
            // Nobody can be told but the log: the controller takes the step for interrupted.
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let jobs = Api::namespaced(client.clone(), &common.namespace);
    let addressee = Addressee { name: common.job.clone(), uid: common.job_uid.clone().filter(|uid| !uid.is_empty()) };
    let writer = ReportWriter::start(jobs, addressee, secrets.clone());
    let result = match context(common, client, &writer, &secrets).await {
        Ok(ctx) => Box::pin(steps::perform(&ctx, &args.step)).await,
        Err(error) => Err(error),
    };
    let failed = |error: Error| Outcome::Failed(error.into_problem().with_command(&common.namespace, &common.upgrade));
    let outcome = result.unwrap_or_else(failed);
    let succeeded = say(&outcome);
    match writer.finish(outcome).await {
        Ok(()) if succeeded => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn context(
    common: &CommonArgs,
    client: kube::Client,
    writer: &ReportWriter,
    secrets: &Secrets,
) -> Result<Context, Error> {
    let helm = Helm::detect(&common.work_dir).await?;
    secrets.hide(helm::outside::secrets(helm.outbound()));
    Ok(Context {
        client,
        namespace: common.namespace.clone(),
        upgrade: common.upgrade.clone(),
        uid: common.uid.clone(),
        job: common.job.clone(),
        work_dir: common.work_dir.clone(),
        helm,
        secrets: secrets.clone(),
        reporter: writer.reporter(),
        stop: stop_on_signals()?,
        served: Arc::default(),
    })
}

/// Cancelled by SIGTERM (the pod is deleted, or its deadline has come) and by SIGINT (a person at a terminal).
fn stop_on_signals() -> Result<CancellationToken, Error> {
    let listen = |kind| signal(kind).map_err(|e| Error::Io { doing: "listen to", path: "signals".into(), source: e });
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    let listening = async move {
        tokio::select! {
            _ = terminate.recv() => tracing::warn!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::warn!("SIGINT: stopping"),
        }
        token.cancel();
    };
    tokio::spawn(listening.in_current_span());
    Ok(stop)
}

/// Logs the outcome for those who read the log of the pod. Whether it is a success.
fn say(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Planned(planned) => {
            tracing::info!("planned: {} to {} (plan {})", planned.plan.action, planned.plan.to, planned.plan.id);
            true
        }
        Outcome::BackedUp(record) => {
            tracing::info!("backed up: {}", record.objects.join(", "));
            true
        }
        Outcome::Upgraded(upgraded) => {
            tracing::info!("upgraded to {}: {}", upgraded.current.version, upgraded.verified);
            true
        }
        Outcome::Uninstalled(uninstalled) => {
            tracing::info!(
                "uninstalled revision {}; kept: {}",
                uninstalled.current.revision,
                uninstalled.kept.join(", ")
            );
            true
        }
        Outcome::Restored(restored) => {
            tracing::info!("restored {}: {}", restored.current.version, restored.verified);
            true
        }
        Outcome::Failed(problem) => {
            let about = [&problem.object, &problem.field].into_iter().flatten().map(|text| format!(" {text}"));
            tracing::error!("failed ({:?}{}): {}", problem.class, about.collect::<String>(), problem.message);
            if let Some(excerpt) = &problem.excerpt {
                tracing::error!("the log of the pod ends with:\n{excerpt}");
            }
            false
        }
    }
}
