//! What of the objects each metric says.

use kube::ResourceExt;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use strum::IntoEnumIterator;

use super::labels::{
    OfClaim, OfClass, OfCondition, OfObject, OfPhase, OfQueued, OfRunning, OfStep, OfUpgrade, OfVersions,
};
use crate::api::{CoderUpgrade, CoderUpgradeStatus, ConditionType, Phase, StepName};
use crate::controller::places;

/// The metrics that are read from the objects.
#[derive(Default)]
pub struct Families {
    info: Family<OfVersions, Gauge>,
    ready: Family<OfUpgrade, Gauge>,
    phase: Family<OfPhase, Gauge>,
    condition: Family<OfCondition, Gauge>,
    attempts: Family<OfUpgrade, Counter>,
    retries: Family<OfUpgrade, Gauge>,
    failure: Family<OfClass, Gauge>,
    step_started: Family<OfStep, Gauge>,
    step_duration: Family<OfStep, Gauge>,
    usual_duration: Family<OfUpgrade, Gauge>,
    waiting: Family<OfObject, Gauge>,
    drift: Family<OfUpgrade, Gauge>,
    claim: Family<OfClaim, Gauge>,
    addresses: Family<OfObject, Gauge>,
    address_changed: Family<OfObject, Gauge>,
    running: Family<OfRunning, Gauge>,
    queued: Family<OfQueued, Gauge>,
}

impl Families {
    /// All of them, with what they mean.
    pub fn registered(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register("info", "The versions of a release; always 1", all.info.clone());
        registry.register("ready", "Coder was verified at the wanted version (condition Ready)", all.ready.clone());
        registry.register("phase", "The phase of the CoderUpgrade; 1 for the present one", all.phase.clone());
        registry.register(
            "condition",
            "A condition of the CoderUpgrade: 1 if it is true, 0 if it is false; none if it is unknown",
            all.condition.clone(),
        );
        registry.register("attempts", "Attempts of the CoderUpgrade so far", all.attempts.clone());
        registry.register("retries", "Tries of the attempt that failed so far", all.retries.clone());
        registry.register("failure", "The class of the present failure; 1 for it", all.failure.clone());
        registry.register(
            "step_started_timestamp_seconds",
            "Time (Unix) at which the running step began",
            all.step_started.clone(),
        );
        registry.register(
            "step_duration_seconds",
            "How long the last finished run of a step of the attempt took",
            all.step_duration.clone(),
        );
        registry.register(
            "usual_duration_seconds",
            "Median duration of the attempts in status.history that succeeded",
            all.usual_duration.clone(),
        );
        registry.register(
            "waiting_since_timestamp_seconds",
            "Time (Unix) since which an object of the uninstalled release is being deleted",
            all.waiting.clone(),
        );
        registry.register(
            "drift_objects",
            "Objects of the release that were changed from outside since Coder was verified",
            all.drift.clone(),
        );
        registry.register(
            "claim_info",
            "A PersistentVolumeClaim of the release, as seen last; always 1",
            all.claim.clone(),
        );
        registry.register(
            "addresses",
            "Addresses outside of the cluster that a Service or Ingress of the release has, as seen last",
            all.addresses.clone(),
        );
        registry.register(
            "address_changed",
            "A Service or Ingress has another address than before: its DNS must be updated",
            all.address_changed.clone(),
        );
        registry.register("operator_jobs_running", "Jobs of steps that run", all.running.clone());
        registry.register("operator_jobs_queued", "CoderUpgrades that wait for the place of a Job", all.queued.clone());
        all
    }

