//! The highest version of which a pod may have started, in an annotation of the release's Lease: that outlives the
//! `CoderUpgrade`, so another one for the same release knows of it.

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::api::annotation;
use crate::core::helm::version;
use crate::runner::cluster::lease::name_of;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// The version that is recorded for the release; none if nothing ever started there.
pub async fn read(ctx: &Context, release: &str) -> Result<Option<String>, Error> {
    let (leases, name): (Api<Lease>, String) = (ctx.api(), name_of(release));
    let lease = request(&format!("read Lease/{name}"), || leases.get_metadata_opt(&name)).await?;
    Ok(lease.and_then(|lease| lease.annotations().get(annotation::HIGHEST_STARTED).cloned()))
}

/// Records that a pod of this version may have started, if no higher one is recorded.
pub async fn raise(ctx: &Context, release: &str, started: &str) -> Result<(), Error> {
    let known = read(ctx, release).await?;
    let highest = version::higher(known.as_deref(), started);
    if known.as_deref() == Some(highest) { Ok(()) } else { write(ctx, release, highest).await }
}

/// Records the version that was verified: whatever was recorded before, the database serves this one.
pub async fn confirm(ctx: &Context, release: &str, verified: &str) -> Result<(), Error> {
    if read(ctx, release).await?.as_deref() == Some(verified) { Ok(()) } else { write(ctx, release, verified).await }
}

async fn write(ctx: &Context, release: &str, version: &str) -> Result<(), Error> {
    let (leases, name): (Api<Lease>, String) = (ctx.api(), name_of(release));
    let patch = Patch::Merge(json!({"metadata": {"annotations": {annotation::HIGHEST_STARTED: version}}}));
    let parameters = PatchParams::default();
    request(&format!("annotate Lease/{name}"), || leases.patch_metadata(&name, &parameters, &patch)).await?;
    Ok(())
}
