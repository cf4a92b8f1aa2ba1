//! What the controller counts of itself. A restart begins at 0 again, as with any counter.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use strum::IntoEnumIterator;

use super::labels::{OfBuild, OfError, OfRequest};
use crate::controller::request::ErrorKind;

/// Upper limits of the buckets of durations, in seconds. A pass without requests takes less than a millisecond, and no request
/// more than 15 s.
const BUCKETS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 30.0];

/// The metrics of this process. Clones count together.
#[derive(Clone)]
pub struct OwnMetrics {
    build: Family<OfBuild, Gauge>,
    leading: Gauge,
    jobs_limit: Gauge,
    passes: Histogram,
    errors: Family<OfError, Counter>,
    requests: Family<OfRequest, Counter>,
}

impl Default for OwnMetrics {
    fn default() -> Self {
        let build = Family::<OfBuild, Gauge>::default();
        build.get_or_create(&OfBuild { version: env!("CARGO_PKG_VERSION") }).set(1);
        let errors = Family::<OfError, Counter>::default();
        for reason in ErrorKind::iter() {
            errors.get_or_create(&OfError { reason: reason.into() }).inc_by(0);
        }
        let (leading, jobs_limit, requests) = (Gauge::default(), Gauge::default(), Family::default());
        Self { build, leading, jobs_limit, passes: Histogram::new(BUCKETS), errors, requests }
    }
}

impl OwnMetrics {
    /// All of them, with what they mean.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("operator_build_info", "The version of the operator; always 1", self.build.clone());
        registry.register("operator_leading", "1: this controller holds the Lease", self.leading.clone());
        registry.register("operator_jobs_limit", "How many Jobs may run at a time", self.jobs_limit.clone());
        registry.register(
            "operator_reconcile_duration_seconds",
            "How long the passes over CoderUpgrades took, with their requests",
            self.passes.clone(),
        );
        registry.register(
            "operator_reconcile_errors",
            "Passes that could not be finished; each is done again",
            self.errors.clone(),
        );
        registry.register(
            "operator_api_requests",
            "Requests of the controller to the API server; a watch counts when it begins",
            self.requests.clone(),
        );
    }

    /// This controller acts now, and lets so many Jobs run.
    pub fn leads(&self, jobs_limit: u16) {
        self.leading.set(1);
        self.jobs_limit.set(jobs_limit.into());
    }

    /// A pass has ended.
    pub fn passed(&self, took: Duration) {
        self.passes.observe(took.as_secs_f64());
    }

    /// A pass could not be finished.
    pub fn failed(&self, kind: ErrorKind) {
        self.errors.get_or_create(&OfError { reason: kind.into() }).inc();
    }

    /// A request was answered, or was not.
    pub fn asked(&self, request: &OfRequest) {
        self.requests.get_or_create(request).inc();
    }
}
