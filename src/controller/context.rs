//! What every pass needs.

use std::{future::Future, sync::Arc, time::Duration};

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Client,
    runtime::{events::Recorder, reflector::Store},
};
use tokio::sync::Semaphore;

use super::{drain::Watches, drift::Workloads, owned::Owned, places::Places};
use crate::api::CoderUpgrade;
use crate::core::decide::Obstruction;
use crate::core::decide::runner_job::RunnerDefaults;

/// Longest time for one request: a connection that hangs must not hold a pass for ever.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Clients, caches and settings.
pub struct Context {
    /// Client with the rights of the controller's `ServiceAccount`.
    pub client: Client,
    /// Publishes events.
    pub recorder: Recorder,
    /// Cache of the `CoderUpgrades`.
    pub upgrades: Store<CoderUpgrade>,
    /// Cache of the Jobs that carry our labels, without their pod templates.
    pub jobs: Store<Job>,
    /// Which of them each object controls.
    pub jobs_of: Arc<Owned>,
    /// Cache of the runner's pods, without their specs.
    pub pods: Store<Pod>,
    /// Which of them each Job controls.
    pub pods_of: Arc<Owned>,
    /// What Jobs get that the spec does not set.
    pub defaults: RunnerDefaults,
    /// Watches of what is waited for between an uninstall and an install.
    pub drains: Watches,
    /// What is seen of the workloads of releases.
    pub workloads: Workloads,
    /// How many upgrades may have a Job.
    pub places: Arc<Places>,
    /// One permit for each pass whose events are being published.
    pub publishing: Arc<Semaphore>,
    /// Delay before the first retry.
    pub retry_delay: Duration,
}

/// Why a pass could not be finished. Every one of these passes: the object is looked at again after a delay.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("cannot {what}: {source}")]
    Api {
        /// What was tried, with the object's name.
        what: String,
        /// What the API server or the connection said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The Job of the step cannot be created.
    #[error("{}", .0.message)]
    Obstructed(Box<Obstruction>),
    /// What was to be changed has been changed by somebody else meanwhile.
    #[error("{0} was changed meanwhile")]
    Changed(String),
    /// The API server did not answer in time.
    #[error("cannot {what}: no answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout {
        /// What was tried, with the object's name.
        what: String,
    },
}

impl Error {
    /// Whether our view was older than what is stored. The watch brings the newer one.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Changed(_) => true,
            Self::Api { source, .. } => {
                matches!(&**source, kube::Error::Api(status) if status.is_conflict() || status.is_not_found())
            }
            _ => false,
        }
    }

    /// What the API server said, if it refused the request for good reason: the same request is refused again until
    /// somebody changes something.
    pub fn refusal(&self) -> Option<&str> {
        let Self::Api { source, .. } = self else { return None };
        let kube::Error::Api(status) = &**source else { return None };
        matches!(status.code, 400 | 403 | 413 | 422).then_some(&status.message)
    }

    /// What keeps the step from beginning, if that is what went wrong.
    pub fn obstruction(&self) -> Option<&Obstruction> {
        match self {
            Self::Obstructed(found) => Some(found),
            _ => None,
        }
    }
}

/// Waits for a request, but not for ever.
pub async fn bounded<T>(what: String, request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Api { what, source: Box::new(source) }),
        Err(_) => Err(Error::Timeout { what }),
    }
}
