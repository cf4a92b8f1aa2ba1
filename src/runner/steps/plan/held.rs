//! The plan Secret while a change is under way.
//!
//! It belongs to its `CoderUpgrade` and goes with it, as long as nothing was begun. From before the first change until its end
//! it belongs to nobody: however the `CoderUpgrade` is deleted meanwhile (in the foreground, by a GitOps tool that prunes), the
//! garbage collector has no reason to take it. It has no finalizer: in a namespace that is being deleted nobody could remove
//! that. A step that finds it deleted writes it again from what is mounted into its pod.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::secret;
use crate::core::plan::{Plan, key};
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::io;

/// How often it is tried to hold a Secret that somebody deletes at the same time.
const TRIES: usize = 3;

/// Takes the plan Secret out of the reach of the garbage collector, or writes it again if it is gone.
pub async fn hold(ctx: &Context, plan: &Plan, directory: &Path) -> Result<(), Error> {
    let name = secret::name(plan);
    let secrets: Api<Secret> = ctx.api();
    for _ in 1..TRIES {
        if try_to_hold(ctx, plan, directory, &secrets, &name).await? {
            return Ok(());
        }
    }
    try_to_hold(ctx, plan, directory, &secrets, &name).await.map(|_| ())
}

/// The end of a step that leads to a verified Coder. After a failure the plan is needed again; that it could not be written
/// again is less than what the step failed for.
pub async fn end<T>(ctx: &Context, plan: &Plan, directory: &Path, done: Result<T, Error>) -> Result<T, Error> {
    match done {
        Ok(done) => {
            release(ctx, plan).await;
            Ok(done)
        }
        Err(failed) => {
            if let Err(also) = hold(ctx, plan, directory).await {
                tracing::error!("{also}");
            }
            Err(failed)
        }
    }
}

/// Whether it is held; otherwise it changed under our hands.
async fn try_to_hold(
    ctx: &Context,
    plan: &Plan,
    directory: &Path,
    secrets: &Api<Secret>,
    name: &str,
) -> Result<bool, Error> {
    let found = request(&format!("read Secret/{name}"), || secrets.get_metadata_opt(name)).await?;
    let Some(found) = found else {
        let mut data = BTreeMap::new();
        for key in [key::PLAN, key::CHART, key::VALUES, key::PREVIOUS_RELEASE] {
            if key != key::PREVIOUS_RELEASE || plan.from.is_some() {
                data.insert(key.to_owned(), ByteString(io::read(&directory.join(key)).await?));
            }
        }
        let again = secret::object(ctx, name, plan, data, None);
        return match secrets.create(&PostParams::default(), &again).await {
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

/// Gives the plan Secret back to its `CoderUpgrade`: the change has ended.
async fn release(ctx: &Context, plan: &Plan) {
    let name = secret::name(plan);
    let secrets: Api<Secret> = ctx.api();
    match request(&format!("read Secret/{name}"), || secrets.get_metadata_opt(&name)).await {
        Ok(found) => {
            if let Some(found) = found {
                secret::give_back(ctx, &found).await;
            }
        }
        Err(error) => tracing::warn!("{error}; the next plan looks after it"),
    }
}
