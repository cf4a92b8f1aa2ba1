//! The backup step: makes the backup that spec.backup asks for, or finds a recent one. Nothing of the release changes.

mod cron_job;
mod snapshots;

use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::api::{BackupRecord, FailureClass};
use crate::core::plan::Plan;
use crate::core::report::Problem;
use crate::core::steps::backup::Purpose;
use crate::core::text::duration::duration;
use crate::runner::context::Context;
use crate::runner::error::Error;

/// Arguments of the backup step.
#[derive(Clone, Debug, Args)]
pub struct BackupOrder {
    /// Number of the attempt; another one makes a backup of its own
    #[arg(long, env = "RUNNER_ATTEMPT")]
    attempt: i32,

    /// How the backup is made.
    #[command(flatten)]
    method: BackupMethod,

    /// A backup that is not older counts as well
    #[arg(long, env = "RUNNER_MAX_AGE", value_parser = duration)]
    max_age: Option<Duration>,

    /// How long the backup may take
    #[arg(long, env = "RUNNER_BACKUP_TIMEOUT", default_value = "1h", value_parser = duration)]
    timeout: Duration,
}

/// The ways to make a backup. A struct of its own: clap counts every argument beside them as one of the group.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
struct BackupMethod {
    /// `CronJob` from which a Job is made
    #[arg(long, env = "RUNNER_CRON_JOB")]
    cron_job: Option<String>,

    /// Class of the snapshots that are made of the claims of the release
    #[arg(long, env = "RUNNER_VOLUME_SNAPSHOT_CLASS")]
    volume_snapshot_class: Option<String>,
}

impl BackupOrder {
    fn purpose<'a>(&self, ctx: &'a Context, plan: &'a Plan, round: u32) -> Purpose<'a> {
        Purpose { uid: &ctx.uid, attempt: self.attempt, plan: &plan.id, round }
    }

    /// Since when a backup counts as recent; none if only a new one counts.
    fn since(&self) -> Option<Timestamp> {
        let age = SignedDuration::try_from(self.max_age?).ok()?;
        Timestamp::now().checked_sub(age).ok()
    }

    /// What is left of the timeout for an object that an earlier try may have made. One that has ended meanwhile is still
    /// looked at.
    fn left(&self, object: &ObjectMeta) -> Duration {
        const LOOK: Duration = Duration::from_secs(5);
        let made = object.creation_timestamp.as_ref().map_or_else(Timestamp::now, |time| time.0);
        let gone = Timestamp::now().duration_since(made).max(SignedDuration::ZERO).unsigned_abs();
        self.timeout.saturating_sub(gone).max(LOOK.min(self.timeout))
    }
}

/// Makes the backup, or finds it made. Ends early when the runner is told to stop; the same step then finds again what it
/// has begun.
pub async fn run(ctx: &Context, order: &BackupOrder, plan: &Plan) -> Result<BackupRecord, Error> {
    let made = async {
        match (&order.method.cron_job, &order.method.volume_snapshot_class) {
            (Some(name), _) => Box::pin(cron_job::run(ctx, plan, order, name)).await,
            (None, Some(class)) => Box::pin(snapshots::run(ctx, plan, order, class)).await,
            (None, None) => Err(Error::Bug("the step has no way to make a backup".into())),
        }
    };
    tokio::select! {
        made = Box::pin(made) => made,
        () = ctx.stop.cancelled() => Err(Error::Stopped),
    }
}

fn record(plan: &Plan, objects: Vec<String>, finished: Timestamp, recent: bool, detail: String) -> BackupRecord {
    BackupRecord { plan: plan.id.clone(), objects, finished: Time(finished), recent, detail }
}

fn failed(message: impl Into<String>) -> Problem {
    Problem::new(FailureClass::BackupFailed, message)
}

/// What an object of the expected name is if it was not made for this plan.
fn foreign(object: &str) -> Error {
    failed(format!("{object} exists, but it was not made for this plan: it is left alone; delete it"))
        .object(object)
        .into()
}
