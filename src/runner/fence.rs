//! Whatever changes a release does so under its Lease, and says afterwards what became of Helm's records.

use super::context::Context;
use super::error::Error;
use super::helm::storage::Storage;
use super::lease::Held;
use crate::core::history::Revision;
use crate::core::report::Problem;

/// Takes the Lease of the release, reads the history, and does the work. A failure comes back with what became of the
/// release.
pub async fn fenced<T>(
    ctx: &Context,
    storage: &Storage,
    release: &str,
    work: impl AsyncFnOnce(&[Revision], &Held) -> Result<T, Error>,
) -> Result<T, Error> {
    let lease = tokio::select! {
        lease = Held::take(ctx, release) => lease?,
        () = ctx.stop.cancelled() => return Err(Error::Stopped),
    };
    let result = match storage.history().await {
        Ok(before) => match work(&before, &lease).await {
            Ok(done) => Ok(done),
            Err(error) => Err(with_aftermath(storage, &before, error).await),
        },
        Err(unread) => Err(unread),
    };
    lease.release().await;
    result
}

/// The error with what became of the release: whether helm's records changed, and what they say now.
async fn with_aftermath(storage: &Storage, before: &[Revision], error: Error) -> Error {
    let problem = error.into_problem();
    let now = match storage.history().await {
        Ok(now) => now,
        Err(unread) => {
            // Rather count a failure too many than one too few.
            tracing::warn!("{unread}");
            return Problem { changed: true, ..problem }.into();
        }
    };
    let state = |history: &[Revision]| history.first().map(|newest| (newest.number, newest.status.clone()));
    let changed = state(before) != state(&now);
    let current = match now.first() {
        Some(newest) => storage.read(newest).await.ok().and_then(|stored| stored.record.installed().ok()),
        None => None,
    };
    Problem { changed, current, ..problem }.into()
}

/// Does the work, unless the runner is told to stop or loses the Lease meanwhile.
pub async fn while_held<T>(
    ctx: &Context,
    lease: &Held,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        done = work => done,
        () = ctx.stop.cancelled() => Err(Error::Stopped),
        () = lease.lost().cancelled() => Err(Error::LeaseLost(lease.name().to_owned())),
    }
}

/// Refuses to go on when the runner was told to stop or lost the Lease.
pub fn still_held(ctx: &Context, lease: &Held) -> Result<(), Error> {
    if lease.lost().is_cancelled() {
        return Err(Error::LeaseLost(lease.name().to_owned()));
    }
    if ctx.stop.is_cancelled() { Err(Error::Stopped) } else { Ok(()) }
}
