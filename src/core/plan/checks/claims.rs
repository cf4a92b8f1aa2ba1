//! The volumes of the release: whether they are well, and whether anything could take them along.

use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding, Recovery};
use crate::core::helm::documents::{KEEP, RESOURCE_POLICY};

const CLAIM: &str = "PersistentVolumeClaim";

/// [`CheckName::ClaimHealth`]
pub fn health(_: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let mut found = Vec::new();
    for claim in &foreseen.claims {
        let object = format!("{CLAIM}/{}", claim.name);
        match claim.phase.as_deref() {
            Some("Lost") => {
                let message = format!("{object} has lost its volume: nothing that uses it can start");
                let next = "Restore the volume from a backup before anything is changed.";
                found.push(Finding::refusal(CheckName::ClaimHealth, message, next).about(&object).at("status.phase"));
            }
            Some("Pending") => {
                let message = format!("{object} has no volume yet: pods that mount it wait for one");
                let next = format!("Look at the events of {object} and at its storage class.");
                found.push(Finding::warning(CheckName::ClaimHealth, message, next).about(&object).at("status.phase"));
            }
            _ => {}
        }
        if let (Some("Delete"), Some(volume)) = (claim.reclaim_policy.as_deref(), &claim.volume) {
            let message = format!("the volume of {object} would be deleted with its claim (reclaim policy Delete)");
            let next = format!("Set persistentVolumeReclaimPolicy of PersistentVolume/{volume} to Retain.");
            let warning = Finding::warning(CheckName::ClaimHealth, message, next);
            found.push(warning.about(format!("PersistentVolume/{volume}")).at("spec.persistentVolumeReclaimPolicy"));
        }
    }
    found
}

/// [`CheckName::ClaimInManifest`]; the operator's own reinstall keeps every claim, and this check holds even if that failed.
pub fn in_manifest(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let mut both = foreseen.new.clone();
    both.add_missing(&facts.old);
    let unkept = both.objects().filter(|(name, object)| {
        let policy = object["metadata"]["annotations"][RESOURCE_POLICY].as_str().unwrap_or_default();
        name.kind == CLAIM && !policy.trim().eq_ignore_ascii_case(KEEP)
    });
    let finding = |name: String| {
        let message = format!(
            "{name} is part of the release's manifest: whoever uninstalls the release deletes it, with its data"
        );
        let keep = format!("set the annotation {RESOURCE_POLICY}: {KEEP} on {name} in the values that make it");
        let finding = match facts.spec.recovery {
            Recovery::Reinstall => {
                let next = format!("Either {keep}, or set spec.recovery to Repair.");
                Finding::refusal(CheckName::ClaimInManifest, message, next)
            }
            Recovery::Stop | Recovery::Repair => {
                Finding::warning(CheckName::ClaimInManifest, message, format!("To protect it, {keep}."))
            }
        };
        finding.about(name).at(format!("metadata.annotations[{RESOURCE_POLICY}]"))
    };
    unkept.map(|(name, _)| finding(name.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{ClaimStatus, Severity};
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case("Bound", None, &[])]
    #[case("Bound", Some("Retain"), &[])]
    #[case("Bound", Some("Delete"), &[Severity::Warning])]
    #[case("Pending", None, &[Severity::Warning])]
    #[case("Lost", Some("Delete"), &[Severity::Refusal, Severity::Warning])]
    fn claims_are_well(#[case] phase: &str, #[case] policy: Option<&str>, #[case] expected: &[Severity]) {
        let claim = ClaimStatus {
            name: "data".into(),
            uid: "1".into(),
            volume: Some("pv".into()),
            phase: Some(phase.into()),
            reclaim_policy: policy.map(Into::into),
            capacity: None,
            note: None,
        };
        let foreseen = Foreseen { claims: vec![claim], ..sample::foreseen() };
        let found = health(&sample::facts("2.30.0", "2.31.7"), &foreseen);
        assert_eq!(found.iter().map(|finding| finding.severity).collect::<Vec<_>>(), expected);
    }

    fn claim(annotations: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": CLAIM, "metadata": {"name": "extra", "annotations": annotations}})
    }

    #[rstest]
    #[case::kept(json!({RESOURCE_POLICY: "keep"}), Recovery::Reinstall, None)]
    #[case::repair(json!(null), Recovery::Repair, Some(Severity::Warning))]
    #[case::reinstall(json!({}), Recovery::Reinstall, Some(Severity::Refusal))]
    fn claims_of_the_manifest_are_told(
        #[case] annotations: Value,
        #[case] recovery: Recovery,
        #[case] expected: Option<Severity>,
    ) {
        let claims = sample::documents(&[claim(&annotations)]);
        let mut facts = sample::facts("2.30.0", "2.31.7");
        facts.spec.recovery = recovery;
        let severities = |facts: &Facts, new: &crate::core::helm::documents::Documents| {
            let foreseen = Foreseen { new: new.clone(), ..sample::foreseen() };
            in_manifest(facts, &foreseen).into_iter().map(|finding| finding.severity).next()
        };
        assert_eq!(severities(&facts, &claims), expected);
        let installed = Facts { old: claims, ..facts };
        assert_eq!(severities(&installed, &sample::documents(&[])), expected, "one that the new chart leaves out, too");
    }
}
