//! Whatever changes a release does so under its Lease, and says afterwards what became of Helm's records.

use crate::core::helm::documents::Documents;
use crate::core::helm::history::History;
use crate::core::report::Problem;
use crate::runner::cluster::kinds;
use crate::runner::cluster::lease::Held;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::held_release::HeldRelease;
use crate::runner::helm::storage::{Storage, Stored};

/// Takes the Lease of the release, reads the history, and does the work. A failure comes back with what became of the
/// release.
pub async fn fenced<T>(
    ctx: &Context,
    release: &str,
    work: impl AsyncFnOnce(&HeldRelease) -> Result<T, Error>,
) -> Result<T, Error> {
    let storage = Storage::new(ctx.api(), release);
    let lease = tokio::select! {
        lease = Held::take(ctx, release) => lease,
        () = ctx.stop.cancelled() => Err(Error::Stopped),
    };
    let lease = match lease {
        Ok(lease) => lease,
        Err(error) => return Err(with_aftermath(ctx, &storage, None, error).await),
    };
    kinds::forget(ctx);
    let release = HeldRelease::new(lease, storage);
    let result = match release.history().await {
        Ok(before) => match work(&release).await {
            Ok(done) => Ok(done),
            Err(error) => Err(with_aftermath(ctx, release.storage(), Some(&before), error).await),
        },
        Err(unread) => Err(unread),
    };
    release.give_back().await;
    result
}

/// The error with what became of the release: whether helm's records changed, what they say now, and whether all objects that
/// they name are there.
async fn with_aftermath(ctx: &Context, storage: &Storage, before: Option<&History>, error: Error) -> Error {
    let problem = error.into_problem();
    // Read again whatever was read before: the controller decides by this what is done next.
    let now = match storage.history().await {
        Ok(now) => now,
        Err(unread) => {
            // Rather count a failure too many than one too few.
            tracing::warn!("{unread}");
            return Problem { changed: before.is_some(), ..problem }.into();
        }
    };
    let state = |history: &History| history.first().map(|newest| (newest.number, newest.status.clone()));
    let changed = before.is_some_and(|before| state(before) != state(&now));
    let stored = match now.first() {
        Some(newest) => storage.read(newest).await.ok(),
        None => None,
    };
    // Somebody may have installed definitions, or have taken them away, since the step began.
    kinds::forget(ctx);
    let current = stored.as_ref().and_then(|stored| stored.record.installed().ok());
    let whole = match &stored {
        Some(stored) => is_whole(ctx, stored).await.unwrap_or_else(|unread| {
            tracing::warn!("{unread}");
            false
        }),
        None => false,
    };
    Problem { changed, whole, current, ..problem }.into()
}

/// Whether all objects of a revision exist, none of them is being deleted, and its record does not speak of an uninstall.
async fn is_whole(ctx: &Context, stored: &Stored) -> Result<bool, Error> {
    let status = stored.record.status().map_err(|source| stored.broken(source))?;
    if status.starts_with("uninstall") {
        return Ok(false);
    }
    for (name, _) in Documents::parse(stored.record.manifest(), &ctx.namespace)?.objects() {
        let found = kinds::live(ctx, &name).await?;
        if found.is_none_or(|found| found.metadata.deletion_timestamp.is_some()) {
            tracing::info!("{name} is not there, or is being deleted");
            return Ok(false);
        }
    }
    Ok(true)
}
