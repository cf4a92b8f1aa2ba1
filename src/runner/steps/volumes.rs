//! The volumes of a release: whether they are as large as the chart asks.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::api::{ClaimStatus, Recovery, Remedy, Repair};
use crate::core::helm::documents::Documents;
use crate::core::helm::documents::Shape;
use crate::core::repair::volumes;
use crate::core::repair::volumes::{ClaimAction, Growth};
use crate::runner::cluster::lease::Held;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// After an upgrade: compares the claims with the templates of the `StatefulSets` that they are made from, enlarges what may
/// be enlarged, and notes what differs.
pub async fn reconcile(
    ctx: &Context,
    lease: &Held,
    manifest: &Documents,
    claims: &mut [ClaimStatus],
    allowed: Recovery,
) -> Result<(), Error> {
    let templates = manifest.claim_templates()?;
    for status in claims {
        let Some((_, template)) = templates.iter().find(|(claim, _)| *claim == status.name) else { continue };
        let api: Api<PersistentVolumeClaim> = ctx.api();
        let doing = format!("read PersistentVolumeClaim/{}", status.name);
        let Some(claim) = request(&doing, || api.get_opt(&status.name)).await? else { continue };
        let shape = shape(&claim);
        let differs = volumes::judge(template, &shape, Growth::Unknown, allowed) != ClaimAction::default();
        let growth = if differs { growth(ctx, shape.class.as_deref()).await? } else { Growth::Unknown };
        let ClaimAction { expand, note } = volumes::judge(template, &shape, growth, allowed);
        let mut notes: Vec<String> = note.into_iter().collect();
        let mut size = shape.size.clone();
        if let Some(wanted) = expand {
            match expand_claim(ctx, lease, &claim, &shape, &wanted).await {
                Ok(()) => size = Some(wanted),
                Err(error) => notes.push(format!("the chart asks for {wanted}, but it cannot be enlarged: {error}")),
            }
        }
        if let (Some(capacity), Some(size)) = (&status.capacity, &size)
            && volumes::still_growing(capacity, size)
        {
            notes.push(format!("its volume has {capacity} and is growing to {size}"));
        }
        status.note = (!notes.is_empty()).then(|| notes.join("; "));
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

async fn expand_claim(
    ctx: &Context,
    lease: &Held,
    claim: &PersistentVolumeClaim,
    has: &Shape,
    wanted: &str,
) -> Result<(), Error> {
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
    // A patch that names the UID is refused for a namesake.
    let larger = Patch::Merge(json!({
        "metadata": {"uid": uid, "resourceVersion": resource_version},
        "spec": {"resources": {"requests": {"storage": wanted}}},
    }));
    let (claims, parameters): (Api<PersistentVolumeClaim>, _) = (ctx.api(), PatchParams::default());
    let doing = format!("change PersistentVolumeClaim/{name}");
    lease.write(&doing, || claims.patch_metadata(&name, &parameters, &larger)).await?;
    ctx.reporter.repaired();
    Ok(())
}
