//! The plan Secret while a change is under way, with those that have the rest of the plan.
//!
//! It belongs to its `CoderUpgrade` and goes with it, as long as nothing was begun. From before the first change until its end
//! it belongs to nobody: however the `CoderUpgrade` is deleted meanwhile (in the foreground, by a GitOps tool that prunes), the
//! garbage collector has no reason to take it. It has no finalizer: in a namespace that is being deleted nobody could remove
//! that. A step that finds it deleted writes it again from what is mounted into its pod.

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::secret;
use crate::api::label;
use crate::core::plan::Plan;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::steps::plan_secret::SavedPlan;

/// How often it is tried to hold a Secret that somebody deletes at the same time.
const TRIES: usize = 3;

/// Takes the Secrets of the plan out of the reach of the garbage collector, and writes those again that are gone.
pub async fn hold(ctx: &Context, saved: &SavedPlan) -> Result<(), Error> {
    let secrets: Api<Secret> = ctx.api();
    for (number, part) in (1..).zip(secret::lay_out(saved.files().await?)?) {
        hold_part(ctx, &secrets, &secret::object(ctx, &saved.plan, number, part, None)).await?;
    }
    Ok(())
}

async fn hold_part(ctx: &Context, secrets: &Api<Secret>, part: &Secret) -> Result<(), Error> {
    for _ in 1..TRIES {
        if try_to_hold(ctx, secrets, part).await? {
            return Ok(());
        }
    }
    try_to_hold(ctx, secrets, part).await.map(|_| ())
}

/// The end of a step that leads to a verified Coder. After a failure the plan is needed again; that it could not be written
/// again is less than what the step failed for.
pub async fn end<T>(ctx: &Context, saved: &SavedPlan, done: Result<T, Error>) -> Result<T, Error> {
    match done {
        Ok(done) => {
            release(ctx, &saved.plan).await;
            Ok(done)
        }
        Err(failed) => {
            if let Err(also) = hold(ctx, saved).await {
                tracing::error!("{also}");
            }
            Err(failed)
        }
    }
}

/// Whether it is held; otherwise it changed under our hands.
async fn try_to_hold(ctx: &Context, secrets: &Api<Secret>, part: &Secret) -> Result<bool, Error> {
    let name = &part.name_any();
    let found = request(&format!("read Secret/{name}"), || secrets.get_metadata_opt(name)).await?;
    let Some(found) = found else {
        return match secrets.create(&PostParams::default(), part).await {
            Ok(_) => {
                tracing::warn!("Secret/{name} was deleted in the middle of the change; it is written again");
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(Error::api(format!("write Secret/{name} again"), error)),
        };
    };
    if !found.owner_references().iter().any(|owner| owner.uid == ctx.uid) {
        return Ok(true);
    }
    let others: Vec<_> = found.owner_references().iter().filter(|owner| owner.uid != ctx.uid).collect();
    secret::own(secrets, name, found.uid(), found.resource_version(), &json!(others)).await
}

/// Gives the Secrets of the plan back to their `CoderUpgrade`: the change has ended.
async fn release(ctx: &Context, plan: &Plan) {
    let secrets: Api<Secret> = ctx.api();
    let of_upgrade = secret::of_upgrade(ctx);
    match request("list the plans", || secrets.list_metadata(&of_upgrade)).await {
        Ok(found) => {
            for part in found.items.iter().filter(|part| part.labels().get(label::PLAN) == Some(&plan.id)) {
                secret::give_back(ctx, part).await;
            }
        }
        Err(error) => tracing::warn!("{error}; the next plan deals with them"),
    }
}
