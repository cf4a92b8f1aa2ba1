//! The plan Secret while a change is under way, with those that have the rest of the plan.
//!
//! It belongs to its `CoderUpgrade` and goes with it, as long as nothing was begun. From before the first change until its end
//! it belongs to nobody: however the `CoderUpgrade` is deleted meanwhile (in the foreground, by a GitOps tool that prunes), the
//! garbage collector has no reason to take it. It has no finalizer: in a namespace that is being deleted nobody could remove
//! that. A step that finds it deleted writes it again from what is mounted into its pod.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{PartialObjectMeta, PartialObjectMetaExt, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::secret;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::steps::plan_secret::SavedPlan;

/// How often it is tried to hold a Secret that somebody deletes at the same time.
const TRIES: usize = 3;

/// Takes the Secrets of the plan out of the reach of the garbage collector, and writes those again that are gone. Returns them
/// as they are then.
pub async fn hold(ctx: &Context, saved: &SavedPlan) -> Result<Vec<PartialObjectMeta<Secret>>, Error> {
    let secrets: Api<Secret> = ctx.api();
    let mut held = Vec::new();
    for (number, part) in (1..).zip(secret::lay_out(saved.files().await?)?) {
        held.extend(hold_part(ctx, &secrets, &secret::object(ctx, &saved.plan, number, part, None)).await?);
    }
    Ok(held)
}

/// None if the Secret was changed by somebody else each time.
async fn hold_part(
    ctx: &Context,
    secrets: &Api<Secret>,
    part: &Secret,
) -> Result<Option<PartialObjectMeta<Secret>>, Error> {
    for _ in 0..TRIES {
        if let Some(held) = try_to_hold(ctx, secrets, part).await? {
            return Ok(Some(held));
        }
    }
    Ok(None)
}

/// The end of a step that leads to a verified Coder, which gives back what was held. After a failure the plan is needed again;
/// that it could not be written again is less than what the step failed for.
pub async fn end<T>(
    ctx: &Context,
    saved: &SavedPlan,
    held: &[PartialObjectMeta<Secret>],
    done: Result<T, Error>,
) -> Result<T, Error> {
    match done {
        Ok(done) => {
            for part in held {
                secret::give_back(ctx, part).await;
            }
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

/// The Secret as it is held; none if it changed under our hands.
async fn try_to_hold(
    ctx: &Context,
    secrets: &Api<Secret>,
    part: &Secret,
) -> Result<Option<PartialObjectMeta<Secret>>, Error> {
    let name = &part.name_any();
    let found = request(&format!("read Secret/{name}"), || secrets.get_metadata_opt(name)).await?;
    let Some(found) = found else {
        return match secrets.create(&PostParams::default(), part).await {
            Ok(written) => {
                tracing::warn!("Secret/{name} was deleted in the middle of the change; it is written again");
                Ok(Some(written.metadata.into_response_partial()))
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(Error::api(format!("write Secret/{name} again"), error)),
        };
    };
    if !found.owner_references().iter().any(|owner| owner.uid == ctx.uid) {
        return Ok(Some(found));
    }
    let others: Vec<_> = found.owner_references().iter().filter(|owner| owner.uid != ctx.uid).collect();
    secret::own(secrets, &found, &json!(others)).await
}
