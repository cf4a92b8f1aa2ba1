//! One runner at a time per release: a Lease that is held while something may change.
//!
//! Every write carries the resourceVersion of what was read, so that of two runners only one can take the Lease. A Lease
//! of another counts as free when it was not renewed for its whole duration *as seen from here*: clocks are not compared.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::api::FailureClass;
use crate::core::report::Problem;
use crate::runner::context::{Context, is_unreachable, request};
use crate::runner::error::{Error, said};

/// How long others wait for a holder that says nothing.
const DURATION: Duration = Duration::from_secs(15);
/// How often the holder says something.
const RENEW: Duration = Duration::from_secs(5);
/// Without a successful renewal for this long, the holder gives up. Leaves helm a few seconds to end before the Lease
/// may be taken.
const GIVE_UP: Duration = Duration::from_secs(10);
/// How often a Lease of another is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a Lease of another is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Name of the Lease of a release.
pub fn name_of(release: &str) -> String {
    format!("coder-upgrade-{release}")
}

/// A Lease that is held and renewed until it is released, lost or dropped. Whatever changes a release asks for it.
pub struct Held {
    leases: Api<Lease>,
    name: String,
    holder: String,
    /// The Lease as the API server has answered last.
    known: Known,
    lost: Lost,
    /// Cancelled when the runner is told to stop.
    stop: CancellationToken,
    renewal: JoinHandle<()>,
}

/// The Lease as it was last written or read here. Another one may have written since: its resourceVersion tells then.
#[derive(Clone, Debug, Default)]
struct Known(Arc<Mutex<Lease>>);

impl Known {
    fn get(&self) -> Lease {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, lease: Lease) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }
}

/// How a Lease is lost.
#[derive(Clone, Debug, Default)]
struct Lost {
    /// It could not be renewed in time, or was taken.
    at_all: CancellationToken,
    /// Somebody else has it, or it was deleted, so that anybody may: whoever still works must end at once.
    taken: CancellationToken,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl Held {
    /// Takes the Lease of a release, waiting for a holder that may have died.
    pub async fn take(ctx: &Context, release: &str) -> Result<Self, Error> {
        let leases: Api<Lease> = ctx.api();
        let name = name_of(release);
        // A pod that is replaced is another holder, though its Job is the same.
        let holder = format!("{}_{:08x}", ctx.job, RandomState::new().hash_one(0u8) >> 32);
        let lease = acquire(&leases, &name, &holder, ctx).await?;
        tracing::info!("holding Lease/{name}");
        let lost = Lost::default();
        let known = Known(Arc::new(Mutex::new(lease)));
        let renewal = renew(leases.clone(), name.clone(), holder.clone(), known.clone(), lost.clone());
        let renewal = tokio::spawn(renewal.in_current_span());
        Ok(Self { leases, name, holder, known, lost, stop: ctx.stop.clone(), renewal })
    }

    /// Cancelled when the Lease is lost.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost.at_all
    }

    /// Cancelled when somebody else may have the Lease by now.
    pub fn taken(&self) -> &CancellationToken {
        &self.lost.taken
    }

    /// Refuses to go on when the Lease is lost, and only then: what was begun is undone although the runner shall stop.
    pub fn not_lost(&self) -> Result<(), Error> {
        if self.lost().is_cancelled() { Err(Error::LeaseLost(self.name.clone())) } else { Ok(()) }
    }

    /// Refuses to go on when the Lease is lost or the runner was told to stop.
    pub fn still_held(&self) -> Result<(), Error> {
        self.not_lost()?;
        if self.stop.is_cancelled() { Err(Error::Stopped) } else { Ok(()) }
    }

