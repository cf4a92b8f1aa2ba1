//! What the upgrade takes of rights, whatever the checks would say to it.

use super::rehearsed::{Outlook, outlook};
use super::release::Release;
use super::{chart, secret, values};
use crate::api::CoderUpgrade;
use crate::core::allowed::Repositories;
use crate::core::helm::documents::Documents;
use crate::core::rights::{Needs, Subject};
use crate::runner::cluster::kinds;
use crate::runner::cluster::pod_secrets;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::storage::Storage;

/// Finds out what the upgrade to the next version writes and asks for: the objects of the installed and of the new chart,
/// their hooks, and the requests of a rehearsal. Changes nothing.
pub async fn takes(ctx: &Context, upgrade: &CoderUpgrade, allowed: &Repositories) -> Result<Needs, Error> {
    let spec = &upgrade.spec;
    let storage = Storage::new(ctx.api(), &spec.release);
    ctx.reporter.progress(&format!("reading the Helm release {}", spec.release));
    let installed = Release::read(ctx, &storage, secret::under_way(upgrade)).await?;
    ctx.reporter.progress("fetching the chart");
    let fetched = chart::fetch(ctx, spec, &installed, allowed).await?;
    let files = values::write(ctx, spec, installed.values().as_ref()).await?;
    let old = Documents::parse(installed.manifest(), &ctx.namespace)?;
    let outlook = Box::pin(outlook(ctx, &spec.release, &fetched.archive, files, &installed, &old)).await?;
    let Outlook { rendered, objects, rehearsal, .. } = outlook;
    pod_secrets::of_manifest(ctx, rendered.manifest()).await;
    let hooks = Documents::parse(&rendered.hooks(), &ctx.namespace)?;

    let mut subjects = Vec::new();
    for (object, body) in [&old, &objects, &hooks].into_iter().flat_map(Documents::objects) {
        if let Some(resource) = kinds::resource(ctx, &object).await? {
            subjects.push(Subject { object, resource, body: body.clone() });
        } else {
            tracing::warn!("{object}: the API server does not know {} of {}", object.kind, object.api_version);
        }
    }
    let first = rendered.revision().is_ok_and(|revision| revision == 1);
    let defines = first && !rendered.definitions().is_empty();
    Ok(Needs { namespace: ctx.namespace.clone(), subjects, asked: rehearsal.asked, defines })
}
