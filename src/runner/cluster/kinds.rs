//! The API of an object of any kind.

use std::collections::HashMap;

use kube::Api;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{Scope, pinned_kind};

use crate::core::object::ObjectRef;
use crate::core::rights::Resource;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// Finds the API of each kind, asking the server once per kind.
#[derive(Default)]
pub struct Kinds(HashMap<(String, String), Option<(ApiResource, Scope)>>);

impl Kinds {
    /// The API for an object; none if this cluster does not serve its kind.
    pub async fn api(&mut self, ctx: &Context, object: &ObjectRef) -> Result<Option<Api<DynamicObject>>, Error> {
        let Some((resource, scope)) = self.served(ctx, object).await? else { return Ok(None) };
        Ok(Some(match scope {
            Scope::Cluster => Api::all_with(ctx.client.clone(), resource),
            Scope::Namespaced => {
                let namespace = object.namespace.as_deref().unwrap_or(&ctx.namespace);
                Api::namespaced_with(ctx.client.clone(), namespace, resource)
            }
        }))
    }

    /// What the API server calls the kind of an object; none if this cluster does not serve it.
    pub async fn resource(&mut self, ctx: &Context, object: &ObjectRef) -> Result<Option<Resource>, Error> {
        let served = self.served(ctx, object).await?;
        Ok(served.map(|(resource, scope)| Resource {
            group: resource.group.clone(),
            plural: resource.plural.clone(),
            namespaced: *scope == Scope::Namespaced,
        }))
    }

    async fn served(&mut self, ctx: &Context, object: &ObjectRef) -> Result<Option<&(ApiResource, Scope)>, Error> {
        let known = (object.api_version.clone(), object.kind.clone());
        if !self.0.contains_key(&known) {
            let found = served(ctx, object).await?;
            self.0.insert(known.clone(), found);
        }
        Ok(self.0.get(&known).and_then(Option::as_ref))
    }
}

async fn served(ctx: &Context, object: &ObjectRef) -> Result<Option<(ApiResource, Scope)>, Error> {
    let (group, version) = object.api_version.split_once('/').unwrap_or(("", &object.api_version));
    let kind = GroupVersionKind::gvk(group, version, &object.kind);
    let doing = format!("ask for the kind {} of {}", object.kind, object.api_version);
    match request(&doing, || pinned_kind(&ctx.client, &kind)).await {
        Ok((resource, capabilities)) => Ok(Some((resource, capabilities.scope))),
        Err(Error::Api { source, .. }) if is_unknown(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The server knows no such version of the group, or no such kind in it.
fn is_unknown(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Discovery(_)) || matches!(error, kube::Error::Api(status) if status.code == 404)
}
