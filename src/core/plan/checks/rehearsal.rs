//! What the API server would refuse.

use super::{Facts, Foreseen, class};
use crate::api::{CheckName, FailureClass, Finding};
use crate::core::helm::failures::Cause;
use crate::core::plan::rehearsal::only_scaled;
use crate::core::repair::escalation;
use crate::core::report::Problem;
use crate::core::rights::with_command;

/// What a person does whose number of replicas is not the chart's.
const SCALED: &str = "Scale the object that the message names to the number that the values ask for (kubectl scale), or ask for the number that it has in spec.values; then set the annotation coderupgrade.dev/requested-at to a new value.";

/// [`CheckName::Rehearsal`], and those checks whose subject a refusal is: quotas, rights, versions.
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    foreseen.rehearsal.refusals.iter().map(|cause| finding(facts, cause)).collect()
}

/// The finding about what kept helm from even beginning, if it is the subject of a check.
pub fn barred(problem: &Problem) -> Option<Finding> {
    let check = subject(problem.class).filter(|_| problem.findings.is_empty())?;
    let finding = Finding::refusal(check, &problem.message, problem.class.next_step());
    Some(Finding { object: problem.object.clone(), field: problem.field.clone(), ..finding })
}

/// The check whose subject a refusal of this class is.
fn subject(class: FailureClass) -> Option<CheckName> {
    match class {
        FailureClass::Forbidden => Some(CheckName::RunnerRights),
        FailureClass::QuotaExceeded => Some(CheckName::Quota),
        FailureClass::Incompatible => Some(CheckName::KubeVersion),
        FailureClass::ApiRemoved => Some(CheckName::ApiVersions),
        _ => None,
    }
}

fn finding(facts: &Facts, cause: &Cause) -> Finding {
    let class = escalation::class_of(cause);
    let check = subject(class).unwrap_or(CheckName::Rehearsal);
    let words = match &cause.lacking {
        Some(lacking) if lacking.by_account() => with_command(&words(cause), &facts.namespace, &facts.upgrade),
        _ => words(cause),
    };
    let next_step = if class == FailureClass::FieldConflict && only_scaled(cause) { SCALED } else { class.next_step() };
    let finding = Finding::refusal(check, words, next_step);
    Finding { object: cause.object.as_ref().map(ToString::to_string), field: cause.field.clone(), ..finding }
}

fn words(cause: &Cause) -> String {
    format!("helm would be refused: {}", cause.message)
}

/// The class of the refusal that led to a finding; none if no refusal did.
pub fn class_of(found: &Finding, foreseen: Option<&Foreseen>) -> Option<FailureClass> {
    let causes = &foreseen?.rehearsal.refusals;
    let cause = causes.iter().find(|cause| found.message.starts_with(&words(cause)))?;
    let known = escalation::class_of(cause);
    Some(if known == FailureClass::Unknown { class(found.check) } else { known })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::core::object::KindName;
    use crate::core::plan::checks::{refused, run, sample};

    #[rstest]
    #[case(Some(FailureClass::PolicyDenied), CheckName::Rehearsal, FailureClass::PolicyDenied)]
    #[case(Some(FailureClass::QuotaExceeded), CheckName::Quota, FailureClass::QuotaExceeded)]
    #[case(Some(FailureClass::Forbidden), CheckName::RunnerRights, FailureClass::Forbidden)]
    #[case(None, CheckName::Rehearsal, FailureClass::CheckRefused)]
    fn refusals_keep_their_class(
        #[case] known: Option<FailureClass>,
        #[case] check: CheckName,
        #[case] expected: FailureClass,
    ) {
        let cause = Cause {
            class: known,
            object: KindName::read("Deployment/coder"),
            field: Some("spec.replicas".into()),
            message: "no".into(),
            ..Cause::default()
        };
        let mut foreseen = sample::foreseen();
        foreseen.rehearsal.refusals = vec![cause];
        let findings = run(&sample::facts("2.30.0", "2.31.7"), Some(&foreseen));
        let problem = refused(&findings, Some(&foreseen)).unwrap();
        assert_eq!((problem.class, findings[0].check), (expected, check));
        assert_eq!(
            (problem.object.as_deref(), problem.field.as_deref()),
            (Some("Deployment/coder"), Some("spec.replicas"))
        );
        assert_eq!(problem.findings, findings);
    }
}
