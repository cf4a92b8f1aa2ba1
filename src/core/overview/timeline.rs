//! The steps of an attempt with their times.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::{CoderUpgradeSpec, Step, StepName, StepState};
use crate::core::text::duration::{elapsed, span};

/// A step of the attempt.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepLine {
    /// What is done.
    pub name: StepName,
    /// How far it is.
    pub state: StepState,
    /// How often it was begun in this attempt.
    #[serde(rename = "try")]
    pub try_number: i32,
    /// How long it took, or how long it runs by now.
    pub elapsed: String,
    /// How long helm may take, for a step that runs helm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// The Job that does it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub job: String,
    /// Progress while it runs, the result at the end.
    pub message: String,
}

/// The timeline.
pub fn steps(steps: &[Step], spec: &CoderUpgradeSpec, now: Timestamp) -> Vec<StepLine> {
    let timeout = || Some(span(spec.helm.timeout.into()));
    let line = |step: &Step| StepLine {
        name: step.name,
        state: step.state,
        try_number: step.try_number,
        elapsed: elapsed(step.started.0, step.finished.as_ref().map_or(now, |time| time.0)),
        timeout: timeout().filter(|_| step.name.changes()),
        job: step.job_name.clone(),
        message: step.message.clone(),
    };
    steps.iter().map(line).collect()
}

impl StepLine {
    /// Name, state, time and message as cells of a table.
    pub fn cells(&self) -> [String; 4] {
        let again = if self.try_number > 1 { format!(" ({})", self.try_number) } else { String::new() };
        let time = match &self.timeout {
            Some(timeout) if self.state == StepState::Running => format!("{}, helm's timeout {timeout}", self.elapsed),
            _ => self.elapsed.clone(),
        };
        [format!("{}{again}", self.name), self.state.to_string(), time, self.message.clone()]
    }
}
