//! A satellite of Coder Classic is known to its primary by a key. With another one it must be registered again.

use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding, ProductLine, Recovery};

/// The Secret with the key.
const KEY: &str = "Secret/coder-replica-private-key";

/// [`CheckName::SatelliteKey`]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let had = facts.old.objects().any(|(name, _)| name.is(KEY));
    if !had || facts.line() != ProductLine::V1 {
        return Vec::new();
    }
    if !foreseen.new.objects().any(|(name, _)| name.is(KEY)) {
        let message = format!("the new release has no {KEY}: the key of this satellite would be deleted");
        let next = "Set satellite.enable to true in spec.values, or copy the Secret and register the satellite again afterwards.";
        return vec![Finding::refusal(CheckName::SatelliteKey, message, next).about(KEY).at("satellite.enable")];
    }
    if facts.spec.recovery != Recovery::Reinstall {
        return Vec::new();
    }
    let message = format!("this is a satellite: a reinstall that lost {KEY} would take it away from its primary");
    let next = "Set spec.recovery to Repair, or copy the Secret and name SatelliteKey in spec.overrides.";
    vec![Finding::refusal(CheckName::SatelliteKey, message, next).about(KEY).at("spec.recovery")]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case::no_satellite(false, true, Recovery::Reinstall, None)]
    #[case::kept(true, true, Recovery::Repair, None)]
    #[case::reinstall(true, true, Recovery::Reinstall, Some("spec.recovery"))]
    #[case::left_out(true, false, Recovery::Repair, Some("satellite.enable"))]
    fn the_key_stays(#[case] old: bool, #[case] new: bool, #[case] recovery: Recovery, #[case] expected: Option<&str>) {
        let key = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "coder-replica-private-key"}});
        let documents = |has: bool| sample::documents(if has { std::slice::from_ref(&key) } else { &[] });
        let mut facts = sample::facts("1.16.1", "1.17.0");
        facts.old = documents(old);
        facts.spec.recovery = recovery;
        let found = check(&facts, &Foreseen { new: documents(new), ..sample::foreseen() });
        assert_eq!(found.first().and_then(|finding| finding.field.as_deref()), expected);
    }
}
