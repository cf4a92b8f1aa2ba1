//! Deletes the one object that refuses the change, so that helm recreates it.

use kube::ResourceExt;
use kube::api::{DynamicObject, PropagationPolicy};

use super::RepairContext;
use super::bridge;
use super::refused::RefusedObject;
use crate::api::{FailureClass, Recovery, Remedy};
use crate::core::helm::documents::Documents;
use crate::core::helm::manifest;
use crate::core::helm::ownership::Owner;
use crate::core::helm::workload::WorkloadKind;
use crate::core::object::{KindName, ObjectRef};
use crate::core::repair::disposable::any_stays;
use crate::core::repair::escalation::RepairAction;
use crate::core::report::Problem;
use crate::runner::cluster::kinds;
use crate::runner::cluster::objects::delete;
use crate::runner::context::request;
use crate::runner::error::Error;
use crate::runner::repair::risk::none_owned_by;
use crate::runner::rollout::verify::same_claims;

/// Replaces an object of the release. Whether it was needed: not if it is gone, as helm recreates it then, nor
/// if it is another one than the plan found.
pub async fn replace(repairing: &mut RepairContext<'_>, object: &KindName) -> Result<bool, Error> {
    let here = repairing.ctx.namespace.clone();
    let rendered = repairing.rendered().await?.objects().filter(|(reference, _)| reference.kind_name() == *object);
    // Of namesakes in several namespaces, the one beside the release.
    let found = rendered.min_by_key(|(reference, _)| !reference.is_in(&here));
    let Some((reference, new)) = found.map(|(reference, new)| (reference, new.clone())) else {
        let message = format!("{object} refuses the change, and the chart does not render it: it is left alone");
        return Err(Problem::new(FailureClass::Immutable, message).object(object.to_string()).into());
    };
    let namesakes: Vec<ObjectRef> = repairing.rendered().await?.objects().map(|(reference, _)| reference).collect();
    if any_stays(object, namesakes.iter()) {
        let message = format!(
            "{object} refuses the change, and objects of its kind are never replaced: they are data, or may own it"
        );
        return Err(Problem::new(FailureClass::ImmutableData, message).object(object.to_string()).into());
    }
    let Some(api) = kinds::api(repairing.ctx, &reference).await? else { return Ok(false) };
    let Some(live) = request(&format!("read {object}"), || api.get_opt(&reference.name)).await? else {
        // An earlier try has deleted it; helm recreates it.
        return Ok(false);
    };
    belongs(repairing, &reference, &live).await?;
    same_claims(repairing.ctx, &repairing.plan.inventory.claims).await?;
    none_owned_by(repairing.ctx, std::slice::from_ref(&reference)).await?;
    repairing
        .record(Remedy::Replace, object, how(&object.kind, repairing.package.is_down(repairing.plan)).to_owned())
        .await?;
    let uid = live.uid().unwrap_or_default();
    let live = serde_json::to_value(&live).map_err(|source| Error::Json { what: "an object", source })?;
    let refused = RefusedObject { object, api, live, uid, new };
    match object.kind.parse() {
        Ok(WorkloadKind::Deployment) => Box::pin(bridge::deployment(repairing, &refused)).await?,
        Ok(WorkloadKind::StatefulSet | WorkloadKind::DaemonSet) => Box::pin(bridge::set(repairing, &refused)).await?,
        Err(_) => {
            let RefusedObject { api, uid, .. } = &refused;
            delete(repairing.ctx, repairing.lease(), api, object, uid, PropagationPolicy::Background).await?;
        }
    }
    same_claims(repairing.ctx, &repairing.plan.inventory.claims).await?;
    Ok(true)
}

/// Whether an object that the plan wants to be replaced is still the one that it found.
pub async fn is_still_there(repairing: &RepairContext<'_>, object: &str) -> Result<bool, Error> {
    let Some(uid) = repairing.plan.replaced.get(object) else { return Ok(true) };
    let here = &repairing.ctx.namespace;
    let named = repairing.plan.objects.iter().filter(|reference| reference.is(object));
    let Some(reference) = named.min_by_key(|reference| !reference.is_in(here)) else { return Ok(false) };
    let live = kinds::live(repairing.ctx, reference).await?;
    Ok(live.is_some_and(|live| live.metadata.uid.as_ref() == Some(uid)))
}

/// How an object is replaced, for people.
fn how(kind: &str, down: bool) -> &'static str {
    match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" if down => "it is recreated; its pods have ended before",
        "Deployment" => "it is recreated; its pods serve on until the new ones are ready",
        "StatefulSet" => "it is recreated; the new one takes over its pods and claims",
        "DaemonSet" => "it is recreated; the new one takes over its pods",
        "Service" => "it is recreated; its addresses may change",
        _ => "it is recreated",
    }
}

/// Only what belongs to the release is replaced: helm marked it so, or the release's stored manifest names it.
async fn belongs(repairing: &RepairContext<'_>, reference: &ObjectRef, live: &DynamicObject) -> Result<(), Error> {
    let owner = Owner::of(live.labels(), live.annotations(), &repairing.plan.release, &repairing.ctx.namespace);
    if owner == Owner::Release || (!matches!(owner, Owner::Other { .. }) && recorded(repairing, reference).await?) {
        return Ok(());
    }
    let message = format!("{reference} refuses the change, and it belongs to {owner}: it is left alone");
    Err(Problem::new(FailureClass::OwnedByOther, message).object(reference.to_string()).into())
}

/// Whether a stored manifest of the release names the object.
async fn recorded(repairing: &RepairContext<'_>, reference: &ObjectRef) -> Result<bool, Error> {
    for revision in repairing.release.history().await?.iter().filter(|r| r.deployed() || r.status == "failed") {
        let stored = repairing.release.storage().read(revision).await?;
        let objects = Documents::parse(stored.record.manifest(), &repairing.ctx.namespace)?;
        if objects.objects().any(|(object, _)| object.same(reference)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The workloads whose selector is another one than the chart's. Refused, and named, if no repair is allowed.
pub async fn foreseen(repairing: &mut RepairContext<'_>) -> Result<Vec<RepairAction>, Error> {
    let mut foreseen = Vec::new();
    for workload in repairing.package.workloads {
        let object = KindName::new(workload.kind, &workload.name);
        let reference = ObjectRef {
            api_version: "apps/v1".into(),
            kind: workload.kind.to_string(),
            namespace: Some(repairing.ctx.namespace.clone()),
            name: workload.name.clone(),
        };
        let Some(api) = kinds::api(repairing.ctx, &reference).await? else { continue };
        let Some(live) = request(&format!("read {object}"), || api.get_opt(&workload.name)).await? else {
            bridge::resume(repairing, &object).await?;
            continue;
        };
        let json = serde_json::to_value(&live).map_err(|source| Error::Json { what: "an object", source })?;
        let Some(now) = manifest::workload(&json).filter(|now| now.selector != workload.selector) else {
            bridge::give_back(repairing, &api, &object, &live).await?;
            repairing.live.push((reference, json));
            continue;
        };
        if repairing.package.recovery < Recovery::Repair {
            let message = format!(
                "the selector of {object} would change from {} to {}, and a selector cannot be changed; helm was not run",
                now.selector, workload.selector
            );
            let problem =
                Problem::new(FailureClass::Immutable, message).object(object.to_string()).field("spec.selector");
            return Err(Problem { remedy: Some(Remedy::Replace), ..problem }.into());
        }
        foreseen.push(RepairAction { remedy: Remedy::Replace, object: Some(object) });
    }
    Ok(foreseen)
}
