//! Arguments of the steps: flags and environment variables of `runner`. Those of one step alone are its `…Order`, beside the step.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::steps::{backup, plan, uninstall, upgrade};
use crate::api::StepName;
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
    Plan(StepOrder<plan::PlanOrder>),
    /// Make the backup that is asked for before a change, or find a recent one
    Backup(StepOrder<AfterPlan<backup::BackupOrder>>),
    /// Upgrade as the plan says, repair what helm is refused for, and verify
    Upgrade(StepOrder<AfterPlan<upgrade::UpgradeOrder>>),
    /// Uninstall the release of the plan; what cannot be made again is kept
    Uninstall(StepOrder<AfterPlan<uninstall::UninstallOrder>>),
    /// Install after an uninstall as the plan says, and verify
    Install(StepOrder<AfterPlan<upgrade::UpgradeOrder>>),
    /// Restore the release that the plan saved, and verify
    Restore(StepOrder<AfterPlan<upgrade::UpgradeOrder>>),
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
}

/// Arguments of one step.
#[derive(Clone, Debug, Args)]
pub struct StepOrder<T: Args> {
    /// Arguments of every step.
    #[command(flatten)]
    pub common: CommonArgs,

    /// Arguments of this step alone.
    #[command(flatten)]
    pub order: T,
}

/// Arguments of a step that follows a plan.
#[derive(Clone, Debug, Args)]
pub struct AfterPlan<T: Args> {
    /// Where the plan Secret is mounted
    #[arg(long, env = "RUNNER_PLAN_DIR", default_value = "/plan")]
    pub plan_dir: PathBuf,

    /// Arguments of this step alone.
    #[command(flatten)]
    pub order: T,
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
            Self::Plan(StepOrder { common, .. })
            | Self::Backup(StepOrder { common, .. })
            | Self::Upgrade(StepOrder { common, .. })
            | Self::Uninstall(StepOrder { common, .. })
            | Self::Install(StepOrder { common, .. })
            | Self::Restore(StepOrder { common, .. }) => common,
        }
    }
}
