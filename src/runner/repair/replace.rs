//! Deletes the one object that refuses the change, so that helm recreates it.

use kube::ResourceExt;
use kube::api::{DynamicObject, PropagationPolicy};

use super::RepairContext;
use super::bridge;
use super::refused::Refused;
use crate::api::{FailureClass, Recovery, Remedy};
use crate::core::helm::documents::Documents;
use crate::core::helm::manifest;
use crate::core::helm::ownership::Owner;
use crate::core::helm::workload::WorkloadKind;
use crate::core::object::ObjectRef;
use crate::core::repair::disposable::any_stays;
use crate::core::repair::escalation::Planned;
use crate::core::report::Problem;
use crate::runner::cluster::kinds;
use crate::runner::cluster::objects::delete;
use crate::runner::context::request;
use crate::runner::error::Error;
use crate::runner::repair::risk::none_owned_by;
use crate::runner::rollout::verify::same_claims;

/// Replaces an object (Kind/name) of the release. Whether it was needed: not if it is gone, as helm recreates it then, nor
/// if it is another one than the plan found.
pub async fn replace(scene: &mut RepairContext<'_>, object: &str) -> Result<bool, Error> {
    let kind = object.split('/').next().unwrap_or_default();
    let here = scene.ctx.namespace.clone();
    let rendered = scene.rendered().await?.objects().filter(|(reference, _)| reference.is(object));
    // Of namesakes in several namespaces, the one beside the release.
    let found = rendered.min_by_key(|(reference, _)| !reference.is_in(&here));
    let Some((reference, new)) = found.map(|(reference, new)| (reference, new.clone())) else {
        let message = format!("{object} refuses the change, and the chart does not render it: it is left alone");
        return Err(Problem::new(FailureClass::Immutable, message).object(object).into());
    };
    let namesakes: Vec<ObjectRef> = scene.rendered().await?.objects().map(|(reference, _)| reference).collect();
    if any_stays(object, namesakes.iter()) {
        let message = format!(
            "{object} refuses the change, and objects of its kind are never replaced: they are data, or may own it"
        );
        return Err(Problem::new(FailureClass::ImmutableData, message).object(object).into());
    }
    let Some(api) = kinds::api(scene.ctx, &reference).await? else { return Ok(false) };
    let Some(live) = request(&format!("read {object}"), || api.get_opt(&reference.name)).await? else {
        // An earlier try has deleted it; helm recreates it.
        return Ok(false);
    };
    belongs(scene, &reference, &live).await?;
    same_claims(scene.ctx, &scene.plan.inventory.claims).await?;
    none_owned_by(scene.ctx, std::slice::from_ref(&reference)).await?;
    scene.record(Remedy::Replace, object, how(kind).to_owned()).await?;
    let uid = live.uid().unwrap_or_default();
    let live = serde_json::to_value(&live).map_err(|source| Error::Json { what: "an object", source })?;
    let refused = Refused { object, api, live, uid, new };
    match kind.parse() {
        Ok(WorkloadKind::Deployment) => Box::pin(bridge::deployment(scene, &refused)).await?,
        Ok(WorkloadKind::StatefulSet | WorkloadKind::DaemonSet) => Box::pin(bridge::set(scene, &refused)).await?,
        Err(_) => {
            let Refused { api, uid, .. } = &refused;
            delete(scene.ctx, scene.lease(), api, object, uid, PropagationPolicy::Background).await?;
        }
    }
    same_claims(scene.ctx, &scene.plan.inventory.claims).await?;
    Ok(true)
}

/// Whether an object that the plan wants to be replaced is still the one that it found.
pub async fn is_still_there(scene: &RepairContext<'_>, object: &str) -> Result<bool, Error> {
    let Some(uid) = scene.plan.replaced.get(object) else { return Ok(true) };
    let here = &scene.ctx.namespace;
    let named = scene.plan.objects.iter().filter(|reference| reference.is(object));
    let Some(reference) = named.min_by_key(|reference| !reference.is_in(here)) else { return Ok(false) };
    let live = kinds::live(scene.ctx, reference).await?;
    Ok(live.is_some_and(|live| live.metadata.uid.as_ref() == Some(uid)))
}

/// How an object is replaced, for people.
fn how(kind: &str) -> &'static str {
    match kind {
        "Deployment" => "it is recreated; its pods serve on until the new ones are ready",
        "StatefulSet" => "it is recreated; the new one takes over its pods and claims",
        "DaemonSet" => "it is recreated; the new one takes over its pods",
        "Service" => "it is recreated; its addresses may change",
        _ => "it is recreated",
    }
}

/// Only what belongs to the release is replaced: helm marked it so, or the release's stored manifest names it.
async fn belongs(scene: &RepairContext<'_>, reference: &ObjectRef, live: &DynamicObject) -> Result<(), Error> {
    let owner = Owner::of(live.labels(), live.annotations(), &scene.plan.release, &scene.ctx.namespace);
    if owner == Owner::Release || (!matches!(owner, Owner::Other { .. }) && recorded(scene, reference).await?) {
        return Ok(());
    }
    let message = format!("{reference} refuses the change, and it belongs to {owner}: it is left alone");
    Err(Problem::new(FailureClass::OwnedByOther, message).object(reference.to_string()).into())
}

/// Whether a stored manifest of the release names the object.
async fn recorded(scene: &RepairContext<'_>, reference: &ObjectRef) -> Result<bool, Error> {
    for revision in scene.release.history().await?.iter().filter(|r| r.deployed() || r.status == "failed") {
        let stored = scene.release.storage().read(revision).await?;
        let objects = Documents::parse(stored.record.manifest(), &scene.ctx.namespace)?;
        if objects.objects().any(|(object, _)| object.same(reference)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The workloads whose selector is another one than the chart's. Refused, and named, if no repair is allowed.
pub async fn foreseen(scene: &mut RepairContext<'_>) -> Result<Vec<Planned>, Error> {
    let mut foreseen = Vec::new();
    for workload in scene.package.workloads {
        let object = format!("{}/{}", workload.kind, workload.name);
        let reference = ObjectRef {
            api_version: "apps/v1".into(),
            kind: workload.kind.to_string(),
            namespace: Some(scene.ctx.namespace.clone()),
            name: workload.name.clone(),
        };
        let Some(api) = kinds::api(scene.ctx, &reference).await? else { continue };
        let Some(live) = request(&format!("read {object}"), || api.get_opt(&workload.name)).await? else {
            bridge::resume(scene, &object).await?;
            continue;
        };
        let json = serde_json::to_value(&live).map_err(|source| Error::Json { what: "an object", source })?;
        let Some(now) = manifest::workload(&json).filter(|now| now.selector != workload.selector) else {
            bridge::give_back(scene, &api, &object, &live).await?;
            continue;
        };
        if scene.package.recovery < Recovery::Repair {
            let message = format!(
                "the selector of {object} would change from {} to {}, and a selector cannot be changed; helm was not run",
                now.selector, workload.selector
            );
            let problem = Problem::new(FailureClass::Immutable, message).object(object).field("spec.selector");
            return Err(Problem { remedy: Some(Remedy::Replace), ..problem }.into());
        }
        foreseen.push(Planned { remedy: Remedy::Replace, object });
    }
    Ok(foreseen)
}
