//! Objects of the cluster: deleted, and waited for until they are gone.

use std::fmt::Debug;

use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::core::object::KindName;
use crate::runner::cluster::lease::Held;
use crate::runner::cluster::watch;
use crate::runner::context::Context;
use crate::runner::error::Error;

/// Deletes exactly the object with this UID, and waits until it is gone: there is no limit but the step's own deadline,
/// and what holds the object stands in the progress.
pub async fn delete<K>(
    ctx: &Context,
    lease: &Held,
    api: &Api<K>,
    object: &KindName,
    uid: &str,
    propagation: PropagationPolicy,
) -> Result<(), Error>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let parameters = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        propagation_policy: Some(propagation),
        ..DeleteParams::default()
    };
    match lease.write(&format!("delete {object}"), || api.delete(&object.name, &parameters)).await {
        Ok(_) => {}
        Err(error) if error.has_code(404) => return Ok(()),
        Err(error) => return Err(error),
    }
    wait_gone(ctx, lease, api, object, uid).await
}

/// Waits until exactly the object with this UID is gone, as [`delete`] does.
pub async fn wait_gone<K>(ctx: &Context, lease: &Held, api: &Api<K>, object: &KindName, uid: &str) -> Result<(), Error>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    lease.while_held(gone(ctx, api, object, uid)).await
}

/// Watches until no object of that name has that UID.
async fn gone<K>(ctx: &Context, api: &Api<K>, object: &KindName, uid: &str) -> Result<(), Error>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let gone = |now: Option<&K>| {
        let Some(now) = now.filter(|now| now.meta().uid.as_deref() == Some(uid)) else { return true };
        let finalizers = now.finalizers().join(", ");
        if !finalizers.is_empty() {
            ctx.reporter.progress(&format!("waiting for {object} to go, held by {finalizers}"));
        }
        false
    };
    watch::until(api.clone(), object, gone).await
}
