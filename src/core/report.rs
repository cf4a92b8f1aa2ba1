//! What the runner says to the controller: one JSON document in an annotation of the runner's own Job.
//!
//! It never holds values of the release: it is cleaned where it is written, whatever it is made of.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rights;
use super::text::redact::{head, tail};
use super::text::{bounded, display};
use crate::api::{
    AddressChange, BackupRecord, ClaimStatus, Exposure, FailureClass, Finding, Installed, PlanSummary, Remedy, Repair,
    ScaledDown, Target, WaitingFor, WorkloadMark,
};

/// Greatest length of [`Problem::message`] and [`Problem::excerpt`] in bytes. All annotations of an object together may
/// take 256 KiB, and status keeps these texts too.
pub const TEXT_LIMIT: usize = 4096;

/// Greatest length of a report in bytes. What it holds goes on into a status, which with all else must stay below the
/// 1.5 MiB that the API server can store.
pub const LIMIT: usize = 128 * 1024;
/// Most items of a list in a report.
const ITEMS: usize = 256;
/// Greatest length of a line of progress and of [`Repair::message`], in bytes.
pub const LINE_LIMIT: usize = 512;

/// Progress while a step runs; its outcome at the end.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub struct Report {
    /// One line for people, for example "Deployment/coder: 1 of 3 pods updated".
    #[serde(default)]
    pub progress: String,
    /// The part of the step that is under way.
    #[serde(default)]
    pub activity: Activity,
    /// What was repaired, each written before it was begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<Repair>,
    /// A pod of the new version may have started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub started: bool,
    /// The step has left workloads of the new version behind, of which a pod may start later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_start: bool,
    /// helm was started with a command that changes the release. Written before it is started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub helm_started: bool,
    /// Workloads that are scaled to zero now, each written before it is done and taken out once its replicas are back; none
    /// while the step has not come to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled_down: Option<Vec<ScaledDown>>,
    /// Set once, as the last thing the runner does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// The part of a step that is under way. Each but the first has a phase of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Activity {
    /// What the step is named after.
    #[default]
    Working,
    /// A repair is being made.
    Repairing,
    /// helm has succeeded and the pods are being asked.
    Verifying,
}

impl Report {
    /// Reads what stands in the annotation. It may be anything: whoever may change the Job may write it. The error is the
    /// end of a sentence that begins with the annotation.
    pub fn read(written: &str) -> Result<Self, String> {
        if written.is_empty() {
            return Ok(Self::default());
        }
        if written.len() > LIMIT {
            let (size, limit) = (bounded::size(written.len()), bounded::size(LIMIT));
            return Err(format!("takes {size} of at most {limit}"));
        }
        let mut value: Value = bounded::json(written.as_bytes()).map_err(|why| why.to_string())?;
        if !value.is_object() {
            return Err("is no report of a runner: it is no map".to_owned());
        }
        display::trim(&mut value, ITEMS, TEXT_LIMIT);
        let report: Self = serde_json::from_value(value).map_err(|e| format!("is no report of a runner: {e}"))?;
        match report.scaled_down.iter().flatten().find(|down| down.replicas < 0) {
            Some(down) => Err(format!("says that {} had {} replicas", down.object, down.replicas)),
            None => Ok(report),
        }
    }

    /// The report as it is written into the annotation: readable, and within the limits.
    pub fn written(&self) -> serde_json::Result<String> {
        let mut value = serde_json::to_value(self)?;
        let mut written = String::new();
        // Lists and texts are cut only as far as needed.
        for (most, longest) in [(ITEMS, TEXT_LIMIT), (64, 1024), (16, 512)] {
            display::trim(&mut value, most, longest);
            written = value.to_string();
            if written.len() <= LIMIT {
                break;
            }
        }
        Ok(written)
    }

