//! What an upgrade would do, for people before a change window and for pipelines.

mod changes;
mod gates;
mod markdown;
mod sections;
mod text;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

pub use self::gates::GatePreview;
pub(crate) use self::sections::{about, address, check, claim, counts, interruption, repair};
use super::Plan;
use super::checks::order;
use super::difference::{ChangeKind, Difference};
use crate::api::{
    ClaimStatus, CoderUpgrade, Exposure, FailureClass, Finding, Forecast, Installed, PlannedAction, ProductLine,
    Severity,
};
use crate::core::gates::dependencies::Sibling;
use crate::core::report::Problem;
use crate::core::rollout::inventory::Answer;

/// What follows from the plan, and the exit code of the command that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, strum::Display)]
pub enum Verdict {
    /// Nothing is to be done.
    UpToDate,
    /// Changes are planned, and nobody needs to allow them.
    Changes,
    /// Changes are planned, and a person must allow them.
    NeedsApproval,
    /// The operator would refuse to begin.
    Refused,
}

impl Verdict {
    /// The exit code. 1 is for plans that cannot be made.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::UpToDate => 0,
            Self::Changes => 2,
            Self::NeedsApproval => 3,
            Self::Refused => 4,
        }
    }
}

/// Around which the plan was made.
#[derive(Clone, Copy, Debug)]
pub struct PreviewInput<'a> {
    /// The declaration, with its defaults.
    pub upgrade: &'a CoderUpgrade,
    /// Digest of what it asks for.
    pub request: &'a str,
    /// Namespace of the release.
    pub namespace: &'a str,
    /// The other `CoderUpgrades` of the namespace.
    pub siblings: &'a [Sibling],
    /// Another one that is for the same release.
    pub claimed_by: Option<&'a str>,
    /// The present time.
    pub now: Timestamp,
}

/// What an upgrade would do.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// What follows.
    pub verdict: Verdict,
    /// The same in a sentence.
    pub summary: String,
    /// Name of the `CoderUpgrade`.
    pub upgrade: String,
    /// Namespace of the release.
    pub namespace: String,
    /// Name of the Helm release.
    pub release: String,
    /// The plan; none if it was refused before it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanPreview>,
    /// Why no plan was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<PlanRefusal>,
    /// What the checks found, refusals first.
    pub checks: Vec<Finding>,
    /// What must be so before the change begins.
    pub gates: Vec<GatePreview>,
    /// The command that allows what a person must allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve: Option<String>,
}

/// The plan, as far as people ask for it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanPreview {
    /// Id of the plan: the same that the operator finds as long as nothing changes.
    pub id: String,
    /// What would be done to the release.
    pub action: PlannedAction,
    /// Product line of the chart.
    pub line: ProductLine,
    /// What is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Installed>,
    /// What each Coder server answered.
    pub answers: Vec<Answer>,
    /// Version of the chart that this plan leads to.
    pub to: String,
    /// Version of Coder that the chart names.
    pub app_version: String,
    /// SHA-256 of the packaged chart, in hex.
    pub chart_digest: String,
    /// What it foresees.
    #[serde(flatten)]
    pub forecast: Forecast,
    /// What it changes.
    pub changes: Difference,
    /// The claims of the release.
    pub persistent_volume_claims: Vec<ClaimStatus>,
    /// `LoadBalancer` Services and Ingresses of the release.
    pub addresses: Vec<Exposure>,
}

/// Why no plan was made, and what a person can do.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanRefusal {
    /// Class of the failure that the operator would report.
    pub class: FailureClass,
    /// Object that it is about, as Kind/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Field that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What was found.
    pub message: String,
    /// What a person can do.
    pub next_step: String,
}

