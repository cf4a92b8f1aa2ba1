//! Arguments of the steps: flags and environment variables of `runner`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use crate::api::{Recovery, ScaledDown, StepName};
use crate::core::allowed::{OFFICIAL, RepositoryPattern};
use crate::core::text::log_format::LogFormat;

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
    /// Restore the release that the plan saved, and verify
    Restore(UpgradeArgs),
}

/// Arguments of every step.
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

    /// Form of the log
    #[arg(long, env = "RUNNER_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// How long to wait until every pod answers with the right version
    #[arg(long, env = "RUNNER_VERIFY_TIMEOUT", default_value = "10m", value_parser = duration)]
    pub verify_timeout: Duration,
}

/// Arguments of the plan step.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// Arguments of every step.
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

/// Arguments of the upgrade step.
#[derive(Clone, Debug, Args)]
pub struct UpgradeArgs {
    /// Arguments of every step.
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
    #[arg(long, env = "RUNNER_RECOVERY_REQUIRED", default_value_t = false, action = clap::ArgAction::Set)]
    pub recovery_required: bool,

    /// A person has approved the repairs of this plan, and with them that the lock of somebody else is released
    #[arg(long, env = "RUNNER_REPAIR_APPROVED", default_value_t = false, action = clap::ArgAction::Set)]
    pub repair_approved: bool,

    /// Workloads that an earlier try has scaled to zero, as Kind/name=replicas
    #[arg(long, env = "RUNNER_SCALED_DOWN", value_delimiter = ',')]
    pub scaled_down: Vec<ScaledDown>,
}

/// Arguments of the backup step.
#[derive(Clone, Debug, Args)]
#[group(id = "method", required = true, multiple = false, args = ["cron_job", "volume_snapshot_class"])]
pub struct BackupArgs {
    /// Arguments of every step.
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

/// Arguments of the uninstall step.
#[derive(Clone, Debug, Args)]
pub struct UninstallArgs {
    /// Arguments of every step.
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

impl RunnerArgs {
    /// The form of the log.
    pub(crate) fn log_format(&self) -> LogFormat {
        self.step.common().log_format
    }
}

impl StepArgs {
    /// The step.
    pub(crate) fn name(&self) -> StepName {
        match self {
            Self::Plan(_) => StepName::Plan,
            Self::Backup(_) => StepName::Backup,
            Self::Upgrade(_) => StepName::Upgrade,
            Self::Uninstall(_) => StepName::Uninstall,
            Self::Install(_) => StepName::Install,
            Self::Restore(_) => StepName::Restore,
        }
    }

    /// Arguments of every step.
    pub(crate) fn common(&self) -> &CommonArgs {
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
