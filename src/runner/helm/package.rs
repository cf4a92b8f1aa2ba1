//! A chart with its values, as helm brings it into the cluster.

use std::{collections::BTreeSet, path::Path, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    api::{Recovery, Strategy},
    core::{helm::workload::Workload, object::ObjectRef, plan::Plan},
};

/// What is brought into the cluster.
#[derive(Clone, Debug)]
pub struct Package<'a> {
    /// What it is, for people: "2.31.7".
    pub version: &'a str,
    /// The chart: an archive or a directory.
    pub chart: &'a Path,
    /// All values, in one file.
    pub values: &'a Path,
    /// It is the release that the plan saved, restored: the record says so.
    pub restores: bool,
    /// The objects of the chart, if the release was uninstalled before: what is still going away must be gone first. helm
    /// would apply the chart to such an object and say that all is well, and then the object would go.
    pub recreated: Vec<ObjectRef>,
    /// How long helm waits for the objects.
    pub timeout: Duration,
    /// Whether helm rolls back by itself after a failure.
    pub rollback_on_failure: bool,
    /// How far a refusal may be repaired.
    pub recovery: Recovery,
    /// The workloads of the chart.
    pub workloads: &'a [Workload],
    /// Running builds are waited for and, with strategy Recreate, Coder is stopped before anything is changed.
    pub pauses: bool,
    /// Images of the old version: a pod with another one may migrate the database. None if that does not matter, because
    /// this is the old version.
    pub old_images: Option<BTreeSet<String>>,
    /// helm is stopped, and nothing is repaired any more, once this is cancelled.
    pub halt: CancellationToken,
}

impl Package<'_> {
    /// Whether no pod of Coder runs while this is brought into the cluster.
    pub fn is_down(&self, plan: &Plan) -> bool {
        self.pauses && plan.pause.strategy == Strategy::Recreate
    }
}
