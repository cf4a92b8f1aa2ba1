//! What belongs to a release beside its objects: claims with their volumes, addresses, answers.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::{Api, ResourceExt};

use super::owners::owned;
use crate::api::{ClaimStatus, Exposure};
use crate::core::helm::documents::Documents;
use crate::core::object::ObjectRef;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// The claims of these names that exist.
pub async fn claims(ctx: &Context, names: &BTreeSet<String>) -> Result<BTreeMap<String, ClaimStatus>, Error> {
    let found = try_join_all(names.iter().map(|name| claim(ctx, name))).await?;
    Ok(found.into_iter().flatten().map(|claim| (claim.name.clone(), claim)).collect())
}

/// Names of the claims that objects of these manifests own, directly or through others.
pub async fn owned_claims(ctx: &Context, manifests: &[&Documents]) -> Result<BTreeSet<String>, Error> {
    let objects: Vec<ObjectRef> =
        manifests.iter().flat_map(|manifest| manifest.objects()).map(|(name, _)| name).collect();
    let claims = owned(ctx, &ctx.namespace).await?;
    let ours =
        claims.into_iter().filter(|claim| claim.belongs_to(|owner| objects.iter().any(|o| o.same(owner))).is_some());
    Ok(ours.map(|claim| claim.name).collect())
}

async fn claim(ctx: &Context, name: &str) -> Result<Option<ClaimStatus>, Error> {
    let claims: Api<PersistentVolumeClaim> = ctx.api();
    let doing = format!("read PersistentVolumeClaim/{name}");
    let Some(claim) = request(&doing, || claims.get_opt(name)).await? else { return Ok(None) };
    let claim = ClaimStatus::from(&claim);
    let reclaim_policy = match &claim.volume {
        Some(volume) => reclaim_policy(ctx, volume).await?,
        None => None,
    };
    Ok(Some(ClaimStatus { reclaim_policy, ..claim }))
}

/// Volumes belong to the cluster: a runner may have no right to read them, and can do without.
async fn reclaim_policy(ctx: &Context, volume: &str) -> Result<Option<String>, Error> {
    let volumes: Api<PersistentVolume> = Api::all(ctx.client.clone());
    match request(&format!("read PersistentVolume/{volume}"), || volumes.get_opt(volume)).await {
        Ok(volume) => Ok(volume.and_then(|volume| volume.spec?.persistent_volume_reclaim_policy)),
        Err(error) if error.has_code(403) => {
            tracing::debug!("no right to read PersistentVolume/{volume}: its reclaim policy stays unknown");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The `LoadBalancer` Services and the Ingresses of a manifest, with their addresses.
pub async fn exposures(ctx: &Context, manifest: &Documents) -> Result<Vec<Exposure>, Error> {
    let services = try_join_all(manifest.names("Service").map(|name| service(ctx, name)));
    let ingresses = try_join_all(manifest.names("Ingress").map(|name| ingress(ctx, name)));
    let (services, ingresses) = tokio::try_join!(services, ingresses)?;
    Ok(services.into_iter().chain(ingresses).flatten().collect())
}

async fn service(ctx: &Context, name: &str) -> Result<Option<Exposure>, Error> {
    let services: Api<Service> = ctx.api();
    let Some(service) = request(&format!("read Service/{name}"), || services.get_opt(name)).await? else {
        return Ok(None);
    };
    if service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) != Some("LoadBalancer") {
        return Ok(None);
    }
    let uid = service.uid().unwrap_or_default();
    let points = service.status.and_then(|status| status.load_balancer?.ingress).unwrap_or_default();
    let addresses = points.into_iter().filter_map(|point| point.ip.or(point.hostname)).collect();
    Ok(Some(Exposure { kind: "Service".into(), name: name.to_owned(), uid, addresses }))
}

async fn ingress(ctx: &Context, name: &str) -> Result<Option<Exposure>, Error> {
    let ingresses: Api<Ingress> = ctx.api();
    let Some(ingress) = request(&format!("read Ingress/{name}"), || ingresses.get_opt(name)).await? else {
        return Ok(None);
    };
    let uid = ingress.uid().unwrap_or_default();
    let points = ingress.status.and_then(|status| status.load_balancer?.ingress).unwrap_or_default();
    let addresses = points.into_iter().filter_map(|point| point.ip.or(point.hostname)).collect();
    Ok(Some(Exposure { kind: "Ingress".into(), name: name.to_owned(), uid, addresses }))
}
