//! What an earlier change has left of the release.

use super::Facts;
use crate::api::{CheckName, Finding};

/// [`CheckName::ReleasePending`]; a lock that another helm process may still hold refuses the plan before the checks are made.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let Some(newest) = &facts.newest else { return Vec::new() };
    let left = newest.status.starts_with("pending-") || newest.status == "uninstalling";
    if !left {
        return Vec::new();
    }
    let message = format!(
        "revision {} of the release is {}: a helm process is at work on it, or was ended before it was done",
        newest.revision, newest.status
    );
    let next = "If the change waits for an approval: find out whether a helm process still runs (ask who upgrades the release, look \
                at CI jobs, and at kubectl get secret --show-managed-fields), and approve the repair only if none does. Otherwise \
                the operator releases the lock itself before helm runs.";
    vec![Finding::warning(CheckName::ReleasePending, message, next)]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case("deployed", 0)]
    #[case("failed", 0)]
    #[case("pending-upgrade", 1)]
    #[case("uninstalling", 1)]
    fn a_lock_that_was_left_is_told(#[case] status: &str, #[case] expected: usize) {
        let mut facts = sample::facts("2.30.0", "2.31.7");
        facts.newest.as_mut().unwrap().status = status.into();
        assert_eq!(check(&facts).len(), expected);
    }
}
