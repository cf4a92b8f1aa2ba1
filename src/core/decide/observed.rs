//! Everything that a decision may see.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::job::JobFacts;
use super::start_failure::EventFacts;
use crate::api::{ClaimStatus, CoderUpgrade, CoderUpgradeStatus, FINALIZER, Step, WaitingFor, annotation};
use crate::core::allowed::Allowed;
use crate::core::gates::dependencies::{Obstacle, Sibling};
use crate::core::gates::{dependencies, request};
use crate::core::rollout::drift::Drift;

/// What is left of an uninstalled release.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remaining {
    /// Objects of `status.waitingFor` that are still there.
    pub objects: Vec<WaitingFor>,
    /// The claims of `status.persistentVolumeClaims` that are there, by name.
    pub claims: BTreeMap<String, ClaimStatus>,
}

/// The facts of one pass.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The present time.
    pub now: Timestamp,
    /// Since when this controller sees what happens: what the status said before, another one has seen.
    pub watching_since: Timestamp,
    /// The object.
    pub upgrade: CoderUpgrade,
    /// The Jobs of the object's namespace that it controls, by their own words; see [`Self::job`].
    pub jobs: Vec<JobFacts>,
    /// What the cluster says of the running step's Job or pod; looked at only while no pod of it starts.
    pub words: Option<EventFacts>,
    /// Digest of the settings that a pod would be built with now.
    pub settings: String,
    /// Another `CoderUpgrade` that had the release first.
    pub claimed_by: Option<String>,
    /// The `CoderUpgrades` that `spec.dependsOn` leads to, directly or over others.
    pub siblings: Vec<Sibling>,
    /// What is left of an uninstalled release; looked at only while it is drained.
    pub left: Option<Remaining>,
    /// Workloads of the release that are not what was verified; looked at only while [`crate::core::rollout::drift::is_watched`].
    pub drift: Vec<Drift>,
    /// Whether there is room for one more Job.
    pub place: Capacity,
    /// Delay before the first retry; it doubles from there.
    pub retry_delay: Duration,
    /// What the spec may name.
    pub allowed: Arc<Allowed>,
}

/// Whether there is room for one more Job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Capacity {
    /// There is, or the object has a Job already.
    #[default]
    Free,
    /// Others have all places, or come first.
    Taken {
        /// How many places there are.
        limit: usize,
    },
}

impl Observed {
    /// An object of which nothing else is known.
    pub fn new(upgrade: CoderUpgrade, now: Timestamp) -> Self {
        Self {
            now,
            watching_since: now,
            upgrade,
            jobs: Vec::new(),
            words: None,
            settings: String::new(),
            claimed_by: None,
            siblings: Vec::new(),
            left: None,
            drift: Vec::new(),
            place: Capacity::Free,
            retry_delay: Duration::from_secs(10),
            allowed: Arc::default(),
        }
    }

    /// The status as stored; the default for an object that nobody has looked at.
    pub fn status(&self) -> CoderUpgradeStatus {
        self.upgrade
            .status
            .clone()
            .unwrap_or_else(|| CoderUpgradeStatus { observed_generation: -1, ..Default::default() })
    }

    /// UID of the object.
    pub fn uid(&self) -> &str {
        self.upgrade.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Generation of the spec.
    pub fn generation(&self) -> i64 {
        self.upgrade.metadata.generation.unwrap_or_default()
    }

    /// Whether somebody has deleted the object.
    pub fn deleting(&self) -> bool {
        self.upgrade.metadata.deletion_timestamp.is_some()
    }

    /// Whether the finalizer is set.
    pub fn held(&self) -> bool {
        self.upgrade.metadata.finalizers.as_deref().unwrap_or_default().iter().any(|f| f == FINALIZER)
    }

    /// Digest of what is asked for: the spec as far as it decides the outcome, and the request annotation.
    pub fn request(&self) -> String {
        request::digest(&self.upgrade.spec, self.annotation(annotation::REQUESTED_AT))
    }

    /// Digest of what is asked for, as it stands in a status that says that it is not allowed: other flags of the controller
    /// make it another one, and so start again.
    pub fn refused_request(&self) -> String {
        format!("{}-{}", self.request(), self.allowed.fingerprint())
    }

    /// What keeps the object waiting for others that it comes after.
    pub fn obstacle(&self) -> Option<Obstacle> {
        let name = self.upgrade.metadata.name.as_deref().unwrap_or_default();
        dependencies::obstacle(name, &self.upgrade.spec.dependencies(), &self.siblings)
    }

    /// Value of an annotation of the object.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.upgrade.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// The present time as Kubernetes writes it: in whole seconds.
    pub fn time(&self) -> Time {
        Time(Timestamp::from_second(self.now.as_second()).unwrap_or(self.now))
    }

    /// The Job of a step: the one whose UID was recorded when the controller had created it.
    pub fn job(&self, step: &Step) -> Option<&JobFacts> {
        let recorded =
            |job: &&JobFacts| job.name == step.job_name && job.uid == step.job_uid && !step.job_uid.is_empty();
        self.jobs.iter().find(recorded).filter(|job| !job.leaving)
    }
}
