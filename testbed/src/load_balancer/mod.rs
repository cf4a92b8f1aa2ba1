//! Stands for a cloud's load balancers: gives addresses to Services of type `LoadBalancer` and to Ingresses.
//!
//! Nothing answers at these addresses. What matters is their life: they come a moment after the object, a re-created
//! object gets another one, and a deleted one lingers until its address is released, which may take long or for ever.

mod addresses;
mod ingress;
mod release;
mod service;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use addresses::{Addresses, Refused};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::runtime::controller::Action;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::supervisor::options::ReleaseDelay;

/// How soon a failed write is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Why an object was not served; it is tried again.
#[derive(Debug, thiserror::Error)]
enum LoadBalancerError {
    #[error("{what} {namespace}/{name}: {source}")]
    Write { what: &'static str, namespace: String, name: String, source: kube::Error },
    #[error("{what} {namespace}/{name}: {source}")]
    Refused { what: &'static str, namespace: String, name: String, source: Refused },
}

/// What both controllers share.
struct Context {
    client: Client,
    addresses: Mutex<Addresses>,
    release_delay: ReleaseDelay,
}

impl Context {
    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves all Services and Ingresses until `stop`.
pub async fn run(client: Client, release_delay: ReleaseDelay, stop: CancellationToken) {
    let addresses = Mutex::new(Addresses::default());
    let context = Arc::new(Context { client: client.clone(), addresses, release_delay });
    let services = Controller::new(Api::<Service>::all(client.clone()), watcher::Config::default())
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(service::reconcile, again, Arc::clone(&context))
        .for_each(async |done| report(done.map(drop)));
    let ingresses = Controller::new(Api::<Ingress>::all(client), watcher::Config::default())
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(ingress::reconcile, again, context)
        .for_each(async |done| report(done.map(drop)));
    tokio::join!(services, ingresses);
}

fn again<K>(_object: Arc<K>, _error: &LoadBalancerError, _context: Arc<Context>) -> Action {
    Action::requeue(RETRY)
}

fn report<E: std::error::Error>(done: Result<(), E>) {
    if let Err(error) = done {
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(%error, cause, "load balancer");
    }
}
