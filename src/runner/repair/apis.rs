//! Writes the successors of removed APIs into the manifests that helm compares with. The originals are in the plan.

use std::collections::{BTreeMap, BTreeSet};

use super::{Kinds, Scene};
use crate::api::{FailureClass, Remedy};
use crate::core::apis::{successor, translate};
use crate::core::documents::{Change, Documents};
use crate::core::object::ObjectRef;
use crate::core::report::Problem;
use crate::runner::context::Context;
use crate::runner::error::Error;

/// Rewrites the newest record, and the newest that is deployed: helm reads both.
pub async fn rewrite(scene: &mut Scene<'_>) -> Result<(), Error> {
    let history = scene.storage.history().await?;
    let deployed = history.iter().find(|revision| revision.deployed());
    let read: BTreeMap<i32, _> = history.first().into_iter().chain(deployed).map(|r| (r.number, r)).collect();
    let mut recorded = BTreeSet::new();
    for (number, revision) in read {
        let mut stored = scene.storage.read(revision).await?;
        let mut documents = Documents::parse(stored.record.manifest(), &scene.ctx.namespace)?;
        let removed = removed(scene.ctx, &mut scene.kinds, &documents).await?;
        if removed.is_empty() {
            continue;
        }
        for (name, now) in &removed {
            let becomes = match now {
                Some(now) => format!("it is rewritten as {now}"),
                None => "it is left out, as no such object can exist here".to_owned(),
            };
            let message = format!(
                "helm's record of revision {number} names {}, which this cluster does not serve; {becomes}",
                name.api_version
            );
            scene.record(Remedy::RewriteApis, &name.to_string(), message).await?;
            recorded.insert(name.to_string());
        }
        succeed(&mut documents, &removed);
        stored.record.set_manifest(documents.text());
        scene.storage.rewrite(&stored).await?;
    }
    if recorded.is_empty() {
        let message =
            "helm finds removed APIs in its records of the release, but this cluster serves all that they name";
        return Err(Problem::new(FailureClass::ApiRemoved, message).into());
    }
    Ok(())
}

/// Gives the objects of removed APIs the ones that replaced them, and leaves out what cannot exist in this cluster.
pub async fn serve(ctx: &Context, documents: &mut Documents) -> Result<(), Error> {
    let removed = removed(ctx, &mut Kinds::default(), documents).await?;
    for (name, now) in &removed {
        tracing::info!("{name} of {} becomes {}", name.api_version, now.unwrap_or("nothing"));
    }
    succeed(documents, &removed);
    Ok(())
}

/// An object whose API this cluster does not serve, and the API that replaced it, if there is one.
type Removed = (ObjectRef, Option<&'static str>);

async fn removed(ctx: &Context, kinds: &mut Kinds, documents: &Documents) -> Result<Vec<Removed>, Error> {
    let mut removed = Vec::new();
    for (name, _) in documents.objects() {
        if kinds.api(ctx, &name).await?.is_none() {
            let now = served_successor(ctx, kinds, &name).await?;
            removed.push((name, now));
        }
    }
    Ok(removed)
}

fn succeed(documents: &mut Documents, removed: &[Removed]) {
    documents.change(|name, object| match removed.iter().find(|(removed, _)| removed == name) {
        None => Change::None,
        Some((_, Some(now))) => Change::To(translate(object, now)),
        Some((_, None)) => Change::Remove,
    });
}

/// The successor of an object's API, if there is one and the cluster serves it.
async fn served_successor(ctx: &Context, kinds: &mut Kinds, name: &ObjectRef) -> Result<Option<&'static str>, Error> {
    let Some(now) = successor(&name.api_version, &name.kind) else { return Ok(None) };
    let moved = ObjectRef { api_version: now.to_owned(), ..name.clone() };
    Ok(kinds.api(ctx, &moved).await?.map(|_| now))
}
