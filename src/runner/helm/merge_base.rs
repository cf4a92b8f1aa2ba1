//! What helm compares with after an upgrade that failed.
//!
//! helm looks at the last revision that was deployed as a whole and takes everything else for the work of others. After a
//! failed upgrade that leaves fields and objects of the failed one in place. So for the time of the next try the manifest
//! of that revision also holds what was partially applied.

use jiff::Timestamp;
use kube::ResourceExt;

use super::held_release::HeldRelease;
use super::storage::Storage;
use crate::api::FailureClass;
use crate::core::helm::documents::{Change, Documents};
use crate::core::helm::history::Revision;
use crate::core::helm::merge::add_fields;
use crate::core::helm::ownership::Owner;
use crate::core::object::ObjectRef;
use crate::core::plan::Plan;
use crate::core::repair::disposable::is_disposable;
use crate::core::steps::uninstall;
use crate::runner::cluster::kinds;
use crate::runner::cluster::owners::owned;
use crate::runner::context::Context;
use crate::runner::error::Error;

/// Does the work, which runs helm, while the record that helm looks at also holds what was partly applied. `wanted` are
/// the objects that the release shall have afterwards.
///
/// Once the Lease is lost the record stays extended: another runner may be at work on it, and every reader of ours finds the
/// record as it was.
pub async fn extended<T>(
    ctx: &Context,
    release: &HeldRelease,
    plan: &Plan,
    wanted: &[ObjectRef],
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let base = MergeBase::extend(ctx, release, plan, wanted).await?;
    let done = work.await;
    if let Some(base) = base
        && !release.lease().lost().is_cancelled()
    {
        base.restore(release).await.unwrap_or_else(|also| tracing::warn!("{also}"));
    }
    done
}

/// Whether the last try was one of this operator and failed, so that the next one needs an extended merge base.
pub async fn failed_before(release: &HeldRelease) -> Result<bool, Error> {
    let history = release.history().await?;
    Ok(history.first().is_some_and(|newest| newest.status == "failed" && newest.plan.is_some()))
}

/// The changed record, and how it was.
pub struct MergeBase {
    /// The revision.
    pub revision: Revision,
    /// Its manifest as it was.
    pub manifest: String,
    /// Its manifest as it was changed.
    pub extended: String,
}

impl MergeBase {
    /// Writes what was applied into the manifest that helm will look at. None if that is not needed: after an uninstall, or
    /// if nothing was partially applied.
    async fn extend(
        ctx: &Context,
        release: &HeldRelease,
        plan: &Plan,
        wanted: &[ObjectRef],
    ) -> Result<Option<Self>, Error> {
        let (storage, history) = (release.storage(), release.history().await?);
        let Some(revision) = compared(&history) else { return Ok(None) };
        let applied = uninstall::applied(plan, &history);
        let mut all = storage.union(applied, &[], &ctx.namespace).await?;
        for older in applied.iter().skip(1) {
            let older = Documents::parse(storage.read(older).await?.record.manifest(), &ctx.namespace)?;
            all.change(|name, object| {
                let mut merged = object.clone();
                for (_, other) in older.objects().filter(|(other, _)| other.same(name)) {
                    add_fields(&mut merged, other);
                }
                if merged == *object { Change::None } else { Change::To(merged) }
            });
        }
        let must_not_delete = must_not_delete(ctx, plan, storage, applied, &all, wanted).await?;
        all.remove(|name| must_not_delete.iter().any(|owned| owned.same(name)));
        let stored = storage.read(revision).await?;
        let manifest = stored.record.manifest().to_owned();
        let extended = all.text();
        if extended == Documents::parse(&manifest, &ctx.namespace)?.text() {
            return Ok(None);
        }
        match release.write_temporarily(&stored, extended.clone()).await {
            Err(Error::Problem(problem)) if problem.class == FailureClass::TooLarge => {
                tracing::warn!("what was partly applied stays where helm does not know of it: {}", problem.message);
                return Ok(None);
            }
            written => written?,
        }
        Ok(Some(Self { revision: revision.clone(), manifest, extended }))
    }

    /// Writes the manifest back as it was. helm itself has written the record meanwhile if it succeeded; a repair may have
    /// written another manifest, which stays.
    pub async fn restore(self, release: &HeldRelease) -> Result<(), Error> {
        let mut stored = release.storage().read(&self.revision).await?;
        if stored.record.manifest() == self.extended {
            stored.record.set_manifest(self.manifest);
        } else if !stored.temporary {
            return Ok(());
        }
        release.rewrite(&stored).await
    }
}

/// The revision that helm compares with: the newest deployed one, or else the newest if it failed. None if helm installs.
fn compared(history: &[Revision]) -> Option<&Revision> {
    let newest = history.first().filter(|newest| newest.status != "uninstalled")?;
    history.iter().find(|revision| revision.deployed()).or(Some(newest))
}

/// What is not wanted and must not be deleted with the rest: what may hold data, or own it, what was there before the first change of
/// this plan or of those that failed before it, and what does not belong to the release.
async fn must_not_delete(
    ctx: &Context,
    plan: &Plan,
    storage: &Storage,
    applied: &[Revision],
    all: &Documents,
    wanted: &[ObjectRef],
) -> Result<Vec<ObjectRef>, Error> {
    let ours = |revision: &&Revision| {
        let failed = revision.plan.is_some() && revision.status == "failed";
        !revision.restored && (failed || revision.plan.as_deref() == Some(&plan.id))
    };
    let mut begun = None;
    if let Some(first) = applied.iter().rfind(ours) {
        begun = storage.read(first).await?.created;
    }
    let mut must_not_delete = Vec::new();
    let unwanted: Vec<ObjectRef> =
        all.objects().map(|(name, _)| name).filter(|name| !wanted.iter().any(|known| known.same(name))).collect();
    let claims = if unwanted.is_empty() { Vec::new() } else { owned(ctx, &ctx.namespace).await? };
    let owns = |name: &ObjectRef| {
        claims.iter().any(|claim| claim.unknown().is_some() || claim.belongs_to(|owner| owner.same(name)).is_some())
    };
    for name in unwanted {
        if !is_disposable(&name) || owns(&name) || !made_since(ctx, plan, begun, &name).await? {
            must_not_delete.push(name);
        }
    }
    Ok(must_not_delete)
}

/// Whether the object belongs to the release and was made at that time or later.
async fn made_since(ctx: &Context, plan: &Plan, begun: Option<Timestamp>, name: &ObjectRef) -> Result<bool, Error> {
    let Some(live) = kinds::live(ctx, name).await? else { return Ok(false) };
    let owner = Owner::of(live.labels(), live.annotations(), &plan.release, &ctx.namespace);
    let made = live.creation_timestamp().map(|time| time.0);
    Ok(owner == Owner::Release && begun.is_some() && made >= begun)
}