    /// Does the work, unless the runner is told to stop or loses the Lease meanwhile.
    pub async fn while_held<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            done = work => done,
            () = self.stop.cancelled() => Err(Error::Stopped),
            () = self.lost().cancelled() => Err(Error::LeaseLost(self.name.clone())),
        }
    }

    /// Sends a request that changes something of the release, as [`request`] does, but never once the Lease is lost: not even
    /// again after a connection that broke. That the runner shall stop is no reason: what was begun is undone then.
    pub async fn write<T, F>(&self, doing: &str, call: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = kube::Result<T>>,
    {
        tokio::select! {
            biased;
            () = self.lost().cancelled() => Err(Error::LeaseLost(self.name.clone())),
            done = request(doing, call) => done,
        }
    }

    /// An annotation of the Lease, as it was when this runner last wrote or took it: nobody else writes it meanwhile.
    pub fn annotation(&self, key: &str) -> Option<String> {
        self.known.get().annotations().get(key).cloned()
    }

    /// Writes an annotation of the Lease, if what it says shall change. `wanted` is asked again if somebody has written since the
    /// Lease was read: the renewal of this runner, or another runner after this one has lost it.
    pub async fn annotate(&self, key: &str, wanted: impl Fn(Option<&str>) -> String) -> Result<(), Error> {
        let (parameters, doing) = (PatchParams::default(), format!("annotate Lease/{}", self.name));
        let mut lease = self.known.get();
        loop {
            let now = lease.annotations().get(key);
            let wanted = wanted(now.map(String::as_str));
            if now == Some(&wanted) {
                return Ok(());
            }
            let metadata = json!({"resourceVersion": lease.resource_version(), "annotations": {key: wanted}});
            let patch = Patch::Merge(json!({"metadata": metadata}));
            match request(&doing, || self.leases.patch(&self.name, &parameters, &patch)).await {
                Err(error) if error.has_code(409) => {
                    lease = request(&format!("read Lease/{}", self.name), || self.leases.get(&self.name)).await?;
                }
                written => {
                    let written = written?;
                    // The next renewal must know of the new resourceVersion.
                    if holder_of(&written) == Some(&self.holder) {
                        self.known.set(written);
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Gives the Lease back, so that the next runner need not wait. If that fails, it runs out by itself.
    pub async fn release(self) {
        self.renewal.abort();
        let freed = async || match self.free(self.known.get()).await {
            // A renewal was under way.
            Err(kube::Error::Api(status)) if status.code == 409 => self.free(self.leases.get(&self.name).await?).await,
            freed => freed,
        };
        if let Err(error) = request(&format!("release Lease/{}", self.name), freed).await {
            tracing::warn!("{error}; it runs out in {} s", DURATION.as_secs());
        }
    }

    /// Writes that nobody holds the Lease, if this runner does and it is still as it is known here.
    async fn free(&self, mut lease: Lease) -> kube::Result<()> {
        if holder_of(&lease) == Some(&self.holder) {
            lease.spec.get_or_insert_default().holder_identity = None;
            self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

async fn acquire(leases: &Api<Lease>, name: &str, holder: &str, ctx: &Context) -> Result<Lease, Error> {
    let begun = Instant::now();
    let mut seen: Option<(Option<String>, Instant)> = None;
    loop {
        let found = request(&format!("read Lease/{name}"), || leases.get_opt(name)).await?;
        let attempt = match found {
            None => {
                let new = Lease {
                    metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
                    ..Lease::default()
                };
                Some(leases.create(&PostParams::default(), &held_by(new, holder)).await)
            }
            Some(lease) => {
                let version = lease.metadata.resource_version.clone();
                if seen.as_ref().is_none_or(|(last, _)| *last != version) {
                    seen = Some((version, Instant::now()));
                }
                let silent = seen.as_ref().map(|(_, since)| since.elapsed()).unwrap_or_default();
                if is_free(&lease, silent) {
                    Some(leases.replace(name, &PostParams::default(), &held_by(lease, holder)).await)
                } else {
                    let other = holder_of(&lease).map(ToString::to_string).unwrap_or_default();
                    if begun.elapsed() > PATIENCE {
                        return Err(Problem::new(
                            FailureClass::ReleaseLocked,
                            format!("{other} holds the Lease of the release and goes on renewing it"),
                        )
                        .object(format!("Lease/{name}"))
                        .into());
                    }
                    ctx.reporter.progress(&format!("waiting for Lease/{name}, held by {other}"));
                    None
                }
            }
        };
        match attempt {
            Some(Ok(lease)) => return Ok(lease),
            // Somebody else was faster: look again.
            Some(Err(kube::Error::Api(status))) if status.code == 409 => {}
            // It may have been written all the same: look again, too.
            Some(Err(error)) if is_unreachable(&error) => sleep(LOOK).await,
            Some(Err(error)) => return Err(Error::api(format!("take Lease/{name}"), error)),
            None => sleep(LOOK).await,
        }
    }
}

/// Nobody holds it, or its holder has said nothing for the whole duration that it promised.
fn is_free(lease: &Lease, silent: Duration) -> bool {
    let promised = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    let promised = promised.and_then(|seconds| u64::try_from(seconds).ok()).map_or(DURATION, Duration::from_secs);
    holder_of(lease).is_none() || silent > promised
}

fn holder_of(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

fn held_by(mut lease: Lease, holder: &str) -> Lease {
    let now = MicroTime(Timestamp::now());
    let spec = lease.spec.take().unwrap_or_default();
    let transitions = spec.lease_transitions.unwrap_or(-1);
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(now.clone()),
        renew_time: Some(now),
        lease_transitions: Some(transitions + 1),
        ..spec
    });
    lease
}

/// Renews until the Lease is lost.
async fn renew(leases: Api<Lease>, name: String, holder: String, known: Known, lost: Lost) {
    let mut renewed = Instant::now();
    let mut pause = RENEW;
    loop {
        sleep(pause).await;
        pause = RENEW;
        let mut lease = known.get();
        lease.spec.get_or_insert_default().renew_time = Some(MicroTime(Timestamp::now()));
        // One end for all requests of a round: each has what the ones before it have left.
        let end = renewed + GIVE_UP;
        let begun = Instant::now();
        match timeout_at(end, leases.replace(&name, &PostParams::default(), &lease)).await {
            Ok(Ok(new)) => {
                // The request may have been under way for a while: the Lease counts from when it was sent.
                renewed = begun;
                known.set(new);
                continue;
            }
            Ok(Err(error)) => {
                // A conflict follows after an answer that was lost, or came while an annotation was written.
                if matches!(&error, kube::Error::Api(status) if status.code == 409) {
                    tracing::debug!("Lease/{name} was written to; it is read again");
                } else {
                    tracing::warn!("Lease/{name} could not be renewed: {}", said(&error));
                }
                match timeout_at(end, leases.get_opt(&name)).await {
                    Ok(Ok(Some(now))) if holder_of(&now) == Some(&holder) => known.set(now),
                    Ok(Ok(other)) => {
                        let other = other.as_ref().and_then(holder_of).map_or("nobody", String::as_str);
                        tracing::error!("Lease/{name} is held by {other}");
                        lost.taken.cancel();
                        break;
                    }
                    Ok(Err(_)) | Err(_) => {}
                }
                pause = LOOK;
            }
            Err(_) => tracing::warn!("Lease/{name} could not be renewed: no answer"),
        }
        if Instant::now() >= end {
            break;
        }
        pause = pause.min(end.saturating_duration_since(Instant::now()));
    }
    lost.at_all.cancel();
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use super::*;

    fn held() -> Held {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = kube::Client::try_from(nowhere).unwrap();
        Held {
            leases: Api::namespaced(client, "ns"),
            name: "coder-upgrade-coder".into(),
            holder: "job_1".into(),
            known: Known::default(),
            lost: Lost::default(),
            stop: CancellationToken::new(),
            renewal: tokio::spawn(async {}),
        }
    }

    #[tokio::test]
    async fn nothing_is_sent_once_the_lease_is_lost() {
        let (held, requests) = (held(), Cell::new(0));
        let send = async || {
            requests.set(requests.get() + 1);
            Ok(())
        };
        held.write("scale", send).await.unwrap();
        held.stop.cancel();
        held.write("scale back", send).await.unwrap();
        assert!(matches!(held.still_held(), Err(Error::Stopped)));
        held.lost.at_all.cancel();
        assert!(matches!(held.write("scale", send).await, Err(Error::LeaseLost(_))));
        assert!(matches!(held.still_held(), Err(Error::LeaseLost(_))));
        assert_eq!(requests.get(), 2);
    }

    #[tokio::test]
    async fn what_is_under_way_when_the_lease_is_lost_is_not_sent_again() {
        let held = held();
        let unanswered = held.write("scale", pending::<kube::Result<()>>);
        let lost = async { held.lost.at_all.cancel() };
        let (ended, ()) = tokio::join!(unanswered, lost);
        assert!(matches!(ended, Err(Error::LeaseLost(_))));
    }

    #[test]
    fn a_lease_is_free_when_nobody_holds_it_or_its_holder_is_silent() {
        let held = held_by(Lease::default(), "job_1");
        assert!(!is_free(&held, Duration::from_secs(14)) && is_free(&held, Duration::from_secs(16)));
        assert!(is_free(&Lease::default(), Duration::ZERO));
        assert_eq!(held.spec.as_ref().unwrap().lease_transitions, Some(0));
        assert_eq!(held_by(held, "job_2").spec.unwrap().lease_transitions, Some(1));
    }

    #[test]
    fn helm_has_ended_before_another_runner_can_begin() {
        assert!(GIVE_UP + Duration::from_secs(4) < DURATION && RENEW * 2 <= GIVE_UP);
    }
}
