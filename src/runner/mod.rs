//! The program inside the Jobs: makes plans and upgrades with a real helm, verifies, and reports.
//!
//! A step first looks at what is, and does only what is left to do. It ends in exactly one outcome, written into the
//! annotation `coderupgrade.dev/report` of its own Job; a step that ends without one is begun again by the controller.

mod apply;
mod backup;
mod basis;
mod coder;
mod context;
mod error;
mod excerpt;
mod exposed;
mod fence;
mod health;
mod helm;
mod highest;
mod http;
mod inventory;
mod io;
mod kinds;
mod learn;
mod lease;
mod leftovers;
mod listen;
mod observe;
mod owners;
mod pause;
mod plan;
pub mod preview;
mod rehearse;
mod repair;
mod replicas;
mod report;
mod restore;
mod risk;
mod saved;
pub mod secrets;
mod starts;
mod target;
mod token;
mod uninstall;
mod upgrade;
mod verify;
mod volumes;
mod waits;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use kube::Api;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::context::Context;
use self::error::Error;
use self::helm::Helm;
use self::report::{Addressee, Writer};
use self::secrets::Secrets;
use crate::api::{Recovery, ScaledDown};
use crate::core::allowed::{OFFICIAL, Repositories, RepositoryPattern};
use crate::core::history::Start;
use crate::core::report::Outcome;

/// Perform one step of an upgrade (runs in a Job that the controller makes)
#[derive(Clone, Debug, Args)]
pub struct RunnerArgs {
    /// The step
    #[command(subcommand)]
    pub step: StepArgs,
}

/// The steps.
#[derive(Clone, Debug, Subcommand)]
pub enum StepArgs {
    /// Find out what an upgrade needs, and write it into a Secret
    Plan(PlanArgs),
    /// Make the backup that is asked for before a change, or find a recent one
    Backup(BackupArgs),
    /// Upgrade as the plan says, repair what helm is refused for, and verify
    Upgrade(UpgradeArgs),
    /// Uninstall the release of the plan; what cannot be made again is kept
    Uninstall(UninstallArgs),
    /// Install after an uninstall as the plan says, and verify
    Install(UpgradeArgs),
    /// Put the release back that the plan saved, and verify
    Restore(UpgradeArgs),
}

/// What every step is told.
#[derive(Clone, Debug, Args)]
pub struct CommonArgs {
    /// Name of the `CoderUpgrade`
    #[arg(long, env = "RUNNER_UPGRADE")]
    pub upgrade: String,

    /// UID of the `CoderUpgrade`
    #[arg(long, env = "RUNNER_UID")]
    pub uid: String,

    /// Name of the Job that this runs in; the report goes there
    #[arg(long, env = "RUNNER_JOB")]
    pub job: String,

    /// UID of that Job: a later one of the same name gets no reports
    #[arg(long, env = "RUNNER_JOB_UID")]
    pub job_uid: Option<String>,

    /// Namespace of the `CoderUpgrade`, the Job and the release
    #[arg(long, env = "RUNNER_NAMESPACE")]
    pub namespace: String,

    /// Directory for scratch files
    #[arg(long, env = "RUNNER_WORK_DIR", default_value = "/work")]
    pub work_dir: PathBuf,

    /// How long to wait until every pod answers with the right version
    #[arg(long, env = "RUNNER_VERIFY_TIMEOUT", default_value = "10m", value_parser = duration)]
    pub verify_timeout: Duration,
}

/// What the plan step is told.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// What every step is told.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Generation of the `CoderUpgrade` that is to be planned
    #[arg(long, env = "RUNNER_GENERATION")]
    pub generation: i64,

    /// The wanted version, if it was looked up before for the same request
    #[arg(long, env = "RUNNER_TARGET")]
    pub target: Option<String>,

    /// Where charts may come from, as the controller is told
    #[arg(long, env = "RUNNER_ALLOWED_REPOSITORIES", value_delimiter = ',', default_values = OFFICIAL)]
    pub allowed_repositories: Vec<RepositoryPattern>,
}

