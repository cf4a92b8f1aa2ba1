//! `/metrics`: what the objects say, and what the controller counts of itself, in the words of Prometheus.
//!
//! - `families`: what of the objects each metric says. It is derived from the cached objects when it is asked for, so that nothing
//!   is lost by a restart;
//! - `operator`: the controller's own work;
//! - `requests`: counts the requests of its client;
//! - `labels`: the labels of all.

mod families;
mod labels;
mod operator;
mod requests;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use kube::runtime::reflector::Store;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tracing::error;

use self::families::Families;
pub use self::operator::OwnMetrics;
pub use self::requests::CountRequests;
use crate::api::CoderUpgrade;

/// What is told of the objects, once this instance leads, and of the instance itself.
#[derive(Clone, Default)]
pub struct Metrics {
    upgrades: Arc<OnceLock<Store<CoderUpgrade>>>,
    /// What this instance counts.
    pub own: OwnMetrics,
}

impl Metrics {
    /// Tells where the objects are cached.
    pub fn observe(&self, upgrades: Store<CoderUpgrade>) {
        // An instance leads once; a second cache cannot come.
        let _ = self.upgrades.set(upgrades);
    }

    /// The answer to a scrape. An instance that stands by has no objects.
    pub fn text(&self) -> String {
        render(&self.own, self.upgrades.get().map(Store::state).as_deref())
    }
}

fn render(own: &OwnMetrics, upgrades: Option<&[Arc<CoderUpgrade>]>) -> String {
    let mut registry = Registry::with_prefix("coder_upgrade");
    own.register(&mut registry);
    if let Some(upgrades) = upgrades {
        Families::registered(&mut registry).record(upgrades.iter().map(AsRef::as_ref));
    }
    let mut text = String::new();
    if let Err(error) = encode(&mut text, &registry) {
        error!(%error, "cannot write the metrics");
    }
    text
}