impl Preview {
    /// What a plan means.
    pub fn of(plan: Plan, around: &PreviewInput<'_>) -> Self {
        let checks = plan.findings.clone();
        let refusing = checks.iter().find(|finding| finding.severity == Severity::Refusal);
        let approval = gates::command(&plan, around);
        let (verdict, summary) = match refusing {
            Some(finding) => {
                let others = order::others(&checks);
                (Verdict::Refused, format!("Refused by the check {}: {}{others}", finding.check, finding.message))
            }
            None if plan.action == PlannedAction::Nothing => {
                (Verdict::UpToDate, format!("Coder {} runs already, with these values: nothing to do.", plan.version))
            }
            None if approval.is_some() => {
                (Verdict::NeedsApproval, format!("{} It waits for an approval.", intent(&plan)))
            }
            None => (Verdict::Changes, intent(&plan)),
        };
        let (gates, approve) = match verdict {
            Verdict::UpToDate => (Vec::new(), None),
            Verdict::Refused => (gates::list(&plan, around), None),
            _ => (gates::list(&plan, around), approval),
        };
        Self { approve, gates, checks, plan: Some(plan.into()), ..Self::empty(verdict, summary, around) }
    }

    /// What the operator would refuse to plan.
    pub fn refused(problem: Problem, around: &PreviewInput<'_>) -> Self {
        let Problem { class, object, field, message, findings, .. } = problem;
        let summary = format!("Refused ({class}): {message}");
        let refusal = PlanRefusal { class, object, field, message, next_step: class.next_step().to_owned() };
        Self { checks: findings, refusal: Some(refusal), ..Self::empty(Verdict::Refused, summary, around) }
    }

    fn empty(verdict: Verdict, summary: String, around: &PreviewInput<'_>) -> Self {
        Self {
            verdict,
            summary,
            upgrade: around.upgrade.name_any(),
            namespace: around.namespace.to_owned(),
            release: around.upgrade.spec.release.clone(),
            plan: None,
            refusal: None,
            checks: Vec::new(),
            gates: Vec::new(),
            approve: None,
        }
    }

    /// As a person reads it at a terminal.
    pub fn text(&self) -> String {
        text::render(self)
    }

    /// As a comment on a pull request.
    pub fn markdown(&self) -> String {
        markdown::render(self)
    }
}

/// Whether the operator would refuse what this problem is about. Otherwise the plan could not be made: something could not
/// be reached or read, and the next try may go better.
pub fn is_refusal(problem: &Problem) -> bool {
    let class = problem.class;
    let unreadable = matches!(class, FailureClass::Forbidden | FailureClass::Unknown);
    !problem.findings.is_empty() || class == FailureClass::ReleaseLocked || !class.retryable() && !unreadable
}

fn intent(plan: &Plan) -> String {
    match &plan.from {
        Some(from) if from.version == plan.version => format!("Upgrade {} with other values.", plan.version),
        Some(from) => format!("Upgrade from {} to {}.", from.version, plan.version),
        None if takes_over(&plan.difference, &plan.inventory.answers) => {
            format!("Install {} over what runs, of which helm has no record.", plan.version)
        }
        None => format!("Install {}.", plan.version),
    }
}

impl PlanPreview {
    /// Whether something runs, or exists, of which helm has no record.
    pub fn takes_over(&self) -> bool {
        self.from.is_none() && takes_over(&self.changes, &self.answers)
    }
}

fn takes_over(changes: &Difference, answers: &[Answer]) -> bool {
    !answers.is_empty() || changes.objects.iter().any(|object| object.kind != ChangeKind::Added)
}

impl From<Plan> for PlanPreview {
    fn from(plan: Plan) -> Self {
        Self {
            id: plan.id,
            action: plan.action,
            line: plan.line,
            from: plan.from,
            answers: plan.inventory.answers,
            to: plan.version,
            app_version: plan.app_version,
            chart_digest: plan.chart_digest,
            forecast: plan.forecast,
            changes: plan.difference,
            persistent_volume_claims: plan.inventory.claims,
            addresses: plan.inventory.exposures,
        }
    }
}
