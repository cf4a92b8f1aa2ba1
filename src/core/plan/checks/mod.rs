//! What is checked before anything changes.
//!
//! One ordered chain of pure functions over the gathered facts. A check that passes says nothing. A refusal keeps the change
//! from beginning, unless `spec.overrides` names its check; then it stands in the status all the same.

mod address;
mod answers;
mod api_versions;
mod autoscaler;
mod backup;
mod claims;
mod companions;
mod database;
mod downgrade;
mod environment;
mod existing;
mod external_database;
mod facts;
mod helm_settings;
mod image_pin;
mod kube_version;
mod line;
mod manager;
mod null_values;
pub mod order;
mod paths;
mod pending;
mod pods;
mod post_renderer;
mod probe;
mod quota;
mod rehearsal;
mod removed_values;
mod replicas;
mod resources;
pub(crate) mod rights;
mod rollout;
#[cfg(test)]
mod sample;
mod satellite;
mod schedulable;
#[cfg(test)]
mod tests;
mod unreadable;

pub(crate) use api_versions::unmatched;
pub(crate) use database::environment_sources;
pub(crate) use facts::{Facts, Foreseen, Mark, Surroundings};
pub(crate) use line::line_of;
pub(crate) use post_renderer::patched;
pub(crate) use rehearsal::barred;
pub(crate) use removed_values::check as removed_values;

use crate::api::{CheckName, FailureClass, Finding, Severity};
use crate::core::report::Problem;

/// Most findings that are reported: they stand in an annotation of the Job and in the status.
const MOST: usize = 64;

/// Checks that need nothing but what is installed and runs: a wrong chart is not even rendered.
const BEFORE: &[fn(&Facts) -> Vec<Finding>] = &[
    line::check,
    downgrade::check,
    path,
    manager::check,
    answers::check,
    pending::check,
    kube_version::check,
    backup::check,
    helm_settings::check,
    null_values::check,
];

/// Checks that need what rendering and rehearsal have shown.
const FORESEEN: &[fn(&Facts, &Foreseen) -> Vec<Finding>] = &[
    existing::check,
    manager::foreseen,
    unreadable::check,
    post_renderer::check,
    image_pin::check,
    removed_values::foreseen,
    database::check,
    external_database::check,
    environment::check,
    rehearsal::check,
    rights::check,
    api_versions::check,
    claims::health,
    claims::in_manifest,
    satellite::check,
    address::check,
    quota::check,
    schedulable::check,
    replicas::check,
    replicas::scaled,
    rollout::check,
    probe::check,
    autoscaler::check,
    companions::check,
];

/// What the rules of the way say; they were applied when the chart was chosen.
fn path(facts: &Facts) -> Vec<Finding> {
    facts.path.clone()
}

/// Goes through the chain: all findings, refusals first, and the worst first. Without `foreseen` only
/// those checks are made that need nothing of it.
#[must_use]
pub fn run(facts: &Facts, foreseen: Option<&Foreseen>) -> Vec<Finding> {
    let before = BEFORE.iter().flat_map(|check| check(facts));
    let foreseen = foreseen.into_iter().flat_map(|foreseen| FORESEEN.iter().flat_map(|check| check(facts, foreseen)));
    judged(before.chain(foreseen).collect(), &facts.spec.overrides)
}

/// The findings with what was overridden, in the order in which they are shown.
#[must_use]
pub fn judged(mut findings: Vec<Finding>, overrides: &[CheckName]) -> Vec<Finding> {
    for finding in &mut findings {
        if finding.severity == Severity::Refusal && overrides.contains(&finding.check) {
            finding.severity = Severity::Overridden;
        }
    }
    order::sort(&mut findings);
    findings.truncate(MOST);
    findings
}

/// The problem that ends the plan, if a check refuses it: the worst refusal, with the names of the others.
#[must_use]
pub fn refused(findings: &[Finding], foreseen: Option<&Foreseen>) -> Option<Box<Problem>> {
    let first = findings.first().filter(|finding| finding.severity == Severity::Refusal)?;
    let message = format!("{}{}", first.message, order::others(findings));
    let class = rehearsal::class_of(first, foreseen).unwrap_or_else(|| class(first.check));
    let problem = Problem::new(class, message);
    Some(
        Problem { object: first.object.clone(), field: first.field.clone(), findings: findings.to_vec(), ..problem }
            .boxed(),
    )
}

/// The class of a failure that a refusal of this check is.
#[must_use]
pub fn class(check: CheckName) -> FailureClass {
    match check {
        CheckName::ProductLine => FailureClass::ProductLineChanged,
        CheckName::Downgrade => FailureClass::Downgrade,
        CheckName::ReleaseManager => FailureClass::ManagedElsewhere,
        CheckName::ReleaseRecords => FailureClass::ReleaseMissing,
        CheckName::ReleasePending => FailureClass::ReleaseLocked,
        CheckName::KubeVersion => FailureClass::Incompatible,
        CheckName::RunnerRights => FailureClass::Forbidden,
        CheckName::Quota => FailureClass::QuotaExceeded,
        CheckName::DataOwners => FailureClass::DataAtRisk,
        _ => FailureClass::CheckRefused,
    }
}
