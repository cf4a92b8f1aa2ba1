//! The steps: each does what is left of it, under the lease of its release.

pub mod apply;
pub mod backup;
pub mod fence;
pub mod highest_version;
pub mod pause;
pub mod plan;
pub mod plan_secret;
pub mod proof;
pub mod replicas;
pub mod restore;
pub mod uninstall;
pub mod upgrade;
pub mod volumes;

use std::path::PathBuf;

use self::plan_secret::whole;
use super::args::{BackupArgs, StepArgs, UpgradeArgs};
use super::context::Context;
use super::error::Error;
use crate::core::allowed::Repositories;
use crate::core::report::Outcome;
use crate::core::steps::upgrade::Start;

/// Does a step.
pub async fn perform(ctx: &Context, step: &StepArgs) -> Result<Outcome, Error> {
    match step {
        StepArgs::Plan(args) => {
            let order = plan::PlanOrder {
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
        StepArgs::Backup(args) => {
            let order = backup_order(args, whole(ctx, &args.plan_dir).await?)?;
            backup::run(ctx, &order).await.map(Outcome::BackedUp)
        }
        StepArgs::Uninstall(args) => {
            let order = uninstall::UninstallOrder {
                plan_dir: whole(ctx, &args.plan_dir).await?,
                helm_timeout: args.helm_timeout,
                keep_addresses: args.keep_addresses,
            };
            uninstall::run(ctx, &order).await.map(Outcome::Uninstalled)
        }
        StepArgs::Upgrade(args) => {
            let order = order(args, whole(ctx, &args.plan_dir).await?, Start::Planned);
            Box::pin(upgrade::run(ctx, &order)).await.map(Outcome::Upgraded)
        }
        StepArgs::Install(args) => {
            let order = order(args, whole(ctx, &args.plan_dir).await?, Start::Uninstalled);
            Box::pin(upgrade::run(ctx, &order)).await.map(Outcome::Upgraded)
        }
        StepArgs::Restore(args) => {
            let order = order(args, whole(ctx, &args.plan_dir).await?, Start::Planned);
            Box::pin(restore::run(ctx, &order)).await.map(Outcome::Restored)
        }
    }
}

fn backup_order(args: &BackupArgs, plan_dir: PathBuf) -> Result<backup::BackupOrder, Error> {
    let snapshots = || args.volume_snapshot_class.clone().map(backup::Method::Snapshots);
    let method = args.cron_job.clone().map(backup::Method::CronJob).or_else(snapshots);
    Ok(backup::BackupOrder {
        plan_dir,
        attempt: args.attempt,
        method: method.ok_or_else(|| Error::Bug("the step has no way to make a backup".into()))?,
        max_age: args.max_age,
        timeout: args.timeout,
    })
}

fn order(args: &UpgradeArgs, plan_dir: PathBuf, start: Start) -> upgrade::UpgradeOrder {
    upgrade::UpgradeOrder {
        plan_dir,
        start,
        helm_timeout: args.helm_timeout,
        verify_timeout: args.common.verify_timeout,
        soak: args.soak,
        recovery: args.recovery,
        new_version_started: args.new_version_started,
        recovery_required: args.recovery_required,
        repair_approved: args.repair_approved,
        scaled_down: args.scaled_down.clone(),
    }
}
