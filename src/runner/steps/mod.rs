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

use self::plan_secret::SavedPlan;
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
        StepArgs::Backup(args) => {
            let saved = SavedPlan::read(ctx, &args.plan_dir).await?;
            backup::run(ctx, &backup_order(args)?, &saved.plan).await.map(Outcome::BackedUp)
        }
        StepArgs::Uninstall(args) => {
            let saved = SavedPlan::read(ctx, &args.plan_dir).await?;
            let order = uninstall::Order { helm_timeout: args.helm_timeout, keep_addresses: args.keep_addresses };
            uninstall::run(ctx, &order, &saved).await.map(Outcome::Uninstalled)
        }
        StepArgs::Upgrade(args) => {
            let saved = SavedPlan::read(ctx, &args.plan_dir).await?;
            Box::pin(upgrade::run(ctx, &order(args, Start::Planned), &saved)).await.map(Outcome::Upgraded)
        }
        StepArgs::Install(args) => {
            let saved = SavedPlan::read(ctx, &args.plan_dir).await?;
            Box::pin(upgrade::run(ctx, &order(args, Start::Uninstalled), &saved)).await.map(Outcome::Upgraded)
        }
        StepArgs::Restore(args) => {
            let saved = SavedPlan::read(ctx, &args.plan_dir).await?;
            Box::pin(restore::run(ctx, &order(args, Start::Planned), &saved)).await.map(Outcome::Restored)
        }
    }
}

fn backup_order(args: &BackupArgs) -> Result<backup::Order, Error> {
    let snapshots = || args.volume_snapshot_class.clone().map(backup::Method::Snapshots);
    let method = args.cron_job.clone().map(backup::Method::CronJob).or_else(snapshots);
    Ok(backup::Order {
        attempt: args.attempt,
        method: method.ok_or_else(|| Error::Bug("the step has no way to make a backup".into()))?,
        max_age: args.max_age,
        timeout: args.timeout,
    })
}

fn order(args: &UpgradeArgs, start: Start) -> upgrade::Order {
    upgrade::Order {
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
