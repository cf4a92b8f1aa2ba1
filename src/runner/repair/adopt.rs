//! Takes objects without an owner into the release.
//!
//! `helm --take-ownership` takes every object of the chart that exists, and does not ask whether another live release owns
//! it. So all of them are looked at before helm gets that flag.

use std::collections::BTreeMap;
use std::fmt::Display;

use futures::future::try_join;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::RepairContext;
use crate::api::{FailureClass, Remedy};
use crate::core::helm::documents::Documents;
use crate::core::helm::ownership::{Owner, marked};
use crate::core::object::ObjectRef;
use crate::core::plan::Plan;
use crate::core::repair::disposable::is_data;
use crate::core::report::Problem;
use crate::runner::cluster::kinds;
use crate::runner::cluster::kinds::LiveObject;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::Major;
use crate::runner::helm::storage::{Storage, in_config_maps};

/// helm's name as a manager of fields.
const MANAGER: &str = "helm";

/// Refuses to take anything over in a first install that is not meant to: what exists is no part of the plan then.
pub fn allowed(plan: &Plan, object: &str) -> Result<(), Error> {
    if plan.from.is_some() || plan.adopt {
        return Ok(());
    }
    let message = format!(
        "{object} exists and belongs to no Helm release; a first install takes nothing over unless spec.adopt is true. Nothing \
         was changed"
    );
    // Planned again, it is told with all the rest.
    Err(Problem::new(FailureClass::PlanOutdated, message).object(object).field("spec.adopt").into())
}

/// Records the objects that helm is to take, and makes way for it. Refuses if one of them belongs to somebody: then
/// nothing is touched. Whether there were any.
pub async fn adopt(repairing: &mut RepairContext<'_>) -> Result<bool, Error> {
    let rendered = repairing.rendered().await?.clone();
    let unowned = unowned(repairing.ctx, &repairing.plan.release, &rendered).await?;
    let needed = !unowned.is_empty();
    let conflicts = server_side(repairing).await?;
    for (object, why) in unowned {
        repairing.record(Remedy::Adopt, &object.to_string(), format!("{why}; helm takes it into this one")).await?;
        let wanted = rendered.objects().find(|(name, _)| *name == object);
        if let Some((_, wanted)) = wanted.filter(|_| conflicts) {
            take_fields(repairing, &object, wanted).await?;
        }
    }
    Ok(needed)
}

/// Whether helm will change objects by server-side apply: as for the newest record, or by default if there is none.
async fn server_side(repairing: &RepairContext<'_>) -> Result<bool, Error> {
    match repairing.release.history().await?.first() {
        Some(newest) => Ok(repairing.release.storage().read(newest).await?.record.server_side()),
        None => Ok(repairing.ctx.helm.major() == Major::Four),
    }
}

/// Takes the fields that the chart sets from whoever made the object, in helm's name: helm itself would be refused, as they
/// have another manager. Fields that the chart does not set stay as they are.
async fn take_fields(repairing: &RepairContext<'_>, object: &ObjectRef, wanted: &Value) -> Result<(), Error> {
    let Some(api) = kinds::api(repairing.ctx, object).await? else { return Ok(()) };
    let patch = Patch::Apply(marked(wanted, &repairing.plan.release, &repairing.ctx.namespace));
    let parameters = PatchParams::apply(MANAGER).force();
    match repairing.lease().write(&format!("take over {object}"), || api.patch(&object.name, &parameters, &patch)).await
    {
        // Some field cannot be changed: helm will say which, and that is a repair of its own.
        Err(error) if error.has_code(422) => {
            tracing::info!("{object} refuses the change: {error}");
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

/// The objects of a chart that exist and belong to nobody, and why. Refuses if one of them belongs to somebody, or is data
/// that would go with the release.
pub async fn unowned(ctx: &Context, release: &str, rendered: &Documents) -> Result<Vec<(ObjectRef, String)>, Error> {
    let mut unowned = Vec::new();
    let mut alive: BTreeMap<(String, String), bool> = BTreeMap::new();
    for (object, _) in rendered.objects() {
        let Some(found) = kinds::live(ctx, &object).await? else { continue };
        let owner = Owner::of(found.labels(), found.annotations(), release, &ctx.namespace);
        if owner != Owner::Release {
            controlled(&object, &found)?;
        }
        match &owner {
            Owner::Release => {}
            Owner::Nobody => unowned.push((object, "it belonged to no Helm release".to_owned())),
            Owner::Tool(_) => return Err(belongs(&object, &owner)),
            Owner::Other { release, namespace } => {
                let key = (namespace.clone(), release.clone());
                if !alive.contains_key(&key) {
                    alive.insert(key.clone(), is_alive(ctx, release, namespace).await?);
                }
                if alive[&key] {
                    return Err(belongs(&object, &owner));
                }
                unowned.push((object, format!("its owner, release {release} in namespace {namespace}, is gone")));
            }
        }
    }
    match unowned.iter().find(|(object, _)| is_data(object)) {
        None => Ok(unowned),
        Some((object, why)) => {
            let message = format!(
                "{object} exists, and {why}; as a part of the release it would go with the release. Give it another name \
                 in the values, or take it into the release by hand"
            );
            Err(Problem::new(FailureClass::DataAtRisk, message).object(object.to_string()).into())
        }
    }
}

/// An object that another object controls is somebody's, even if no release owns it.
fn controlled(object: &ObjectRef, found: &LiveObject) -> Result<(), Error> {
    let controller = found.owner_references().iter().find(|owner| owner.controller == Some(true));
    controller
        .map_or(Ok(()), |owner| Err(belongs(object, &format_args!("{}/{}, which controls it", owner.kind, owner.name))))
}

fn belongs(object: &ObjectRef, owner: &dyn Display) -> Error {
    let message = format!("{object} belongs to {owner}; nothing was changed");
    Problem::new(FailureClass::OwnedByOther, message).object(object.to_string()).into()
}

/// Whether a release has anything installed, asked each time: its Lease is not held, so it may change. What cannot be looked at
/// counts as alive.
async fn is_alive(ctx: &Context, release: &str, namespace: &str) -> Result<bool, Error> {
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let maps: Api<ConfigMap> = Api::namespaced(ctx.client.clone(), namespace);
    let storage = Storage::new(secrets, release);
    match try_join(storage.history(), in_config_maps(&maps, release)).await {
        Ok((secrets, maps)) => {
            let newest = [secrets.first(), maps.first()].into_iter().flatten();
            Ok(newest.into_iter().any(|newest| newest.status != "uninstalled"))
        }
        Err(error) if error.has_code(403) => {
            tracing::info!("no right to look at release {release} in namespace {namespace}: it counts as alive");
            Ok(true)
        }
        Err(error) => Err(error),
    }
}
