//! What every pass needs.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Client,
    runtime::{events::Recorder, reflector::Store},
};
use tokio::sync::Semaphore;

use super::{drain::Watches, drift::Workloads, metrics::OwnMetrics, owned::OwnedIndex, places::Places};
use crate::api::CoderUpgrade;
use crate::core::decide::runner_job::RunnerDefaults;

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
    pub jobs_of: Arc<OwnedIndex>,
    /// Cache of the runner's pods, without their specs.
    pub pods: Store<Pod>,
    /// Which of them each Job controls.
    pub pods_of: Arc<OwnedIndex>,
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
    /// What is counted.
    pub metrics: OwnMetrics,
    /// Since when this controller sees what happens.
    pub watching_since: Timestamp,
    /// Delay before the first retry.
    pub retry_delay: Duration,
}
