//! A release whose Lease is held: helm's records are changed here alone, by helm or by this program.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::storage::{Storage, Stored};
use super::{HelmFailure, run};
use crate::core::helm::history::{History, Revision};
use crate::runner::cluster::kinds;
use crate::runner::cluster::lease::Held;
use crate::runner::context::Context;
use crate::runner::error::Error;

/// How long what was read counts as the present: helm takes as long to start, and to read for itself.
const MOMENT: Duration = Duration::from_millis(500);

/// A release that no other runner changes, and the one reading of its history.
pub struct HeldRelease {
    lease: Held,
    storage: Storage,
    /// With the time when it was read. None once a record may have been written after that.
    history: Mutex<Option<(Instant, Arc<History>)>>,
}

impl HeldRelease {
    /// Under this Lease, which must be that of the release.
    pub fn new(lease: Held, storage: Storage) -> Self {
        Self { lease, storage, history: Mutex::default() }
    }

    /// Gives the Lease back.
    pub async fn give_back(self) {
        self.lease.release().await;
    }

    /// The Lease.
    pub fn lease(&self) -> &Held {
        &self.lease
    }

    /// helm's records, to be read.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The revisions, the newest first, as they were read last. They are read again if helm or this program has written since.
    pub async fn history(&self) -> Result<Arc<History>, Error> {
        self.read_since(None).await
    }

    /// The revisions as they are now, or were a moment ago: for what a person does who runs helm without the Lease.
    pub async fn refresh(&self) -> Result<Arc<History>, Error> {
        self.read_since(Instant::now().checked_sub(MOMENT)).await
    }

    async fn read_since(&self, since: Option<Instant>) -> Result<Arc<History>, Error> {
        let known = self.history.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, known)) = known.filter(|(read, _)| since.is_none_or(|since| *read >= since)) {
            return Ok(known);
        }
        let (read, history) = (Instant::now(), Arc::<History>::from(self.storage.history().await?));
        *self.history.lock().unwrap_or_else(PoisonError::into_inner) = Some((read, history.clone()));
        Ok(history)
    }

    /// Whatever is known may have been written over.
    fn forget(&self) {
        *self.history.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Runs helm to its end, or until `stop` or the loss of the Lease ends it. It stands in the Job before helm starts.
    pub async fn helm(
        &self,
        ctx: &Context,
        arguments: &[String],
        stop: &CancellationToken,
    ) -> Result<Result<(), HelmFailure>, Error> {
        ctx.reporter.helm_starts().await?;
        self.lease.still_held()?;
        let ended = run::run(&ctx.helm, arguments, &self.lease, stop).await;
        // helm has written records, and may have applied definitions of kinds.
        self.forget();
        kinds::forget(ctx);
        ended
    }

    /// Releases the lock that a killed helm process left: marks its revision as failed, both in the record and in the label that
    /// helm finds it by. Refused by the API server if the record changed since it was read.
    pub async fn unlock(&self, revision: &Revision, description: &str) -> Result<(), Error> {
        let mut stored = self.storage.read(revision).await?;
        stored.record.mark_failed(description);
        self.rewrite(&stored).await
    }

    /// Writes a record back that was edited after it was read, with the label of its status. Refused by the API server
    /// (class `PlanOutdated`) if the Secret changed since it was read.
    pub async fn rewrite(&self, stored: &Stored) -> Result<(), Error> {
        let written = self.storage.rewrite(&self.lease, stored).await;
        self.forget();
        written
    }

    /// Lets helm find another manifest in the record, until [`Self::rewrite`] or until helm itself writes the record. For
    /// [`Storage::read`] the record stays as it was, so a runner that is killed meanwhile leaves nothing to be mistaken.
    pub async fn write_temporarily(&self, stored: &Stored, manifest: String) -> Result<(), Error> {
        let written = self.storage.write_temporarily(&self.lease, stored, manifest).await;
        self.forget();
        written
    }
}
