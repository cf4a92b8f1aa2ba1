//! The workloads of a release and their pods.

use serde::{Deserialize, Serialize};

use crate::core::rollout::image::Image;
use crate::core::rollout::workload::{PodFacts, SERVERS, WorkloadFacts};
use crate::core::text::layout::bar;

/// Characters of a bar.
const BAR: usize = 20;

/// How far the pods of a workload are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutLine {
    /// The workload, as Kind/name.
    pub object: String,
    /// Pods that it shall have.
    pub desired: i32,
    /// Pods of the present template.
    pub updated: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods of older templates that are still there.
    pub old: i32,
}

/// A pod of the release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodLine {
    /// Name of the pod.
    pub name: String,
    /// Version that the tag of its image names, or its image.
    pub image: String,
    /// Whether it is ready, is ending, or what keeps it from being ready.
    pub state: String,
    /// How often its containers were started again.
    pub restarts: i32,
}

/// The workloads that have pods, or shall have some.
pub fn workloads(facts: &[WorkloadFacts]) -> Vec<RolloutLine> {
    let line = |facts: &WorkloadFacts| RolloutLine {
        object: facts.object.clone(),
        desired: facts.desired,
        // What its controller has not seen yet is about the old template.
        updated: if facts.observed { facts.updated } else { 0 },
        ready: facts.ready,
        old: facts.total - facts.updated,
    };
    let mut lines: Vec<RolloutLine> = facts.iter().map(line).collect();
    lines.sort_by(|a, b| a.object.cmp(&b.object));
    lines
}

/// The pods by name.
pub fn pods(facts: &[PodFacts]) -> Vec<PodLine> {
    let line = |pod: &PodFacts| {
        let server = pod.images.iter().find(|(name, _)| SERVERS.contains(&name.as_str())).or(pod.images.first());
        let image = server.map(|(_, image)| image.as_str()).unwrap_or_default();
        let state = match pod.trouble() {
            _ if pod.leaving => "is ending".to_owned(),
            _ if pod.ready => "is ready".to_owned(),
            Some(trouble) => trouble,
            None => pod.unready(),
        };
        let image = Image::of(image).version().map_or_else(|| image.to_owned(), |version| version.to_string());
        PodLine { name: pod.name.clone(), image, state, restarts: pod.restarts() }
    };
    let mut lines: Vec<PodLine> = facts.iter().map(line).collect();
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    lines
}

impl RolloutLine {
    /// Whether all pods are of the present template and ready.
    pub fn is_done(&self) -> bool {
        self.updated >= self.desired && self.ready >= self.desired && self.old <= 0
    }

    /// Object, bar and numbers as cells of a table.
    pub fn cells(&self) -> [String; 3] {
        let old = if self.old > 0 { format!(", {} old left", self.old) } else { String::new() };
        let numbers = format!("{} of {} pods updated, {} ready{old}", self.updated, self.desired, self.ready);
        // A pod counts when it is of the present template and ready; which of the ready ones are old is not told.
        [self.object.clone(), bar(self.updated.min(self.ready), self.desired, BAR), numbers]
    }
}

impl PodLine {
    /// Name, image and state as cells of a table.
    pub fn cells(&self) -> [String; 3] {
        let restarts = match self.restarts {
            0 => String::new(),
            1 => ", restarted once".to_owned(),
            times => format!(", restarted {times} times"),
        };
        [self.name.clone(), self.image.clone(), format!("{}{restarts}", self.state)]
    }
}
