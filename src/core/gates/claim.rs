//! Which of several `CoderUpgrades` of one release had it first.

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::{CoderUpgrade, FINALIZER};

/// The one of these objects that keeps another one from the release.
pub fn holder<'a>(upgrade: &CoderUpgrade, others: impl IntoIterator<Item = &'a CoderUpgrade>) -> Option<String> {
    let before = others.into_iter().filter(|other| claims_before(other, upgrade));
    before.map(ResourceExt::name_any).min()
}

/// Whether two objects are for the same release.
pub fn is_rival(one: &CoderUpgrade, other: &CoderUpgrade) -> bool {
    one.metadata.namespace == other.metadata.namespace && one.spec.release == other.spec.release
}

/// Whether another object had the release first: one in the middle of a change, otherwise the older one. One that is not
/// created yet comes last.
pub fn claims_before(other: &CoderUpgrade, upgrade: &CoderUpgrade) -> bool {
    let rank = |one: &CoderUpgrade| {
        (
            !one.finalizers().iter().any(|finalizer| finalizer == FINALIZER),
            one.creation_timestamp().map_or(Timestamp::MAX, |time| time.0),
            one.name_any(),
        )
    };
    other.metadata.uid != upgrade.metadata.uid && is_rival(other, upgrade) && rank(other) < rank(upgrade)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CoderUpgradeSpec;

    #[test]
    fn only_our_own_finalizer_tells_that_a_change_is_under_way() {
        let upgrade = |name: &str, finalizer: &str| {
            let mut upgrade = CoderUpgrade::new(name, CoderUpgradeSpec::default());
            upgrade.metadata.uid = Some(name.into());
            upgrade.metadata.finalizers = (!finalizer.is_empty()).then(|| vec![finalizer.into()]);
            upgrade
        };
        let (changing, foreign) = (upgrade("b", FINALIZER), upgrade("a", "example.com/other"));
        assert!(claims_before(&changing, &foreign) && !claims_before(&foreign, &changing));
        assert!(
            claims_before(&upgrade("a", ""), &upgrade("b", "example.com/other")),
            "otherwise the older, or by name"
        );
        assert_eq!(holder(&foreign, [&changing, &foreign]), Some("b".into()));
        assert_eq!(holder(&changing, [&changing, &foreign]), None);
    }
}
