//! How findings weigh, and the refusal that they come to.

use super::report::Problem;
use crate::api::{CheckName, FailureClass, Finding, Severity};

/// The findings, with those refusals overridden whose check is named.
#[must_use]
pub fn weighed(findings: Vec<Finding>, overrides: &[CheckName]) -> Vec<Finding> {
    let weigh = |finding: Finding| match finding.severity {
        Severity::Refusal if overrides.contains(&finding.check) => {
            Finding { severity: Severity::Overridden, ..finding }
        }
        _ => finding,
    };
    findings.into_iter().map(weigh).collect()
}

/// What is to be said if one of the findings refuses the plan: about the first that does, with all of them beside it.
#[must_use]
pub fn refusal(findings: &[Finding]) -> Option<Problem> {
    let refusals: Vec<&Finding> = findings.iter().filter(|finding| finding.severity == Severity::Refusal).collect();
    let first = refusals.first()?;
    let message = refusals.iter().map(|finding| format!("{}: {}", finding.check, finding.message));
    let message = message.collect::<Vec<_>>().join("; ");
    Some(Problem {
        object: first.object.clone(),
        field: first.field.clone(),
        findings: findings.to_vec(),
        ..Problem::new(FailureClass::CheckRefused, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: CheckName, severity: Severity) -> Finding {
        let (message, next_step) = (format!("about {check}"), String::new());
        Finding { check, severity, object: None, field: Some("spec.version".into()), message, next_step }
    }

    #[test]
    fn each_refusal_is_overridden_by_its_own_name_only() {
        let found = || {
            vec![
                finding(CheckName::VersionPath, Severity::Warning),
                finding(CheckName::FaultyVersion, Severity::Refusal),
                finding(CheckName::SchemaOverlap, Severity::Refusal),
            ]
        };
        let weighed_with = |overrides: &[CheckName]| weighed(found(), overrides);
        let refused = refusal(&weighed_with(&[CheckName::FaultyVersion])).unwrap();
        assert_eq!(
            (refused.class, refused.message.as_str()),
            (FailureClass::CheckRefused, "SchemaOverlap: about SchemaOverlap")
        );
        assert_eq!(refused.findings.len(), 3);
        let all = [CheckName::VersionPath, CheckName::FaultyVersion, CheckName::SchemaOverlap];
        assert_eq!(refusal(&weighed_with(&all)), None);
        assert_eq!(weighed_with(&all)[0].severity, Severity::Warning);
    }
}