    /// The report with its texts cut to their limits. They must be clean by then: half a secret is not recognised as one.
    #[must_use]
    pub fn limited(mut self) -> Self {
        self.progress = head(&self.progress, LINE_LIMIT);
        for repair in &mut self.repairs {
            repair.message = head(&repair.message, LINE_LIMIT);
        }
        if let Some(Outcome::Failed(problem)) = &mut self.outcome {
            problem.message = head(&problem.message, TEXT_LIMIT);
            problem.excerpt = problem.excerpt.as_ref().map(|text| tail(text, TEXT_LIMIT));
        }
        self
    }
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The plan is made and saved. If it says that nothing is to be done, what runs was verified as well.
    Planned(Box<PlanReport>),
    /// What spec.backup asks for is backed up.
    BackedUp(BackupRecord),
    /// The release is at the target and was verified.
    Upgraded(Upgraded),
    /// The release is uninstalled, with its records kept.
    Uninstalled(Uninstalled),
    /// The saved release is back, and runs.
    Restored(Upgraded),
    /// The step failed.
    Failed(Problem),
}

/// The plan that was made.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanReport {
    /// The plan in short.
    pub plan: PlanSummary,
    /// The installed release; none for a first install.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Installed>,
    /// The wanted version.
    pub target: Target,
    /// The claims of the release.
    #[serde(default)]
    pub claims: Vec<ClaimStatus>,
    /// `LoadBalancer` Services and Ingresses of the release.
    #[serde(default)]
    pub exposures: Vec<Exposure>,
    /// What the checks found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The workloads of the release as they were verified, if nothing is to be done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadMark>,
}

/// The upgrade that was made and verified.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Upgraded {
    /// The release as it is now.
    pub current: Installed,
    /// What was verified, as a line for people: "2 pods answer 2.31.7, same deployment".
    pub verified: String,
    /// The claims of the release, checked against the plan.
    #[serde(default)]
    pub claims: Vec<ClaimStatus>,
    /// `LoadBalancer` Services and Ingresses of the release.
    #[serde(default)]
    pub exposures: Vec<Exposure>,
    /// Addresses that are not what the plan found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address_changes: Vec<AddressChange>,
    /// The workloads of the release as they were verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadMark>,
}

/// The release that was uninstalled.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Uninstalled {
    /// The newest record of the release.
    pub current: Installed,
    /// What helm keeps for the install that follows, as Kind/name.
    #[serde(default)]
    pub kept: Vec<String>,
    /// Objects of the release that are still being deleted, and pods that still hold a volume of it.
    #[serde(default)]
    pub leftovers: Vec<WaitingFor>,
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Class of the failure.
    pub class: FailureClass,
    /// Object that it is about, as Kind/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Field that it is about: of the `CoderUpgrade` (spec.version) or of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What happened, in the words of helm or of the API server where they said it; at most [`TEXT_LIMIT`] bytes.
    pub message: String,
    /// Lines of a pod's log that explain it; at most [`TEXT_LIMIT`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
    /// Whether helm's records of the release were changed by this step. Only such failures count against the limit.
    #[serde(default)]
    pub changed: bool,
    /// Every object that the newest record of the release names exists and is not being deleted, and the record does not
    /// speak of an uninstall. Only what was looked at counts: false if it could not be found out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// What could cure it beyond what the step has done: the smallest remedy that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Remedy>,
    /// What the checks found, if the plan was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// The release as the step left it, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Installed>,
    /// The message says which right the runner lacks, and not yet how it is granted.
    #[serde(skip)]
    pub lacks_right: bool,
}

