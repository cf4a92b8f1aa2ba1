//! The volumes of a release: what would delete them, and whether they are as large as the chart asks.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::context::{Context, request};
use super::error::Error;
use super::helm::storage::Storage;
use crate::api::{ClaimStatus, FailureClass, Recovery, Remedy, Repair};
use crate::core::documents::{Documents, KEEP, RESOURCE_POLICY};
use crate::core::history::Revision;
use crate::core::manifest::Manifest;
use crate::core::plan::Plan;
use crate::core::report::Problem;
use crate::core::uninstall;
use crate::core::volumes::{self, Growth, Judgement, Shape};

/// Refuses if a claim would be deleted together with objects of the release that go: because one of them owns it, or
/// because its `StatefulSet` deletes its claims when it is deleted itself.
pub async fn none_at_risk(ctx: &Context, claims: &[ClaimStatus], going: &Documents) -> Result<(), Error> {
    for ClaimStatus { name, .. } in claims {
        let owners = metadata(ctx, name).await?.and_then(|claim| claim.owner_references).unwrap_or_default();
        let goes = |owner: &str| going.objects().any(|(object, _)| object.is_in(&ctx.namespace) && object.is(owner));
        let owner = owners.into_iter().map(|owner| format!("{}/{}", owner.kind, owner.name)).find(|owner| {
            // A pod goes with its workload.
            goes(owner) || owner.starts_with("Pod/")
        });
        if let Some(owner) = owner {
            return Err(at_risk(
                &format!("PersistentVolumeClaim/{name}"),
                "metadata.ownerReferences",
                &format!("PersistentVolumeClaim/{name} belongs to {owner} and would be deleted with it"),
            ));
        }
    }
    let sets: Api<StatefulSet> = ctx.api();
    for (set, _) in going.objects().filter(|(name, _)| name.kind == "StatefulSet" && name.is_in(&ctx.namespace)) {
        let spec = request(&format!("read {set}"), || sets.get_opt(&set.name)).await?.and_then(|set| set.spec);
        let policy = spec.and_then(|spec| spec.persistent_volume_claim_retention_policy?.when_deleted);
        if policy.as_deref() == Some("Delete") {
            return Err(at_risk(
                &set.to_string(),
                "spec.persistentVolumeClaimRetentionPolicy.whenDeleted",
                &format!("{set} deletes its PersistentVolumeClaims when it is deleted itself"),
            ));
        }
    }
    Ok(())
}

fn at_risk(object: &str, field: &str, message: &str) -> Error {
    Problem::new(FailureClass::DataAtRisk, format!("{message}; nothing was touched")).object(object).field(field).into()
}

async fn metadata(ctx: &Context, claim: &str) -> Result<Option<ObjectMeta>, Error> {
    let claims: Api<PersistentVolumeClaim> = ctx.api();
    let found = request(&format!("read PersistentVolumeClaim/{claim}"), || claims.get_metadata_opt(claim)).await?;
    Ok(found.map(|claim| claim.metadata))
}

/// Before an upgrade: helm deletes what the new chart does not have any more. Claims among that are marked, so that helm
/// leaves them; what would take claims with it stops the upgrade.
pub async fn spare(ctx: &Context, plan: &Plan, storage: &Storage, history: &[Revision]) -> Result<(), Error> {
    let mut going = storage.union(uninstall::applied(plan, history), &ctx.namespace).await?;
    going.remove(|name, _| plan.objects.iter().any(|object| object.same(name)));
    none_at_risk(ctx, &plan.inventory.claims, &going).await?;
    let dropped =
        going.objects().filter(|(name, _)| name.kind == "PersistentVolumeClaim" && name.is_in(&ctx.namespace));
    for (claim, _) in dropped {
        let Some(now) = metadata(ctx, &claim.name).await? else { continue };
        if now.annotations.as_ref().and_then(|all| all.get(RESOURCE_POLICY)).is_some_and(|policy| policy == KEEP) {
            continue;
        }
        tracing::info!("{claim} is not in the new chart: it stays");
        let marked = json!({"metadata": {"uid": now.uid, "annotations": {RESOURCE_POLICY: KEEP}}});
        patch(ctx, &claim.name, marked).await?;
    }
    Ok(())
}

