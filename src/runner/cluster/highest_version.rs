//! The highest version of which a pod may have started, in an annotation of the release's Lease: that outlives the
//! `CoderUpgrade`, so another one for the same release knows of it.

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt};

use crate::api::annotation;
use crate::core::helm::version;
use crate::runner::cluster::lease::{Held, name_of};
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// The version that is recorded for the release; none if nothing ever started there.
pub async fn read(ctx: &Context, release: &str) -> Result<Option<String>, Error> {
    let (leases, name): (Api<Lease>, String) = (ctx.api(), name_of(release));
    let lease = request(&format!("read Lease/{name}"), || leases.get_metadata_opt(&name)).await?;
    Ok(lease.and_then(|lease| lease.annotations().get(annotation::HIGHEST_STARTED).cloned()))
}

/// The same for whoever holds the Lease: it was read when it was taken.
pub fn known(lease: &Held) -> Option<String> {
    lease.annotation(annotation::HIGHEST_STARTED)
}

/// Records that a pod of this version may have started, if no higher one is recorded.
pub async fn raise(lease: &Held, started: &str) -> Result<(), Error> {
    lease.annotate(annotation::HIGHEST_STARTED, |known| version::higher(known, started).to_owned()).await
}

/// Records the version that was verified: whatever was recorded before, the database serves this one.
pub async fn confirm(lease: &Held, verified: &str) -> Result<(), Error> {
    lease.annotate(annotation::HIGHEST_STARTED, |_| verified.to_owned()).await
}
