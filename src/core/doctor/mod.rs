//! What an installation of the operator lacks: each line a finding, and what to do about it.

mod controller;
mod definition;
mod pod;
mod runner;

#[cfg(test)]
mod tests;

use std::fmt::Write;

use serde::{Deserialize, Serialize};

pub use self::controller::{ConfigMapKey, authorities, controller, outbound, runner_image};
pub use self::definition::definition;
pub use self::pod::{TrialEnd, trial, trial_lines};
pub use self::runner::{person, runner};
use crate::core::text::layout::table;

/// How a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Grade {
    /// It is as it should be.
    Ok,
    /// Worth knowing, or it could not be told.
    Note,
    /// Something does not work.
    Problem,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DoctorLine {
    /// How it weighs.
    pub grade: Grade,
    /// What was looked at.
    pub subject: String,
    /// What was found.
    pub finding: String,
    /// What a person can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl DoctorLine {
    /// It is as it should be.
    pub fn ok(subject: &str, finding: impl Into<String>) -> Self {
        Self { grade: Grade::Ok, subject: subject.into(), finding: finding.into(), remedy: None }
    }

    /// Worth knowing.
    pub fn note(subject: &str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Note, remedy: Some(remedy.into()), ..Self::ok(subject, finding) }
    }

    /// Something does not work.
    pub fn problem(subject: &str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Problem, remedy: Some(remedy.into()), ..Self::ok(subject, finding) }
    }
}

/// The findings as a person reads them.
#[must_use]
pub fn text(lines: &[DoctorLine]) -> String {
    let cells = |line: &DoctorLine| [line.grade.to_string(), line.subject.clone(), line.finding.clone()];
    let rows = table(&lines.iter().map(cells).collect::<Vec<_>>());
    let mut text = String::new();
    for (row, line) in rows.iter().zip(lines) {
        text.push_str(row);
        text.push('\n');
        for remedy in line.remedy.iter().filter(|remedy| !remedy.is_empty()) {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "         next: {remedy}");
        }
    }
    text
}

/// The exit code: 2 if something does not work.
#[must_use]
pub fn exit_code(lines: &[DoctorLine]) -> u8 {
    if lines.iter().any(|line| line.grade == Grade::Problem) { 2 } else { 0 }
}
