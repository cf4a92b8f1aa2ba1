//! A first install that would take over what exists, or run beside it.

use serde_json::Value;

use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding, Remedy, Severity};
use crate::core::object::ObjectRef;
use crate::core::plan::presence::serves;

/// Most objects that are named.
const TOLD: usize = 5;

/// [`CheckName::ReleaseRecords`], for what only the rendered chart tells: objects of the chart that exist, and of which helm
/// has no record; and what runs and is no object of the chart.
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    // What runs was found before, and says the same.
    let records = |finding: &&Finding| finding.check == CheckName::ReleaseRecords;
    let known = facts.path.iter().filter(records).any(|finding| finding.severity == Severity::Refusal);
    if facts.newest.is_some() || known && !facts.spec.takes_over() {
        return Vec::new();
    }
    let new: Vec<ObjectRef> = foreseen.new.objects().map(|(name, _)| name).collect();
    let left = facts.old.objects().filter(|(name, _)| !new.iter().any(|new| new.same(name)));
    let mut found: Vec<Finding> = left.map(|(name, object)| beside(&name, object)).collect();
    if !known && !facts.spec.adopt {
        found.extend(made_before(facts, foreseen));
    }
    found
}

/// What is not in the chart cannot be taken over, and helm has no record by which to delete it.
fn beside(name: &ObjectRef, object: &Value) -> Finding {
    let what = format!("{name} is no object of the new chart: it is not taken over, and stays as it is");
    if serves(object) && object["spec"]["replicas"] != 0 {
        let message = format!("{what}. It runs Coder, so that servers of two versions would work on one database");
        let next = format!(
            "End it before the change (scale it to zero, or delete it; claims and Secrets stay), or give the chart values by which \
             its object is called {}. To run both, add {} to spec.overrides.",
            name.name,
            CheckName::ReleaseRecords
        );
        return Finding::refusal(CheckName::ReleaseRecords, message, next).about(name);
    }
    let next = "Delete it once the new version runs, if nothing needs it.";
    Finding::warning(CheckName::ReleaseRecords, what, next).about(name)
}

/// Objects of the chart that somebody has made.
fn made_before(facts: &Facts, foreseen: &Foreseen) -> Option<Finding> {
    let adopted = foreseen.rehearsal.repairs.iter().filter(|repair| repair.remedy == Remedy::Adopt);
    let adopted: Vec<&str> = adopted.map(|repair| repair.object.as_str()).collect();
    let first = adopted.first()?;
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
    Some(Finding::refusal(CheckName::ReleaseRecords, message, next).about(first).at("spec.adopt"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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

    #[test]
    fn what_runs_under_another_name_is_not_taken_over() {
        let object = |name: &str, container: &str, replicas: i64| {
            let image = json!({"name": container, "image": format!("ghcr.io/coder/{container}:v2.30.0")});
            let mut object = sample::deployment(name, &image);
            object["spec"]["replicas"] = replicas.into();
            object
        };
        let found = |runs: Value| {
            let mut facts = sample::facts("2.30.0", "2.31.7");
            (facts.installed, facts.newest, facts.old) = (None, None, sample::documents(&[runs]));
            facts.spec.adopt = true;
            let new = sample::documents(&[object("coder", "coder", 1)]);
            check(&facts, &Foreseen { new, ..sample::foreseen() })
        };
        assert_eq!(found(object("coder", "coder", 2)), []);
        let dev = found(object("dev", "coder", 2));
        assert_eq!((dev[0].severity, dev[0].object.as_deref()), (Severity::Refusal, Some("Deployment/dev")));
        assert_eq!(found(object("dev", "coder", 0))[0].severity, Severity::Warning);
        assert_eq!(found(object("proxy", "proxy", 1))[0].severity, Severity::Warning);
    }
}