    /// Takes in what the objects say.
    pub fn record<'a>(&self, upgrades: impl Iterator<Item = &'a CoderUpgrade>) {
        // Without an object, too: no Job runs then.
        for step in StepName::iter().filter(|step| *step != StepName::Drain) {
            self.running.get_or_create(&OfRunning { step: step.into() }).set(0);
        }
        for purpose in ["Plan", "Change"] {
            self.queued.get_or_create(&OfQueued { purpose }).set(0);
        }
        for upgrade in upgrades {
            if let Some(status) = &upgrade.status {
                self.object(upgrade, status);
                self.jobs(status);
            }
        }
    }

    fn object(&self, upgrade: &CoderUpgrade, status: &CoderUpgradeStatus) {
        let (namespace, name) = (upgrade.namespace().unwrap_or_default(), upgrade.name_any());
        let of_upgrade = OfUpgrade { namespace: namespace.clone(), name: name.clone() };
        let of_versions = OfVersions {
            namespace: namespace.clone(),
            name: name.clone(),
            release: upgrade.spec.release.clone(),
            installed: status.current.as_ref().map(|current| current.version.clone()).unwrap_or_default(),
            target: status.target.as_ref().map(|target| target.version.clone()).unwrap_or_default(),
        };
        self.info.get_or_create(&of_versions).set(1);
        self.attempts.get_or_create(&of_upgrade).inc_by(status.attempt.try_into().unwrap_or_default());
        self.retries.get_or_create(&of_upgrade).set(status.retries.into());
        self.drift.get_or_create(&of_upgrade).set(count(status.drift.len()));
        if let Some(usual) = usual_duration(status) {
            self.usual_duration.get_or_create(&of_upgrade).set(usual);
        }
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
            self.failure.get_or_create(&OfClass { namespace, name, class }).set(1);
        }
        self.steps(&of_upgrade, status);
        self.release(&of_upgrade, status);
    }

    /// The timeline of the attempt.
    fn steps(&self, of: &OfUpgrade, status: &CoderUpgradeStatus) {
        for step in &status.steps {
            let started = step.started.0.as_second();
            let of_step =
                OfStep { namespace: of.namespace.clone(), name: of.name.clone(), step: step.name.to_string() };
            let (family, seconds) = match &step.finished {
                Some(finished) => (&self.step_duration, finished.0.as_second() - started),
                None => (&self.step_started, started),
            };
            family.get_or_create(&of_step).set(seconds);
        }
    }

    /// The objects of the release.
    fn release(&self, of: &OfUpgrade, status: &CoderUpgradeStatus) {
        let of_object = |kind: &str, object: &str| OfObject {
            namespace: of.namespace.clone(),
            name: of.name.clone(),
            object: format!("{kind}/{object}"),
        };
        for object in &status.waiting_for {
            self.waiting.get_or_create(&of_object(&object.kind, &object.name)).set(object.since.0.as_second());
        }
        for claim in &status.persistent_volume_claims {
            let of_claim = OfClaim {
                namespace: of.namespace.clone(),
                name: of.name.clone(),
                claim: claim.name.clone(),
                phase: claim.phase.clone().unwrap_or_default(),
                reclaim_policy: claim.reclaim_policy.clone().unwrap_or_default(),
            };
            self.claim.get_or_create(&of_claim).set(1);
        }
        for exposure in &status.addresses {
            let of_object = of_object(&exposure.kind, &exposure.name);
            self.addresses.get_or_create(&of_object).set(count(exposure.addresses.len()));
        }
        for change in &status.address_changes {
            self.address_changed.get_or_create(&of_object(&change.kind, &change.name)).set(1);
        }
    }

    fn jobs(&self, status: &CoderUpgradeStatus) {
        if let Some(step) = status.running_step().filter(|_| places::has_job(status)) {
            self.running.get_or_create(&OfRunning { step: step.name.into() }).inc();
        }
        if status.phase == Phase::AwaitingPlace {
            let purpose = if status.plan.is_none() { "Plan" } else { "Change" };
            self.queued.get_or_create(&OfQueued { purpose }).inc();
        }
    }
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// The median in seconds; of two in the middle the longer one.
fn usual_duration(status: &CoderUpgradeStatus) -> Option<i64> {
    let succeeded = status.history.iter().filter(|entry| entry.outcome == Phase::Succeeded);
    let mut durations: Vec<i64> =
        succeeded.map(|entry| entry.finished.0.as_second() - entry.started.0.as_second()).collect();
    durations.sort_unstable();
    durations.get(durations.len() / 2).copied()
}
