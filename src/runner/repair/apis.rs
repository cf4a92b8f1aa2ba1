//! Writes the successors of removed APIs into the manifests that helm compares with. The originals are in the plan.

use std::collections::BTreeMap;

use super::RepairContext;
use crate::api::Remedy;
use crate::core::helm::documents::{Change, Documents};
use crate::core::helm::history::{History, Revision};
use crate::core::helm::removed_apis::{successor, translate};
use crate::core::object::ObjectRef;
use crate::runner::cluster::kinds;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::storage::{Storage, Stored};

/// A record whose manifest names removed APIs.
pub struct Rewrite {
    /// The revision.
    pub revision: Revision,
    /// Its record, as it is.
    pub stored: Stored,
    /// Its manifest with the successors of the removed APIs.
    pub documents: Documents,
    /// The objects that are rewritten, and why.
    pub reasons: Vec<(ObjectRef, String)>,
}

/// What is to be rewritten in the newest record, and in the newest that is deployed: helm reads both.
pub async fn rewrites(ctx: &Context, storage: &Storage, history: &History) -> Result<Vec<Rewrite>, Error> {
    let deployed = history.iter().find(|revision| revision.deployed());
    let read: BTreeMap<i32, _> = history.first().into_iter().chain(deployed).map(|r| (r.number, r)).collect();
    let mut rewrites = Vec::new();
    for (number, revision) in read {
        let stored = storage.read(revision).await?;
        let mut documents = Documents::parse(stored.record.manifest(), &ctx.namespace)?;
        let removed = removed(ctx, &documents).await?;
        if removed.is_empty() {
            continue;
        }
        let reason = |(name, now): &RemovedApi| {
            let becomes = match now {
                Some(now) => format!("it is rewritten as {now}"),
                None => "it is left out, as no such object can exist here".to_owned(),
            };
            let message = format!(
                "helm's record of revision {number} names {}, which this cluster does not serve; {becomes}",
                name.api_version
            );
            (name.clone(), message)
        };
        let reasons = removed.iter().map(reason).collect();
        succeed(&mut documents, &removed);
        rewrites.push(Rewrite { revision: revision.clone(), stored, documents, reasons });
    }
    Ok(rewrites)
}

/// Rewrites the records. Whether there was anything to rewrite.
pub async fn rewrite(repairing: &mut RepairContext<'_>) -> Result<bool, Error> {
    let rewrites = rewrites(repairing.ctx, repairing.release.storage(), &repairing.release.history().await?).await?;
    let needed = !rewrites.is_empty();
    for Rewrite { mut stored, documents, reasons, .. } in rewrites {
        for (object, message) in reasons {
            repairing.record(Remedy::RewriteApis, &object.to_string(), message).await?;
        }
        stored.record.set_manifest(documents.text());
        repairing.release.rewrite(&stored).await?;
    }
    Ok(needed)
}

/// Gives the objects of removed APIs the ones that replaced them, and leaves out what cannot exist in this cluster.
pub async fn serve(ctx: &Context, documents: &mut Documents) -> Result<(), Error> {
    let removed = removed(ctx, documents).await?;
    for (name, now) in &removed {
        tracing::info!("{name} of {} becomes {}", name.api_version, now.unwrap_or("nothing"));
    }
    succeed(documents, &removed);
    Ok(())
}

/// An object whose API this cluster does not serve, and the API that replaced it, if there is one.
type RemovedApi = (ObjectRef, Option<&'static str>);

async fn removed(ctx: &Context, documents: &Documents) -> Result<Vec<RemovedApi>, Error> {
    let mut removed = Vec::new();
    for (name, _) in documents.objects() {
        if kinds::api(ctx, &name).await?.is_none() {
            let now = served_successor(ctx, &name).await?;
            removed.push((name, now));
        }
    }
    Ok(removed)
}

fn succeed(documents: &mut Documents, removed: &[RemovedApi]) {
    documents.change(|name, object| match removed.iter().find(|(removed, _)| removed == name) {
        None => Change::None,
        Some((_, Some(now))) => Change::To(translate(object, now)),
        Some((_, None)) => Change::Remove,
    });
}

/// The successor of an object's API, if there is one and the cluster serves it.
async fn served_successor(ctx: &Context, name: &ObjectRef) -> Result<Option<&'static str>, Error> {
    let Some(now) = successor(&name.api_version, &name.kind) else { return Ok(None) };
    let moved = ObjectRef { api_version: now.to_owned(), ..name.clone() };
    Ok(kinds::api(ctx, &moved).await?.map(|_| now))
}
