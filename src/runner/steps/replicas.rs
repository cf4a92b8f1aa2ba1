//! Numbers of replicas that somebody else has set, as they are right before helm runs: an autoscaler may have changed one after
//! the plan was made.

use std::path::PathBuf;

use serde_json::Value;

use crate::core::helm::documents::{Change, Documents};
use crate::core::object::ObjectRef;
use crate::core::plan::Plan;
use crate::core::plan::replicas::{ReplicasSource, set, set_by};
use crate::runner::cluster::kinds;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::package::Package;
use crate::runner::io;

/// The values of a package with the numbers that others have set, in a file of their own; none if they have them already. What
/// was read a moment ago is in `known`.
pub async fn kept(
    ctx: &Context,
    plan: &Plan,
    package: &Package<'_>,
    known: &[(ObjectRef, Value)],
) -> Result<Option<PathBuf>, Error> {
    // What is restored is a manifest, which has them; see [`keep_in`].
    if package.restores || plan.replicas.is_empty() {
        return Ok(None);
    }
    let text = io::read(package.values).await?;
    let before: Value = serde_json::from_slice(&text).map_err(|source| Error::Json { what: "the values", source })?;
    let mut values = before.clone();
    for ReplicasSource { object, path } in &plan.replicas {
        let Some(reference) = plan.objects.iter().find(|reference| reference.is(object)) else { continue };
        let number = match known.iter().find(|(object, _)| object.same(reference)) {
            Some((_, live)) => set_number(live),
            None => number(ctx, reference).await?,
        };
        if let Some(number) = number {
            set(&mut values, path, number);
        }
    }
    if values == before {
        return Ok(None);
    }
    let path = ctx.work_dir.join("values-with-replicas.json");
    io::write_private(&path, values.to_string().as_bytes()).await?;
    Ok(Some(path))
}

/// Writes the numbers that others have set into a manifest that is restored: helm 4 would be refused for another one.
pub async fn keep_in(ctx: &Context, manifest: &mut Documents) -> Result<(), Error> {
    let workloads: Vec<ObjectRef> = manifest.objects().map(|(name, _)| name).filter(scales).collect();
    for workload in workloads {
        let Some(number) = number(ctx, &workload).await? else { continue };
        manifest.change(|name, object| {
            if !name.same(&workload) || object["spec"]["replicas"].as_i64().is_none_or(|set| set == number) {
                return Change::None;
            }
            let mut object = object.clone();
            object["spec"]["replicas"] = number.into();
            Change::To(object)
        });
    }
    Ok(())
}

fn scales(object: &ObjectRef) -> bool {
    matches!(object.kind.as_str(), "Deployment" | "StatefulSet")
}

/// The number of replicas that a person or an autoscaler has given a workload.
async fn number(ctx: &Context, object: &ObjectRef) -> Result<Option<i64>, Error> {
    let Some(live) = kinds::read(ctx, object).await? else { return Ok(None) };
    Ok(set_number(&serde_json::to_value(&live).map_err(|source| Error::Json { what: "an object", source })?))
}

fn set_number(live: &Value) -> Option<i64> {
    let number = live["spec"]["replicas"].as_i64().filter(|number| *number > 0);
    number.filter(|_| set_by(live, None).is_some())
}
