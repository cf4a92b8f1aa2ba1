//! The plan: everything that an upgrade needs, frozen before the first change.
//!
//! It lies in an immutable Secret under the keys below, or in several if it takes more than one holds ([`parts`]). The upgrade
//! Job mounts these and reads nothing else, so that a repository that fails or a chart that is published again under an old
//! version cannot change what is done.

pub(crate) mod parts;

pub(crate) mod additions;
pub mod checks;
pub(crate) mod difference;
pub(crate) mod path;
pub(crate) mod presence;
pub(crate) mod preview;
pub(crate) mod rehearsal;
pub(crate) mod replicas;

use std::collections::{BTreeMap, BTreeSet};

use crate::core::helm::workload::Workload;
use serde::{Deserialize, Serialize};

use super::helm::hooks::Hook;
use super::object::ObjectRef;
use super::plan::difference::Difference;
use super::plan::replicas::ReplicasSource;
use super::rollout::inventory::Inventory;
use crate::api::{DataRef, Finding, Forecast, Installed, PlannedAction, ProductLine, Strategy};

/// Keys of the plan Secret.
pub mod key {
    /// The [`super::Plan`] as JSON.
    pub const PLAN: &str = "plan.json";
    /// The packaged chart.
    pub const CHART: &str = "chart.tgz";
    /// All values as helm merged them, as JSON (which is YAML, too).
    pub const VALUES: &str = "values.json";
    /// helm's record of the release before the change, exactly as stored: chart, values and manifest, for the way back.
    pub const PREVIOUS_RELEASE: &str = "previous-release";
    /// All of them, in the order in which they fill Secrets: what people look for first.
    pub const ALL: [&str; 4] = [PLAN, VALUES, PREVIOUS_RELEASE, CHART];
}

/// What an upgrade does, and what it must find unchanged afterwards.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Digest of everything that decides the outcome; also a label of the Helm release record.
    pub id: String,
    /// Name of the Helm release.
    pub release: String,
    /// What is to be done.
    pub action: PlannedAction,
    /// Product line of the chart.
    pub line: ProductLine,
    /// The release that the plan starts from; none for a first install.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Installed>,
    /// Name of the chart of Coder that the chart is, or brings along.
    pub chart_name: String,
    /// Version of the chart that the plan leads to: the wanted one, or a stop on the way (see `forecast.hops`).
    pub version: String,
    /// Version of Coder that the chart names: what the pods must answer.
    pub app_version: String,
    /// Version of Coder's chart in it, if the chart brings Coder along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coder_version: Option<String>,
    /// SHA-256 of the packaged chart, in hex.
    pub chart_digest: String,
    /// Whether helm rolls back by itself when the upgrade fails.
    pub rollback_on_failure: bool,
    /// Whether a first install may take over objects that exist.
    #[serde(default)]
    pub adopt: bool,
    /// The workloads of the rendered chart: whose rollout is watched.
    #[serde(default)]
    pub workloads: Vec<Workload>,
    /// All objects of the rendered chart: what a reinstall would make again.
    #[serde(default)]
    pub objects: Vec<ObjectRef>,
    /// The hooks of the rendered chart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// The images that the rendered chart runs, its hooks included.
    #[serde(default)]
    pub images: BTreeSet<String>,
    /// The names of the containers of the rendered chart, its hooks included: webhooks add others to pods.
    #[serde(default)]
    pub containers: BTreeSet<String>,
    /// The state that must survive.
    pub inventory: Inventory,
    /// Whether Coder is scaled to zero first, with its companions, and how running builds are waited for.
    #[serde(default)]
    pub pause: Pause,
    /// What the plan foresees.
    #[serde(default)]
    pub forecast: Forecast,
    /// UIDs of the objects that a foreseen repair replaces, by Kind/name: another object of that name stays.
    #[serde(default)]
    pub replaced: BTreeMap<String, String>,
    /// The values from which the chart takes the numbers of replicas: what a person or an autoscaler has set is kept by them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicasSource>,
    /// What the checks found.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// What changes, for people.
    #[serde(default)]
    pub difference: Difference,
}

impl Plan {
    /// Version of Coder's chart: what a database is migrated by.
    #[must_use]
    pub fn coder_version(&self) -> &str {
        self.coder_version.as_deref().unwrap_or(&self.version)
    }

    /// The keys of its files. A first install has no release before it.
    pub fn files(&self) -> impl Iterator<Item = &'static str> {
        let first = self.from.is_none();
        key::ALL.into_iter().filter(move |key| !(first && *key == key::PREVIOUS_RELEASE))
    }
}

/// How Coder's work is interrupted for the change.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// Recreate: Coder's Deployments are scaled to zero before helm runs.
    pub strategy: Strategy,
    /// Deployments that are scaled to zero before those of Coder.
    #[serde(default)]
    pub companions: Vec<String>,
    /// How long running workspace builds are waited for, in seconds.
    #[serde(default)]
    pub quiesce_seconds: u64,
    /// Where the token lies with which Coder is asked for running builds and for its health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<DataRef>,
}

/// A plan for tests.
#[cfg(test)]
#[must_use]
pub fn sample() -> Plan {
    Plan {
        id: "0123456789ab".into(),
        release: "coder".into(),
        action: PlannedAction::Upgrade,
        line: ProductLine::V2,
        from: None,
        chart_name: "coder".into(),
        version: "2.31.7".into(),
        app_version: "2.31.7".into(),
        coder_version: None,
        chart_digest: "abc".into(),
        rollback_on_failure: false,
        adopt: false,
        workloads: vec![],
        objects: vec![],
        hooks: vec![],
        images: BTreeSet::new(),
        containers: BTreeSet::new(),
        inventory: Inventory::default(),
        pause: Pause::default(),
        forecast: Forecast::default(),
        replaced: BTreeMap::new(),
        replicas: vec![],
        findings: vec![],
        difference: Difference::default(),
    }
}
