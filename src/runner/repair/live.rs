//! Objects of any kind, as they are in the cluster.

use std::collections::HashMap;
use std::fmt::Debug;

use futures::TryStreamExt;
use kube::api::{DeleteParams, DynamicObject, Preconditions, PropagationPolicy};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{Scope, pinned_kind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::core::object::ObjectRef;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::fence::while_held;
use crate::runner::lease::Held;

/// Finds the API of each kind, asking the server once per kind.
#[derive(Default)]
pub struct Kinds(HashMap<(String, String), Option<(ApiResource, Scope)>>);

impl Kinds {
    /// The API for an object; none if this cluster does not serve its kind.
    pub async fn api(&mut self, ctx: &Context, object: &ObjectRef) -> Result<Option<Api<DynamicObject>>, Error> {
        let known = (object.api_version.clone(), object.kind.clone());
        if !self.0.contains_key(&known) {
            let found = served(ctx, object).await?;
            self.0.insert(known.clone(), found);
        }
        let Some((resource, scope)) = self.0.get(&known).and_then(Option::as_ref) else { return Ok(None) };
        Ok(Some(match scope {
            Scope::Cluster => Api::all_with(ctx.client.clone(), resource),
            Scope::Namespaced => {
                let namespace = object.namespace.as_deref().unwrap_or(&ctx.namespace);
                Api::namespaced_with(ctx.client.clone(), namespace, resource)
            }
        }))
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
    matches!(error, kube::Error::Discovery(_)) || has_code(error, 404)
}

/// Deletes exactly the object with this UID, and waits until it is gone: there is no limit but the step's own deadline,
/// and what holds the object stands in the progress. `object` is Kind/name.
pub async fn delete<K>(
    ctx: &Context,
    lease: &Held,
    api: &Api<K>,
    object: &str,
    uid: &str,
    propagation: PropagationPolicy,
) -> Result<(), Error>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let name = object.rsplit('/').next().unwrap_or_default();
    let parameters = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        propagation_policy: Some(propagation),
        ..DeleteParams::default()
    };
    match request(&format!("delete {object}"), || api.delete(name, &parameters)).await {
        Ok(_) => {}
        Err(error) if error.has_code(404) => return Ok(()),
        Err(error) => return Err(error),
    }
    wait_gone(ctx, lease, api, object, uid).await
}

/// Waits until exactly the object with this UID is gone, as [`delete`] does.
pub async fn wait_gone<K>(ctx: &Context, lease: &Held, api: &Api<K>, object: &str, uid: &str) -> Result<(), Error>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    while_held(ctx, lease, gone(ctx, api, object, uid)).await
}

/// Watches until no object of that name has that UID. A watch that breaks begins again by itself.
async fn gone<K>(ctx: &Context, api: &Api<K>, object: &str, uid: &str) -> Result<(), Error>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let name = object.rsplit('/').next().unwrap_or_default();
    let mut events = std::pin::pin!(watch_object(api.clone(), name).default_backoff());
    loop {
        match events.try_next().await {
            Ok(Some(Some(now))) if now.meta().uid.as_deref() == Some(uid) => {
                let finalizers = now.finalizers().join(", ");
                if !finalizers.is_empty() {
                    ctx.reporter.progress(&format!("waiting for {object} to go, held by {finalizers}"));
                }
            }
            Ok(_) => return Ok(()),
            // A right is missing: no patience brings it.
            Err(watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source))
                if has_code(&source, 403) =>
            {
                return Err(Error::api(format!("watch {object}"), source));
            }
            Err(error) => tracing::debug!("watching {object}: {error}"),
        }
    }
}

fn has_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
