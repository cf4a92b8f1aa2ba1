//! The steps: each does what is left of it, under the lease of its release.

pub mod apply;
pub mod backup;
pub mod fence;
pub mod pause;
pub mod plan;
pub mod plan_secret;
pub mod proof;
pub mod replicas;
pub mod restore;
pub mod uninstall;
pub mod upgrade;
pub mod volumes;

use clap::Args;

use self::plan_secret::SavedPlan;
use super::args::{AfterPlan, StepArgs, StepOrder};
use super::context::Context;
use super::error::Error;
use crate::core::report::Outcome;
use crate::core::steps::upgrade::Start;

/// Does a step.
pub async fn perform(ctx: &Context, step: &StepArgs) -> Result<Outcome, Error> {
    match step {
        // A plan changes nothing that could be left half done, so it is simply dropped, and its helm with it.
        StepArgs::Plan(args) => tokio::select! {
            planned = Box::pin(plan::run(ctx, &args.order)) => planned.map(|planned| Outcome::Planned(Box::new(planned))),
            () = ctx.stop.cancelled() => Err(Error::Stopped),
        },
        StepArgs::Backup(args) => {
            let (saved, order) = read(ctx, args).await?;
            backup::run(ctx, order, &saved.plan).await.map(Outcome::BackedUp)
        }
        StepArgs::Uninstall(args) => {
            let (saved, order) = read(ctx, args).await?;
            uninstall::run(ctx, order, &saved).await.map(Outcome::Uninstalled)
        }
        StepArgs::Upgrade(args) => {
            let (saved, order) = read(ctx, args).await?;
            Box::pin(upgrade::run(ctx, order, &saved, Start::Planned)).await.map(Outcome::Upgraded)
        }
        StepArgs::Install(args) => {
            let (saved, order) = read(ctx, args).await?;
            Box::pin(upgrade::run(ctx, order, &saved, Start::Uninstalled)).await.map(Outcome::Upgraded)
        }
        StepArgs::Restore(args) => {
            let (saved, order) = read(ctx, args).await?;
            Box::pin(restore::run(ctx, order, &saved)).await.map(Outcome::Restored)
        }
    }
}

/// The plan that a step follows, and the arguments of that step alone.
async fn read<'a, T: Args>(ctx: &Context, args: &'a StepOrder<AfterPlan<T>>) -> Result<(SavedPlan, &'a T), Error> {
    let AfterPlan { plan_dir, order } = &args.order;
    Ok((SavedPlan::read(ctx, plan_dir).await?, order))
}
