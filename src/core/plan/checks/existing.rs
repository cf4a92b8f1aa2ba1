//! A first install that would take over what exists.

use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding, Remedy, Severity};

/// Most objects that are named.
const TOLD: usize = 5;

/// [`CheckName::ReleaseRecords`], for what only the rendered chart tells: objects of the chart that exist, and of which helm
/// has no record.
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    // What runs was found before, and says the same.
    let records = |finding: &&Finding| finding.check == CheckName::ReleaseRecords;
    let known = facts.path.iter().filter(records).any(|finding| finding.severity == Severity::Refusal);
    if facts.newest.is_some() || facts.spec.adopt || known {
        return Vec::new();
    }
    let adopted = foreseen.rehearsal.repairs.iter().filter(|repair| repair.remedy == Remedy::Adopt);
    let adopted: Vec<&str> = adopted.map(|repair| repair.object.as_str()).collect();
    let Some(first) = adopted.first() else { return Vec::new() };
    let more = match adopted.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "release {} would be installed for the first time, but objects of its chart exist and belong to no Helm release: {}{more}",
        facts.spec.release,
        adopted[..adopted.len().min(TOLD)].join(", ")
    );
    let next = format!(
        "Find out who made them (kubectl get --show-managed-fields). To take them over on purpose, with all values in the spec, \
         set spec.adopt to true, as docs/adoption.md explains; or add {} to spec.overrides.",
        CheckName::ReleaseRecords
    );
    vec![Finding::refusal(CheckName::ReleaseRecords, message, next).about(first).at("spec.adopt")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PlannedRepair;
    use crate::core::plan::checks::sample;

    #[test]
    fn a_first_install_takes_nothing_over_unless_it_is_meant() {
        let adopt = |object: &str| PlannedRepair {
            remedy: Remedy::Adopt,
            object: object.into(),
            message: String::new(),
            needs_approval: false,
        };
        let mut foreseen = sample::foreseen();
        foreseen.rehearsal.repairs = ["a", "b", "c", "d", "e", "f"].map(|name| adopt(&format!("Role/{name}"))).into();
        let upgrade = sample::facts("2.30.0", "2.31.7");
        assert!(check(&upgrade, &foreseen).is_empty(), "an upgrade adopts as a repair");
        let mut first = upgrade;
        (first.installed, first.newest) = (None, None);
        sample::finds(&check(&first, &foreseen), Some("Role/a, Role/b, Role/c, Role/d, Role/e and 1 more"));
        sample::finds(&check(&first, &sample::foreseen()), None);
        first.spec.adopt = true;
        sample::finds(&check(&first, &foreseen), None);
    }
}
