//! Looks for a release of which helm has no record.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::secret;
use crate::api::{CoderUpgrade, Finding};
use crate::core::ownership::RELEASE_NAME;
use crate::core::presence::{self, Traces};
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// What speaks against a first install, if helm has no record of the release.
pub async fn look(ctx: &Context, upgrade: &CoderUpgrade) -> Result<Option<Finding>, Error> {
    let release = &upgrade.spec.release;
    let mut workloads = marked::<Deployment>(ctx, release).await?;
    workloads.extend(marked::<StatefulSet>(ctx, release).await?);
    let plan_secret = last_plan(ctx).await?;
    Ok(presence::check(upgrade, &Traces { workloads, plan_secret }))
}

/// The objects of a kind that helm has marked as the release's.
async fn marked<K>(ctx: &Context, release: &str) -> Result<Vec<String>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = ctx.api();
    let by_helm = ListParams::default().labels("app.kubernetes.io/managed-by=Helm");
    let doing = format!("list the {}s of release {release}", K::kind(&()));
    let found = match request(&doing, || api.list_metadata(&by_helm)).await {
        Err(error) if error.has_code(403) => return Ok(Vec::new()),
        found => found?.items,
    };
    let ours = found.iter().filter(|object| object.annotations().get(RELEASE_NAME).is_some_and(|name| name == release));
    Ok(ours.map(|object| format!("{}/{}", K::kind(&()), object.name_any())).collect())
}

/// The newest plan Secret of this `CoderUpgrade`.
async fn last_plan(ctx: &Context) -> Result<Option<String>, Error> {
    let secrets: Api<Secret> = ctx.api();
    let plans = secret::of_upgrade(ctx);
    let found = request("list the plans", || secrets.list_metadata(&plans)).await?;
    let newest = found.items.into_iter().max_by_key(ResourceExt::creation_timestamp);
    Ok(newest.map(|secret| secret.name_any()))
}