/// What the upgrade step is told.
#[derive(Clone, Debug, Args)]
pub struct UpgradeArgs {
    /// What every step is told.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Where the plan Secret is mounted
    #[arg(long, env = "RUNNER_PLAN_DIR", default_value = "/plan")]
    pub plan_dir: PathBuf,

    /// How long helm waits for the objects of the release
    #[arg(long, env = "RUNNER_HELM_TIMEOUT", default_value = "30m", value_parser = duration)]
    pub helm_timeout: Duration,

    /// How long everything must stay right
    #[arg(long, env = "RUNNER_SOAK", default_value = "30s", value_parser = duration)]
    pub soak: Duration,

    /// How far a refusal may be repaired: stop, repair or reinstall
    #[arg(long, env = "RUNNER_RECOVERY", default_value = "repair")]
    pub recovery: Recovery,

    /// A pod of the new version may have started in an earlier step
    #[arg(long, env = "RUNNER_NEW_VERSION_STARTED", default_value_t = false, action = clap::ArgAction::Set)]
    pub new_version_started: bool,

    /// Something of the release was removed in an earlier step and is not back yet
    #[arg(long, env = "RUNNER_INCOMPLETE", default_value_t = false, action = clap::ArgAction::Set)]
    pub incomplete: bool,

    /// A person has approved the repairs of this plan, and with them that the lock of somebody else is released
    #[arg(long, env = "RUNNER_REPAIR_APPROVED", default_value_t = false, action = clap::ArgAction::Set)]
    pub repair_approved: bool,

    /// Workloads that an earlier try has scaled to zero, as Kind/name=replicas
    #[arg(long, env = "RUNNER_SCALED_DOWN", value_delimiter = ',')]
    pub scaled_down: Vec<ScaledDown>,
}

/// What the backup step is told.
#[derive(Clone, Debug, Args)]
#[group(id = "method", required = true, multiple = false, args = ["cron_job", "volume_snapshot_class"])]
pub struct BackupArgs {
    /// What every step is told.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Where the plan Secret is mounted
    #[arg(long, env = "RUNNER_PLAN_DIR", default_value = "/plan")]
    pub plan_dir: PathBuf,

    /// Number of the attempt; another one makes a backup of its own
    #[arg(long, env = "RUNNER_ATTEMPT")]
    pub attempt: i32,

    /// `CronJob` from which a Job is made
    #[arg(long, env = "RUNNER_CRON_JOB")]
    pub cron_job: Option<String>,

    /// Class of the snapshots that are made of the claims of the release
    #[arg(long, env = "RUNNER_VOLUME_SNAPSHOT_CLASS")]
    pub volume_snapshot_class: Option<String>,

    /// A backup that is not older counts as well
    #[arg(long, env = "RUNNER_MAX_AGE", value_parser = duration)]
    pub max_age: Option<Duration>,

    /// How long the backup may take
    #[arg(long, env = "RUNNER_BACKUP_TIMEOUT", default_value = "1h", value_parser = duration)]
    pub timeout: Duration,
}

/// What the uninstall step is told.
#[derive(Clone, Debug, Args)]
pub struct UninstallArgs {
    /// What every step is told.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Where the plan Secret is mounted
    #[arg(long, env = "RUNNER_PLAN_DIR", default_value = "/plan")]
    pub plan_dir: PathBuf,

    /// How long helm may take
    #[arg(long, env = "RUNNER_HELM_TIMEOUT", default_value = "30m", value_parser = duration)]
    pub helm_timeout: Duration,

    /// Whether LoadBalancer Services and Ingresses that the new chart still has are kept
    #[arg(long, env = "RUNNER_KEEP_ADDRESSES", default_value_t = true, action = clap::ArgAction::Set)]
    pub keep_addresses: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: kube::core::Duration = text.parse().map_err(|e| format!("{e}; write it as 90s, 10m or 1h30m"))?;
    Ok(parsed.into())
}

impl StepArgs {
    fn common(&self) -> &CommonArgs {
        match self {
            Self::Plan(PlanArgs { common, .. })
            | Self::Backup(BackupArgs { common, .. })
            | Self::Upgrade(UpgradeArgs { common, .. })
            | Self::Install(UpgradeArgs { common, .. })
            | Self::Restore(UpgradeArgs { common, .. })
            | Self::Uninstall(UninstallArgs { common, .. }) => common,
        }
    }
}