impl Problem {
    /// A problem of which only the class and the words are known, with the field that goes with the class.
    #[must_use]
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self {
            class,
            object: None,
            field: class.field().map(ToOwned::to_owned),
            message: message.into(),
            excerpt: None,
            changed: false,
            whole: false,
            remedy: None,
            findings: Vec::new(),
            current: None,
            lacks_right: false,
        }
    }

    /// The same, about an object (Kind/name).
    #[must_use]
    pub fn object(self, object: impl Into<String>) -> Self {
        Self { object: Some(object.into()), ..self }
    }

    /// The same, about a field.
    #[must_use]
    pub fn field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// The same with the command that grants what the runner lacks, if that is the problem.
    #[must_use]
    pub fn with_command(self, namespace: &str, upgrade: &str) -> Self {
        if !self.lacks_right {
            return self;
        }
        let message = rights::with_command(&self.message, namespace, upgrade);
        Self { message, lacks_right: false, ..self }
    }

    /// For `Err`: a problem is large, and results mostly are not problems.
    #[must_use]
    pub fn boxed(self) -> Box<Self> {
        Box::new(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn failed(message: &str) -> Report {
        let outcome = Outcome::Failed(Problem::new(FailureClass::Unknown, message));
        Report { outcome: Some(outcome), ..Report::default() }
    }

    #[rstest]
    #[case::no_json("{", "is not the expected JSON")]
    #[case::another_type("[]", "is no report of a runner")]
    #[case::a_wrong_field(r#"{"progress": 7}"#, "is no report of a runner")]
    #[case::an_unknown_outcome(r#"{"outcome": {"won": {}}}"#, "is no report of a runner")]
    #[case::a_deep_one(&format!("{{\"progress\": {}{}}}", "[".repeat(5000), "]".repeat(5000)), "recursion limit")]
    #[case::a_long_one(&" ".repeat(LIMIT + 1), "takes 129 KiB of at most 128 KiB")]
    #[case::less_than_none(r#"{"scaledDown": [{"object": "Deployment/coder", "replicas": -3}]}"#, "had -3 replicas")]
    #[case::a_time_that_is_none(
        r#"{"repairs": [{"remedy": "Replace", "object": "a", "message": "", "time": "99999-01-01T00:00:00Z"}]}"#,
        "is no report"
    )]
    fn what_is_no_report_says_why(#[case] written: &str, #[case] why: &str) {
        let error = Report::read(written).unwrap_err();
        assert!(error.contains(why) && error.len() < 500, "{error}");
    }

    #[test]
    fn what_is_read_is_readable_and_bounded() {
        let written = json!({"progress": "\u{1b}[31mred\u{0}", "repairs": vec![json!(
            {"remedy": "Replace", "object": "x".repeat(9000), "message": "", "time": "2026-01-01T00:00:00Z"}); 5]});
        let report = Report::read(&written.to_string()).unwrap();
        assert_eq!(report.progress, "red");
        assert!(report.repairs.iter().all(|repair| repair.object.len() == TEXT_LIMIT));
        assert_eq!(Report::read("").unwrap(), Report::default(), "there is none yet");
    }

    #[test]
    fn what_is_written_fits_and_can_be_read() {
        let findings = vec![Finding::warning(crate::api::CheckName::Quota, "m".repeat(3000), "n"); 400];
        let problem = Problem { findings, ..Problem::new(FailureClass::CheckRefused, "why\u{1b}[1m") };
        let report = Report { outcome: Some(Outcome::Failed(problem)), ..Report::default() };
        let written = report.written().unwrap();
        assert!(written.len() <= LIMIT, "{}", written.len());
        let Some(Outcome::Failed(read)) = Report::read(&written).unwrap().outcome else { panic!("{written}") };
        assert_eq!((read.message.as_str(), read.findings.len()), ("why", 64));
        let small = failed("as it is");
        assert_eq!(Report::read(&small.written().unwrap()).unwrap(), small);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>(), near in "[\\[\\]{}:,\"a-zA-Z0-9. -]{0,80}") {
            let _ = Report::read(&text);
            let _ = Report::read(&near);
            let written = failed(&text.repeat(50)).written().unwrap();
            prop_assert!(written.len() <= LIMIT && Report::read(&written).is_ok());
        }
    }
}
