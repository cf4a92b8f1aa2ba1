//! How long helm waits, and what it does when it has waited long enough.

use std::time::Duration;

use super::Facts;
use crate::api::{CheckName, Finding, ProductLine};

/// Coder's large migrations take four to seven minutes; after a quarter of an hour something is wrong.
const LARGE_MIGRATION: Duration = Duration::from_secs(10 * 60);

/// [`CheckName::HelmSettings`]
pub fn check(facts: &Facts) -> Vec<Finding> {
    if facts.newest.is_none() && facts.spec.takes_over() && facts.spec.helm.rollback_on_failure {
        let message = "helm will not roll back after a failure: it has no record of what is taken over, and a first install is rolled \
                       back by deleting it";
        let next = "Make a backup of the database before, and remove spec.helm.rollbackOnFailure.";
        return vec![Finding::warning(CheckName::HelmSettings, message, next).at("spec.helm.rollbackOnFailure")];
    }
    if !facts.runs_servers() || !facts.changes_version() || facts.line() != ProductLine::V2 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let timeout = Duration::from(facts.spec.helm.timeout);
    if timeout < LARGE_MIGRATION {
        let message = format!(
            "helm waits {} s, and a large migration of Coder's database takes minutes: helm would give up on an upgrade that goes well",
            timeout.as_secs()
        );
        let next = "Raise spec.helm.timeout to 15m or more.";
        found.push(Finding::warning(CheckName::HelmSettings, message, next).at("spec.helm.timeout"));
    }
    if facts.spec.helm.rollback_on_failure {
        let message = "helm would roll back after a failure even if the new version has migrated the database, which the old version then refuses to work on";
        let next =
            "Leave spec.helm.rollbackOnFailure off: the operator itself restores the saved release where that is safe.";
        found.push(Finding::warning(CheckName::HelmSettings, message, next).at("spec.helm.rollbackOnFailure"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::plan::checks::sample;

    #[test]
    fn an_impatient_helm_and_one_that_rolls_back_are_told() {
        let mut facts = sample::facts("2.30.0", "2.31.7");
        assert!(check(&facts).is_empty(), "the defaults are well");
        facts.spec.helm.timeout = Duration::from_secs(300).into();
        facts.spec.helm.rollback_on_failure = true;
        let fields: Vec<_> = check(&facts).into_iter().map(|finding| finding.field.unwrap()).collect();
        assert_eq!(fields, ["spec.helm.timeout", "spec.helm.rollbackOnFailure"]);
        let mut first = facts.clone();
        (first.newest, first.spec.adopt) = (None, true);
        assert!(check(&first)[0].message.contains("will not roll back"), "not even for Coder Classic");
        let mut classic = sample::facts("1.43.0", "1.44.3");
        classic.spec.helm = facts.spec.helm;
        assert!(check(&classic).is_empty(), "helm's atomic mode is what the guide of Coder Classic asks for");
    }
}