/// Performs a step. The exit code is 0 only if it succeeded and could report that.
pub async fn run(args: RunnerArgs, secrets: Secrets) -> ExitCode {
    let common = args.step.common();
    let client = match context::client().await {
        Ok(client) => client,
        Err(error) => {
            // Nobody can be told but the log: the controller takes the step for interrupted.
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let jobs = Api::namespaced(client.clone(), &common.namespace);
    let addressee = Addressee { name: common.job.clone(), uid: common.job_uid.clone().filter(|uid| !uid.is_empty()) };
    let writer = Writer::start(jobs, addressee, secrets.clone());
    let result = match context(common, client, &writer, &secrets).await {
        Ok(ctx) => Box::pin(perform(&ctx, &args.step)).await,
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
    writer: &Writer,
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
    })
}

async fn perform(ctx: &Context, step: &StepArgs) -> Result<Outcome, Error> {
    match step {
        StepArgs::Plan(args) => {
            let order = plan::Order {
                generation: args.generation,
                target: args.target.clone(),
                verify_timeout: args.common.verify_timeout,
                repositories: Repositories::new(args.allowed_repositories.clone()),
            };
            // A plan changes nothing that could be left half done, so it is simply dropped, and its helm with it.
            tokio::select! {
                planned = Box::pin(plan::run(ctx, order)) => planned.map(|planned| Outcome::Planned(Box::new(planned))),
                () = ctx.stop.cancelled() => Err(Error::Stopped),
            }
        }
        StepArgs::Backup(args) => backup::run(ctx, &backup_order(args)?).await.map(Outcome::BackedUp),
        StepArgs::Uninstall(args) => {
            let order = uninstall::Order {
                plan_dir: args.plan_dir.clone(),
                helm_timeout: args.helm_timeout,
                keep_addresses: args.keep_addresses,
            };
            uninstall::run(ctx, &order).await.map(Outcome::Uninstalled)
        }
        StepArgs::Upgrade(args) => {
            Box::pin(upgrade::run(ctx, &order(args, Start::Planned))).await.map(Outcome::Upgraded)
        }
        StepArgs::Install(args) => {
            Box::pin(upgrade::run(ctx, &order(args, Start::Uninstalled))).await.map(Outcome::Upgraded)
        }
        StepArgs::Restore(args) => {
            Box::pin(restore::run(ctx, &order(args, Start::Planned))).await.map(Outcome::Restored)
        }
    }
}

fn backup_order(args: &BackupArgs) -> Result<backup::Order, Error> {
    let snapshots = || args.volume_snapshot_class.clone().map(backup::Method::Snapshots);
    let method = args.cron_job.clone().map(backup::Method::CronJob).or_else(snapshots);
    Ok(backup::Order {
        plan_dir: args.plan_dir.clone(),
        attempt: args.attempt,
        method: method.ok_or_else(|| Error::Plan("it names no way to make a backup".into()))?,
        max_age: args.max_age,
        timeout: args.timeout,
    })
}

fn order(args: &UpgradeArgs, start: Start) -> upgrade::Order {
    upgrade::Order {
        plan_dir: args.plan_dir.clone(),
        start,
        helm_timeout: args.helm_timeout,
        verify_timeout: args.common.verify_timeout,
        soak: args.soak,
        recovery: args.recovery,
        new_version_started: args.new_version_started,
        incomplete: args.incomplete,
        repair_approved: args.repair_approved,
        scaled_down: args.scaled_down.clone(),
    }
}

/// Cancelled by SIGTERM (the pod is deleted, or its deadline has come) and by SIGINT (a person at a terminal).
fn stop_on_signals() -> Result<CancellationToken, Error> {
    let listen = |kind| signal(kind).map_err(|e| Error::Io { doing: "listen to", path: "signals".into(), source: e });
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::warn!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::warn!("SIGINT: stopping"),
        }
        token.cancel();
    });
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
