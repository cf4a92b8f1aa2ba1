//! `/metrics`: what the objects say, in the words of Prometheus.
//!
//! Everything is derived from the cached objects when it is asked for: nothing is counted, so nothing is lost by a restart.

use std::sync::{Arc, OnceLock};

use kube::{ResourceExt, runtime::reflector::Store};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use tracing::error;

use crate::api::{CoderUpgrade, ConditionType};

/// The cache of the objects, once this instance leads.
#[derive(Clone, Default)]
pub struct Metrics(Arc<OnceLock<Store<CoderUpgrade>>>);

/// A `CoderUpgrade`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Object {
    namespace: String,
    name: String,
}

/// A `CoderUpgrade` in a phase.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InPhase {
    namespace: String,
    name: String,
    phase: String,
}

/// A `CoderUpgrade` and an object of its release.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct About {
    namespace: String,
    name: String,
    object: String,
}

impl Metrics {
    /// Tells where the objects are cached.
    pub fn observe(&self, upgrades: Store<CoderUpgrade>) {
        // An instance leads once; a second cache cannot come.
        let _ = self.0.set(upgrades);
    }

    /// The answer to a scrape. An instance that stands by has no objects.
    pub fn text(&self) -> String {
        render(&self.0.get().map(Store::state).unwrap_or_default())
    }
}

fn render(upgrades: &[Arc<CoderUpgrade>]) -> String {
    let mut registry = Registry::with_prefix("coder_upgrade");
    let (ready, phase) = (Family::<Object, Gauge>::default(), Family::<InPhase, Gauge>::default());
    let (changed, waiting) = (Family::<About, Gauge>::default(), Family::<About, Gauge>::default());
    registry.register("ready", "Coder was verified at the wanted version (condition Ready)", ready.clone());
    registry.register("phase", "The phase of the CoderUpgrade; 1 for the present one", phase.clone());
    registry.register(
        "address_changed",
        "A Service or Ingress has another address than before: its DNS must be updated",
        changed.clone(),
    );
    registry.register(
        "waiting_for_since_seconds",
        "Time (Unix) since which an object of the uninstalled release is being deleted",
        waiting.clone(),
    );
    for upgrade in upgrades {
        let Some(status) = &upgrade.status else { continue };
        let (namespace, name) = (upgrade.namespace().unwrap_or_default(), upgrade.name_any());
        let holds = status.conditions.iter().any(|c| c.type_ == ConditionType::Ready.to_string() && c.status == "True");
        ready.get_or_create(&Object { namespace: namespace.clone(), name: name.clone() }).set(holds.into());
        let labels = InPhase { namespace: namespace.clone(), name: name.clone(), phase: status.phase.to_string() };
        phase.get_or_create(&labels).set(1);
        let about = |kind: &str, object: &str| About {
            namespace: namespace.clone(),
            name: name.clone(),
            object: format!("{kind}/{object}"),
        };
        for change in &status.address_changes {
            changed.get_or_create(&about(&change.kind, &change.name)).set(1);
        }
        for object in &status.waiting_for {
            waiting.get_or_create(&about(&object.kind, &object.name)).set(object.since.0.as_second());
        }
    }
    let mut text = String::new();
    if let Err(error) = encode(&mut text, &registry) {
        error!(%error, "cannot write the metrics");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AddressChange, CoderUpgradeSpec, CoderUpgradeStatus, Phase};

    #[test]
    fn a_changed_address_is_told_until_the_next_upgrade() {
        let mut upgrade = CoderUpgrade::new("coder", CoderUpgradeSpec::default());
        upgrade.metadata.namespace = Some("prod".into());
        let change = AddressChange {
            kind: "Service".into(),
            name: "coderd".into(),
            before: vec!["203.0.113.1".into()],
            after: vec!["203.0.113.2".into()],
            hosts: vec!["coder.example.com".into()],
        };
        upgrade.status = Some(CoderUpgradeStatus {
            phase: Phase::Succeeded,
            address_changes: vec![change],
            ..CoderUpgradeStatus::default()
        });
        let text = render(&[Arc::new(upgrade)]);
        for line in [
            r#"coder_upgrade_address_changed{namespace="prod",name="coder",object="Service/coderd"} 1"#,
            r#"coder_upgrade_phase{namespace="prod",name="coder",phase="Succeeded"} 1"#,
            r#"coder_upgrade_ready{namespace="prod",name="coder"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
