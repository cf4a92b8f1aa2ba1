//! What helm waits for beside pods.

use crate::core::object::ObjectRef;
use crate::core::plan::Plan;
use crate::core::rollout::readiness::{is_waited_for, unready};
use crate::runner::cluster::kinds;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::Major;

/// Looks for an object of the plan that helm waits for although all pods are ready.
pub struct Waits<'a> {
    ctx: &'a Context,
    objects: Vec<&'a ObjectRef>,
}

impl<'a> Waits<'a> {
    /// For the objects of a plan.
    pub fn of(ctx: &'a Context, plan: &'a Plan) -> Self {
        let all = ctx.helm.major() == Major::Four;
        Self { ctx, objects: plan.objects.iter().filter(|object| is_waited_for(object, all)).collect() }
    }

    /// The first one that is not ready, with the reason. What cannot be read is passed over: helm itself tells of it.
    pub async fn first(&self) -> Option<(ObjectRef, String)> {
        for object in &self.objects {
            match look(self.ctx, object).await {
                Ok(Some(why)) => return Some(((*object).clone(), why)),
                Ok(None) => {}
                Err(error) => tracing::debug!("{object} is waited for and cannot be looked at: {error}"),
            }
        }
        None
    }
}

async fn look(ctx: &Context, object: &ObjectRef) -> Result<Option<String>, Error> {
    if kinds::api(ctx, object).await?.is_none() {
        return Ok(None);
    }
    let live = kinds::read(ctx, object).await?;
    let live = serde_json::to_value(&live).map_err(|source| Error::Json { what: "an object", source })?;
    Ok(unready(&live))
}
