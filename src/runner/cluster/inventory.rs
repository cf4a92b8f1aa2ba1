//! What belongs to a release beside its objects: claims with their volumes, addresses, answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

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

/// The Services and the Ingresses of a manifest by which something is reached, with their addresses.
pub async fn exposures(ctx: &Context, manifest: &Documents) -> Result<Vec<Exposure>, Error> {
    let services = try_join_all(manifest.names("Service").map(|name| live::<Service>(ctx, "Service", name)));
    let ingresses = try_join_all(manifest.names("Ingress").map(|name| live::<Ingress>(ctx, "Ingress", name)));
    let (services, ingresses) = tokio::try_join!(services, ingresses)?;
    let services = services.iter().flatten().map(Exposure::from);
    // Nobody outside points to a headless Service.
    let services = services.filter(|service| !service.addresses.is_empty() || !service.assigned.is_empty());
    Ok(services.chain(ingresses.iter().flatten().map(Exposure::from)).collect())
}

async fn live<K>(ctx: &Context, kind: &str, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = ctx.api();
    request(&format!("read {kind}/{name}"), || api.get_opt(name)).await
}
