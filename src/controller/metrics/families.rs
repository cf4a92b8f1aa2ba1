//! The metrics, and what of an object each of them says.

use kube::ResourceExt;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::api::{CoderUpgrade, CoderUpgradeStatus, ConditionType};

/// A `CoderUpgrade`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfUpgrade {
    namespace: String,
    name: String,
}

/// A `CoderUpgrade` and the versions of its release.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfVersions {
    namespace: String,
    name: String,
    release: String,
    installed: String,
    target: String,
}

/// A `CoderUpgrade` in a phase.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfPhase {
    namespace: String,
    name: String,
    phase: String,
}

/// A `CoderUpgrade` and a condition of it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfCondition {
    namespace: String,
    name: String,
    condition: String,
}

/// A `CoderUpgrade` and a step of its attempt.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfStep {
    namespace: String,
    name: String,
    step: String,
}

/// A `CoderUpgrade` and the class of its failure.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfClass {
    namespace: String,
    name: String,
    class: String,
}

/// A `CoderUpgrade` and an object of its release.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfObject {
    namespace: String,
    name: String,
    object: String,
}

/// Every metric.
#[derive(Default)]
pub struct Families {
    info: Family<OfVersions, Gauge>,
    ready: Family<OfUpgrade, Gauge>,
    phase: Family<OfPhase, Gauge>,
    condition: Family<OfCondition, Gauge>,
    retries: Family<OfUpgrade, Gauge>,
    failure: Family<OfClass, Gauge>,
    step_started: Family<OfStep, Gauge>,
    step_duration: Family<OfStep, Gauge>,
    waiting: Family<OfObject, Gauge>,
    address_changed: Family<OfObject, Gauge>,
}

impl Families {
    /// All of them, with what they mean.
    pub fn registered(registry: &mut Registry) -> Self {
        let families = Self::default();
        registry.register("info", "The versions of a release; always 1", families.info.clone());
        registry.register(
            "ready",
            "Coder was verified at the wanted version (condition Ready)",
            families.ready.clone(),
        );
        registry.register("phase", "The phase of the CoderUpgrade; 1 for the present one", families.phase.clone());
        registry.register(
            "condition",
            "A condition of the CoderUpgrade: 1 if it is true, 0 if it is false; none if it is unknown",
            families.condition.clone(),
        );
        registry.register("retries", "Tries of the attempt that failed so far", families.retries.clone());
        registry.register("failure", "The class of the present failure; 1 for it", families.failure.clone());
        registry.register(
            "step_started_timestamp_seconds",
            "Time (Unix) at which the running step began",
            families.step_started.clone(),
        );
        registry.register(
            "step_duration_seconds",
            "How long the last finished run of a step of the attempt took",
            families.step_duration.clone(),
        );
        registry.register(
            "waiting_for_since_seconds",
            "Time (Unix) since which an object of the uninstalled release is being deleted",
            families.waiting.clone(),
        );
        registry.register(
            "address_changed",
            "A Service or Ingress has another address than before: its DNS must be updated",
            families.address_changed.clone(),
        );
        families
    }

    /// Takes in what one object says.
    pub fn record(&self, upgrade: &CoderUpgrade, status: &CoderUpgradeStatus) {
        let (namespace, name) = (upgrade.namespace().unwrap_or_default(), upgrade.name_any());
        let of_upgrade = OfUpgrade { namespace: namespace.clone(), name: name.clone() };
        let of_object = |kind: &str, object: &str| OfObject {
            namespace: namespace.clone(),
            name: name.clone(),
            object: format!("{kind}/{object}"),
        };
        let of_step = |step: String| OfStep { namespace: namespace.clone(), name: name.clone(), step };
        let of_versions = OfVersions {
            namespace: namespace.clone(),
            name: name.clone(),
            release: upgrade.spec.release.clone(),
            installed: status.current.as_ref().map(|current| current.version.clone()).unwrap_or_default(),
            target: status.target.as_ref().map(|target| target.version.clone()).unwrap_or_default(),
        };
        self.info.get_or_create(&of_versions).set(1);
        self.retries.get_or_create(&of_upgrade).set(status.retries.into());
        let mut ready = false;
        for condition in status.conditions.iter().filter(|condition| condition.status != "Unknown") {
            let holds = condition.status == "True";
            ready |= holds && condition.type_ == ConditionType::Ready.to_string();
            let condition = condition.type_.clone();
            let of_condition = OfCondition { namespace: namespace.clone(), name: name.clone(), condition };
            self.condition.get_or_create(&of_condition).set(holds.into());
        }
        self.ready.get_or_create(&of_upgrade).set(ready.into());
        let phase = status.phase.to_string();
        self.phase.get_or_create(&OfPhase { namespace: namespace.clone(), name: name.clone(), phase }).set(1);
        if let Some(failure) = &status.failure {
            let class = failure.class.to_string();
            self.failure.get_or_create(&OfClass { namespace: namespace.clone(), name: name.clone(), class }).set(1);
        }
        for step in &status.steps {
            let (of_step, started) = (of_step(step.name.to_string()), step.started.0.as_second());
            match &step.finished {
                Some(finished) => {
                    self.step_duration.get_or_create(&of_step).set(finished.0.as_second() - started);
                }
                None => {
                    self.step_started.get_or_create(&of_step).set(started);
                }
            }
        }
        for object in &status.waiting_for {
            self.waiting.get_or_create(&of_object(&object.kind, &object.name)).set(object.since.0.as_second());
        }
        for change in &status.address_changes {
            self.address_changed.get_or_create(&of_object(&change.kind, &change.name)).set(1);
        }
    }
}
