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

use self::plan_secret::SavedPlan;
use super::args::{AfterPlan, StepArgs};
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
            let AfterPlan { plan_dir, order } = &args.order;
            let saved = SavedPlan::read(ctx, plan_dir).await?;
            backup::run(ctx, order, &saved.plan).await.map(Outcome::BackedUp)
        }
        StepArgs::Uninstall(args) => {
            let AfterPlan { plan_dir, order } = &args.order;
            let saved = SavedPlan::read(ctx, plan_dir).await?;
            uninstall::run(ctx, order, &saved).await.map(Outcome::Uninstalled)
        }
        StepArgs::Upgrade(args) => {
            let AfterPlan { plan_dir, order } = &args.order;
            let saved = SavedPlan::read(ctx, plan_dir).await?;
            Box::pin(upgrade::run(ctx, order, &saved, Start::Planned)).await.map(Outcome::Upgraded)
        }
        StepArgs::Install(args) => {
            let AfterPlan { plan_dir, order } = &args.order;
            let saved = SavedPlan::read(ctx, plan_dir).await?;
            Box::pin(upgrade::run(ctx, order, &saved, Start::Uninstalled)).await.map(Outcome::Upgraded)
        }
        StepArgs::Restore(args) => {
            let AfterPlan { plan_dir, order } = &args.order;
            let saved = SavedPlan::read(ctx, plan_dir).await?;
            Box::pin(restore::run(ctx, order, &saved)).await.map(Outcome::Restored)
        }
    }
}
