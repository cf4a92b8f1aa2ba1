//! The API of an object of any kind.

use std::sync::{Arc, PoisonError};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::Api;
use kube::api::{DynamicObject, PartialObjectMeta};
use kube::core::{ApiResource, GroupVersion};
use kube::discovery::{Scope, pinned_group};

use crate::core::helm::workload::WorkloadKind;
use crate::core::object::ObjectRef;
use crate::core::rights::Resource;
use crate::runner::context::{Context, Served, request};
use crate::runner::error::Error;

/// The metadata of an object as it is.
pub type LiveObject = PartialObjectMeta<DynamicObject>;

/// The API for an object; none if this cluster does not serve its kind.
pub async fn api(ctx: &Context, object: &ObjectRef) -> Result<Option<Api<DynamicObject>>, Error> {
    let Some((resource, scope)) = served(ctx, object).await? else { return Ok(None) };
    Ok(Some(match scope {
        Scope::Cluster => Api::all_with(ctx.client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.namespace.as_deref().unwrap_or(&ctx.namespace);
            Api::namespaced_with(ctx.client.clone(), namespace, &resource)
        }
    }))
}

/// The metadata of an object; none if it does not exist, or its kind is not served.
pub async fn live(ctx: &Context, object: &ObjectRef) -> Result<Option<LiveObject>, Error> {
    let Some(api) = api(ctx, object).await? else { return Ok(None) };
    request(&format!("read {object}"), || api.get_metadata_opt(&object.name)).await
}

/// The whole object; none if it does not exist, or its kind is not served.
pub async fn read(ctx: &Context, object: &ObjectRef) -> Result<Option<DynamicObject>, Error> {
    let Some(api) = api(ctx, object).await? else { return Ok(None) };
    request(&format!("read {object}"), || api.get_opt(&object.name)).await
}

/// What the API server calls the kind of an object; none if this cluster does not serve it.
pub async fn resource(ctx: &Context, object: &ObjectRef) -> Result<Option<Resource>, Error> {
    let served = served(ctx, object).await?;
    Ok(served.map(|(resource, scope)| Resource {
        group: resource.group,
        plural: resource.plural,
        namespaced: scope == Scope::Namespaced,
    }))
}

/// The server is asked again from here on: helm, or whoever held the Lease before, may have installed definitions.
pub fn forget(ctx: &Context) {
    ctx.served.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// What the server says of the kind of an object. It is asked once for each group and version, and not for workloads, which
/// every version of Kubernetes serves that the operator works with.
async fn served(ctx: &Context, object: &ObjectRef) -> Result<Option<(ApiResource, Scope)>, Error> {
    if let Some(workload) = workload(object) {
        return Ok(Some((workload, Scope::Namespaced)));
    }
    let known = ctx.served.lock().unwrap_or_else(PoisonError::into_inner).get(&object.api_version).cloned();
    let served = if let Some(served) = known {
        served
    } else {
        let served = Arc::new(discovered(ctx, &object.api_version).await?);
        let mut known = ctx.served.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(object.api_version.clone(), served.clone());
        served
    };
    Ok(served.iter().find(|(resource, _)| resource.kind == object.kind).cloned())
}

fn workload(object: &ObjectRef) -> Option<ApiResource> {
    let kind = object.kind.parse().ok().filter(|_| object.api_version == "apps/v1")?;
    Some(match kind {
        WorkloadKind::Deployment => ApiResource::erase::<Deployment>(&()),
        WorkloadKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        WorkloadKind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
    })
}

/// The kinds of a group in this version; none if the server knows no such version.
async fn discovered(ctx: &Context, api_version: &str) -> Result<Served, Error> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let pinned = GroupVersion::gv(group, version);
    match request(&format!("ask for the kinds of {api_version}"), || pinned_group(&ctx.client, &pinned)).await {
        Ok(found) => {
            let resources = found.versioned_resources(version).into_iter();
            Ok(resources.map(|(resource, capabilities)| (resource, capabilities.scope)).collect())
        }
        Err(Error::Api { source, .. }) if is_unknown(&source) => Ok(Served::new()),
        Err(error) => Err(error),
    }
}

/// The server knows no such version of the group.
fn is_unknown(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Discovery(_)) || matches!(error, kube::Error::Api(status) if status.code == 404)
}