/// A patch that names the UID is refused for a namesake.
async fn patch(ctx: &Context, claim: &str, patch: Value) -> Result<(), Error> {
    let claims: Api<PersistentVolumeClaim> = ctx.api();
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
    request(&format!("change PersistentVolumeClaim/{claim}"), || claims.patch_metadata(claim, &parameters, &patch))
        .await?;
    Ok(())
}

/// After an upgrade: compares the claims with the templates of the `StatefulSets` that they are made from, enlarges what may
/// be enlarged, and notes what differs.
pub async fn reconcile(
    ctx: &Context,
    manifest: &Manifest,
    claims: &mut [ClaimStatus],
    allowed: Recovery,
) -> Result<(), Error> {
    let templates = manifest.claim_templates();
    for status in claims {
        let Some((_, template)) = templates.iter().find(|(claim, _)| *claim == status.name) else { continue };
        let api: Api<PersistentVolumeClaim> = ctx.api();
        let doing = format!("read PersistentVolumeClaim/{}", status.name);
        let Some(claim) = request(&doing, || api.get_opt(&status.name)).await? else { continue };
        let shape = shape(&claim);
        let differs = volumes::judge(template, &shape, Growth::Unknown, allowed) != Judgement::default();
        let growth = if differs { growth(ctx, shape.class.as_deref()).await? } else { Growth::Unknown };
        let Judgement { expand, note } = volumes::judge(template, &shape, growth, allowed);
        let mut notes: Vec<String> = note.into_iter().collect();
        let mut size = shape.size.clone();
        if let Some(wanted) = expand {
            match expand_claim(ctx, &claim, &shape, &wanted).await {
                Ok(()) => size = Some(wanted),
                Err(error) => notes.push(format!("the chart asks for {wanted}, but it cannot be enlarged: {error}")),
            }
        }
        if let (Some(capacity), Some(size)) = (&status.capacity, &size)
            && volumes::still_growing(capacity, size)
        {
            notes.push(format!("its volume has {capacity} and is growing to {size}"));
        }
        status.note = (!notes.is_empty()).then(|| ctx.secrets.clean(&notes.join("; ")));
    }
    Ok(())
}

fn shape(claim: &PersistentVolumeClaim) -> Shape {
    let spec = claim.spec.clone().unwrap_or_default();
    let requests = spec.resources.and_then(|resources| resources.requests);
    Shape {
        size: requests.and_then(|requests| requests.get("storage").map(|size| size.0.clone())),
        class: spec.storage_class_name,
        modes: spec.access_modes.unwrap_or_default(),
    }
}

/// Storage classes belong to the cluster: a runner may have no right to read them, and can do without.
async fn growth(ctx: &Context, class: Option<&str>) -> Result<Growth, Error> {
    let Some(class) = class.filter(|class| !class.is_empty()) else { return Ok(Growth::Refused) };
    let classes: Api<StorageClass> = Api::all(ctx.client.clone());
    match request(&format!("read StorageClass/{class}"), || classes.get_opt(class)).await {
        Ok(Some(found)) if found.allow_volume_expansion == Some(true) => Ok(Growth::Allowed),
        Ok(Some(_)) => Ok(Growth::Refused),
        Ok(None) => Ok(Growth::Unknown),
        Err(error) if error.has_code(403) => {
            tracing::debug!("no right to read StorageClass/{class}: whether its volumes can grow stays unknown");
            Ok(Growth::Unknown)
        }
        Err(error) => Err(error),
    }
}

async fn expand_claim(ctx: &Context, claim: &PersistentVolumeClaim, has: &Shape, wanted: &str) -> Result<(), Error> {
    let name = claim.metadata.name.clone().unwrap_or_default();
    let from = has.size.as_deref().unwrap_or("an unknown size");
    let repair = Repair {
        remedy: Remedy::Expand,
        object: format!("PersistentVolumeClaim/{name}"),
        message: format!("the chart asks for {wanted} instead of {from}"),
        time: Time(Timestamp::now()),
    };
    ctx.reporter.repair(repair).await?;
    let ObjectMeta { uid, resource_version, .. } = &claim.metadata;
    let larger = json!({
        "metadata": {"uid": uid, "resourceVersion": resource_version},
        "spec": {"resources": {"requests": {"storage": wanted}}},
    });
    patch(ctx, &name, larger).await
}
