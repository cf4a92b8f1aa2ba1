//! Nulls of the values that never came to the API server.

use super::Facts;
use crate::api::{CheckName, Finding};

/// [`CheckName::NullValues`]
pub fn check(facts: &Facts) -> Vec<Finding> {
    let dropped = |path: &&String| facts.spec.drop_defaults.iter().any(|dropped| dropped == *path);
    let lost = facts.lost_nulls.iter().filter(|path| !dropped(path));
    let finding = |path: &String| {
        let message = format!(
            "spec.values.{path} was null when kubectl applied this object, and is not there any more: kubectl apply removes \
             nulls, so the default of the chart, or the kept value, would be used"
        );
        let next = format!(
            "Add {path} to spec.dropDefaults, which does the same; or apply the object with kubectl apply --server-side, \
             which keeps nulls."
        );
        Finding::refusal(CheckName::NullValues, message, next).at(format!("spec.values.{path}"))
    };
    lost.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::plan::checks::sample;

    #[test]
    fn each_null_that_was_lost_is_named_until_it_is_declared_otherwise() {
        let mut facts = sample::facts("2.30.0", "2.31.7");
        sample::finds(&check(&facts), None);
        facts.lost_nulls = vec!["coder.replicaCount".into()];
        sample::finds(&check(&facts), Some("spec.values.coder.replicaCount was null when kubectl applied"));
        facts.spec.drop_defaults = vec!["coder.replicaCount".into()];
        sample::finds(&check(&facts), None);
    }
}
