//! `/livez`, `/readyz` and `/metrics`.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use futures::channel::oneshot;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::runtime::{reflector::Store, watcher};
use tokio::net::TcpListener;

use super::metrics::Metrics;
use crate::api::CoderUpgrade;

/// What `/metrics` answers in.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the controller needs before it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needed {
    /// An answer of the API server about the Lease, by which controllers agree on who leads.
    Lease,
    /// The list of all `CoderUpgrades`: they need the CRD.
    CoderUpgrades,
    /// The list of their Jobs.
    Jobs,
    /// The list of the pods of these.
    Pods,
}

impl Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lease => "no answer about the Lease yet; apply deploy/controller if a right is missing",
            Self::CoderUpgrades => "CoderUpgrades are not listed yet; apply deploy/crd if their kind is unknown",
            Self::Jobs => "Jobs are not listed yet; apply deploy/controller if a right is missing",
            Self::Pods => "pods are not listed yet; apply deploy/controller if a right is missing",
        })
    }
}

/// Whether the controller does its work: it stands by for the Lease, or holds it and has listed everything. Otherwise what is
/// missing, each with the last error that it met.
#[derive(Clone)]
pub struct Readiness(Arc<Mutex<BTreeMap<Needed, Option<String>>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(BTreeMap::from([(Needed::Lease, None)]))))
    }
}

impl Readiness {
    /// It was found.
    pub fn found(&self, needed: Needed) {
        self.missing(|missing| drop(missing.remove(&needed)));
    }

    /// It is looked for from here on.
    pub fn wanted(&self, needed: Needed) {
        self.missing(|missing| drop(missing.insert(needed, None)));
    }

    /// It was looked for in vain. Says nothing of what was found before: a watch that breaks off begins again.
    pub fn hindered(&self, needed: Needed, why: &watcher::Error) {
        self.missing(|missing| {
            missing.entry(needed).and_modify(|last| *last = Some(reason(why)));
        });
    }

    /// Follows what is listed until everything is. `known` is told once the Jobs and their pods are.
    pub async fn fill(
        &self,
        upgrades: Store<CoderUpgrade>,
        (jobs, pods): (Store<Job>, Store<Pod>),
        known: oneshot::Sender<()>,
    ) {
        let found = |needed| move |()| self.found(needed);
        let jobs = async { jobs.wait_until_ready().await.map(found(Needed::Jobs)) };
        let pods = async { pods.wait_until_ready().await.map(found(Needed::Pods)) };
        // An error says that nobody writes or reads any more: the controller is ending.
        if let (Ok(()), Ok(())) = tokio::join!(jobs, pods)
            && known.send(()).is_ok()
        {
            let _ = upgrades.wait_until_ready().await.map(found(Needed::CoderUpgrades));
        }
    }

    fn missing<T>(&self, act: impl FnOnce(&mut BTreeMap<Needed, Option<String>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn answer(&self) -> (StatusCode, String) {
        let line = |(needed, why): (&Needed, &Option<String>)| match why {
            Some(why) => format!("{needed}: {why}"),
            None => needed.to_string(),
        };
        let lines: Vec<String> = self.missing(|missing| missing.iter().map(line).collect());
        if lines.is_empty() {
            return (StatusCode::OK, "ok".into());
        }
        (StatusCode::SERVICE_UNAVAILABLE, lines.join("\n"))
    }
}

/// What the API server says of a refused list or watch, without the form that it says it in.
fn reason(error: &watcher::Error) -> String {
    match error {
        watcher::Error::WatchError(status)
        | watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, readiness: Readiness, metrics: Metrics) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(move || async move { readiness.answer() }))
        .route("/metrics", get(move || async move { ([(CONTENT_TYPE, OPEN_METRICS)], metrics.text()) }));
    axum::serve(listener, routes).await
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn what_is_missing_is_listed_until_it_is_found() {
        let readiness = Readiness::default();
        assert_eq!(readiness.answer().0, StatusCode::SERVICE_UNAVAILABLE);
        readiness.found(Needed::Lease);
        assert_eq!(readiness.answer(), (StatusCode::OK, "ok".into()));
        readiness.wanted(Needed::Jobs);
        readiness.wanted(Needed::Pods);
        let refused = |message: &str| watcher::Error::WatchError(Status::failure(message, "Forbidden").boxed());
        readiness.hindered(Needed::Jobs, &refused("jobs.batch is forbidden"));
        let (status, text) = readiness.answer();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("Jobs are not listed") && lines[0].ends_with("jobs.batch is forbidden"), "{text}");
        assert!(lines.len() == 2 && lines[1].starts_with("pods are not listed yet"), "{text}");
        readiness.found(Needed::Jobs);
        readiness.found(Needed::Pods);
        readiness.hindered(Needed::Pods, &refused("broken off"));
        assert_eq!(readiness.answer().0, StatusCode::OK);
    }
}
