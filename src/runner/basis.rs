//! What helm compares the saved release with when it puts it back.
//!
//! helm looks at the last revision that was deployed as a whole and takes everything else for the work of others. After a
//! failed upgrade that leaves fields and objects of the new chart in place. So for the time of the way back the manifest
//! of that revision also holds what was applied by half.

use jiff::Timestamp;
use kube::ResourceExt;

use super::context::{Context, request};
use super::error::Error;
use super::helm::storage::Storage;
use super::repair::Kinds;
use crate::core::documents::Documents;
use crate::core::history::Revision;
use crate::core::ladder::holds_data;
use crate::core::object::ObjectRef;
use crate::core::ownership::Owner;
use crate::core::plan::Plan;
use crate::core::uninstall;

/// The changed record, and how it was.
pub struct Basis {
    revision: Revision,
    manifest: String,
}

impl Basis {
    /// Writes what was applied into the manifest that helm will look at. None if that is not needed: after an uninstall, or
    /// if nothing was applied by half.
    pub async fn extend(
        ctx: &Context,
        plan: &Plan,
        storage: &Storage,
        history: &[Revision],
        saved: &Documents,
    ) -> Result<Option<Self>, Error> {
        let Some(revision) = compared(history) else { return Ok(None) };
        let applied = uninstall::applied(plan, history);
        let mut all = storage.union(applied, &ctx.namespace).await?;
        let strangers = strangers(ctx, plan, storage, applied, &all, saved).await?;
        all.remove(|name, _| strangers.iter().any(|stranger| stranger.same(name)));
        let mut stored = storage.read(revision).await?;
        let as_it_is = Documents::parse(stored.record.manifest(), &ctx.namespace)?.text();
        let text = all.text();
        if text == as_it_is {
            return Ok(None);
        }
        stored.record.set_manifest(text);
        storage.rewrite(&stored).await?;
        Ok(Some(Self { revision: revision.clone(), manifest: as_it_is }))
    }

    /// Writes the manifest back as it was: helm has failed, and the revision is still what is deployed.
    pub async fn put_back(self, storage: &Storage) -> Result<(), Error> {
        let mut stored = storage.read(&self.revision).await?;
        stored.record.set_manifest(self.manifest);
        storage.rewrite(&stored).await
    }
}

/// The revision that helm compares with: the newest deployed one, or else the newest if it failed. None if helm installs.
fn compared(history: &[Revision]) -> Option<&Revision> {
    let newest = history.first().filter(|newest| newest.status != "uninstalled")?;
    history.iter().find(|revision| revision.deployed()).or(Some(newest))
}

/// What the saved release does not contain and must not be deleted with the rest: what holds data, what was there before
/// this plan's first change, and what does not belong to the release.
async fn strangers(
    ctx: &Context,
    plan: &Plan,
    storage: &Storage,
    applied: &[Revision],
    all: &Documents,
    saved: &Documents,
) -> Result<Vec<ObjectRef>, Error> {
    let saved: Vec<ObjectRef> = saved.objects().map(|(name, _)| name).collect();
    let mut ours = applied.iter().filter(|revision| revision.plan.as_deref() == Some(&plan.id) && !revision.restored);
    let mut begun = None;
    if let Some(first) = ours.next_back() {
        begun = storage.read(first).await?.created;
    }
    let mut kinds = Kinds::default();
    let mut strangers = Vec::new();
    for (name, _) in all.objects().filter(|(name, _)| !saved.iter().any(|known| known.same(name))) {
        if holds_data(&name.kind) || !made_since(ctx, plan, begun, &mut kinds, &name).await? {
            strangers.push(name);
        }
    }
    Ok(strangers)
}

/// Whether the object belongs to the release and was made at that time or later.
async fn made_since(
    ctx: &Context,
    plan: &Plan,
    begun: Option<Timestamp>,
    kinds: &mut Kinds,
    name: &ObjectRef,
) -> Result<bool, Error> {
    let Some(api) = kinds.api(ctx, name).await? else { return Ok(false) };
    let Some(live) = request(&format!("read {name}"), || api.get_metadata_opt(&name.name)).await? else {
        return Ok(false);
    };
    let owner = Owner::of(live.labels(), live.annotations(), &plan.release, &ctx.namespace);
    let made = live.creation_timestamp().map(|time| time.0);
    Ok(owner == Owner::Release && begun.is_some() && made >= begun)
}
