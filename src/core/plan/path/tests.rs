use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
use proptest::strategy::Strategy as _;
use rstest::rstest;

use super::*;

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn upgrade(from: &str, to: &str) -> UpgradePath {
    UpgradePath { from: version(from), to: version(to), policy: PathPolicy::Safe, strategy: Strategy::RollingUpdate }
}

fn list(text: &str) -> Vec<Version> {
    text.split_whitespace().map(version).collect()
}

fn shown(path: &Path) -> String {
    path.hops.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// An index or a registry may offer any number as a version.
#[test]
fn a_version_beyond_all_measure_is_refused_and_costs_nothing() {
    let far = upgrade("1.15.2", &format!("1.{}.0", u64::MAX));
    let problem = far.check().unwrap_err();
    assert_eq!((problem.class, problem.field.as_deref()), (FailureClass::VersionNotFound, Some("spec.version")));
    assert!(problem.message.contains("18446744073709551600 minor versions"), "{}", problem.message);
    assert_eq!(far.stops().len(), 200);
    assert!(UpgradePath { policy: PathPolicy::Direct, ..far }.check().is_ok(), "in one hop there are no stops");
    assert!(upgrade("1.15.2", "1.215.0").check().is_ok() && upgrade("1.300.0", "1.15.0").check().is_ok());
}

const CLASSIC: &str = "1.15.1 1.15.2 1.16.0 1.16.2 1.17.0 1.17.5 1.18.0-rc.1 1.18.0 1.33.4 1.34.0 1.35.0 1.35.2 1.36.1";

#[rstest]
#[case::one_minor_at_a_time("1.15.2", "1.18.0", "1.16.2 1.17.5 1.18.0")]
#[case::next_minor("1.15.2", "1.16.0", "1.16.0")]
#[case::same_minor("1.15.1", "1.15.2", "1.15.2")]
#[case::nothing_to_do("1.15.2", "1.15.2", "")]
#[case::older("1.16.0", "1.15.2", "1.15.2")]
#[case::other_line("1.16.0", "2.27.1", "2.27.1")]
#[case::v2_skips_minors("2.20.0", "2.34.0", "2.34.0")]
#[case::v2_stop("2.26.3", "2.27.8", "2.26.8 2.27.8")]
#[case::v2_far_stop("2.26.0", "2.34.0", "2.26.8 2.34.0")]
#[case::v2_past_the_stop("2.26.6", "2.27.8", "2.27.8")]
#[case::v2_within_the_minor("2.26.0", "2.26.7", "2.26.7")]
fn the_way(#[case] from: &str, #[case] to: &str, #[case] expected: &str) {
    let available = list(&format!("{CLASSIC} 2.26.0 2.26.6 2.26.8 2.27.1 2.27.8 2.34.0"));
    let path = upgrade(from, to).path(&available);
    assert_eq!(shown(&path), expected);
    assert!(path.findings.iter().all(|finding| finding.severity == Severity::Warning), "{:?}", path.findings);
}

#[test]
fn a_missing_stop_is_named_and_left_out_only_if_that_is_overridden() {
    let path = upgrade("1.33.4", "1.36.1").path(&list(CLASSIC));
    assert_eq!(shown(&path), "1.35.2 1.36.1", "1.34.0 alone is there, which is faulty");
    let finding = &path.findings[0];
    assert_eq!((finding.check, finding.severity), (CheckName::VersionPath, Severity::Refusal));
    assert!(finding.message.contains("1.34.x"), "{}", finding.message);
    assert!(finding.next_step.contains("spec.upgradePath: Direct") && finding.next_step.contains("spec.overrides"));
}

#[test]
fn directly_it_is_one_hop_and_says_what_it_passes_over() {
    let path = UpgradePath { policy: PathPolicy::Direct, ..upgrade("1.15.2", "1.18.0") }.path(&list(CLASSIC));
    assert_eq!(shown(&path), "1.18.0");
    let finding = &path.findings[0];
    assert_eq!((finding.severity, finding.field.as_deref()), (Severity::Warning, Some("spec.upgradePath")));
    assert!(finding.message.contains("1.16.x, 1.17.x"), "{}", finding.message);
}

#[test]
fn an_archive_has_no_stops() {
    let path = upgrade("1.15.2", "1.18.0").in_one_hop();
    assert_eq!((shown(&path).as_str(), path.findings.len()), ("1.18.0", 1));
    let finding = &path.findings[0];
    assert_eq!((finding.severity, finding.field.as_deref()), (Severity::Refusal, Some("spec.chart.archive")));
    assert_eq!(upgrade("1.15.2", "1.16.0").in_one_hop().findings, []);
    let direct = UpgradePath { policy: PathPolicy::Direct, ..upgrade("1.15.2", "1.18.0") };
    assert_eq!(direct.in_one_hop().findings[0].severity, Severity::Warning);
}

#[rstest]
#[case("1.14.4", "1.15.0", "1.15.1")]
#[case("1.33.4", "1.34.0", "1.34.1")]
#[case("1.34.2", "1.35.0", "1.35.1")]
fn a_faulty_version_is_refused_with_the_mended_one(#[case] from: &str, #[case] to: &str, #[case] mended: &str) {
    let path = upgrade(from, to).path(&[]);
    let finding = &path.findings[0];
    assert_eq!((finding.check, finding.severity), (CheckName::FaultyVersion, Severity::Refusal));
    assert!(finding.next_step.contains(mended), "{}", finding.next_step);
}

#[rstest]
#[case::quotas("2.38.3", "2.39.0", Some(Severity::Refusal))]
#[case::quotas_candidate("2.38.3", "2.39.0-rc.1", Some(Severity::Refusal))]
#[case::api_keys("2.26.8", "2.27.9", Some(Severity::Warning))]
#[case::neither("2.30.0", "2.33.0", None)]
fn an_overlap_that_does_harm_asks_for_recreate(
    #[case] from: &str,
    #[case] to: &str,
    #[case] severity: Option<Severity>,
) {
    let overlaps = |upgrade: &UpgradePath| {
        let findings = upgrade.path(&[]).findings;
        findings.into_iter().find(|finding| finding.check == CheckName::SchemaOverlap)
    };
    let found = overlaps(&upgrade(from, to));
    assert_eq!(found.as_ref().map(|finding| finding.severity), severity);
    assert!(found.is_none_or(|finding| finding.next_step.contains("spec.strategy: Recreate")));
    assert_eq!(overlaps(&UpgradePath { strategy: Strategy::Recreate, ..upgrade(from, to) }), None);
}

#[rstest]
#[case("1.39.0", "1.40.0", "rebuilt")]
#[case("2.3.0", "2.4.0", "one transaction")]
#[case("2.33.0", "2.34.0", "AI gateway")]
#[case("1.44.3", "1.45.0", "last series")]
fn what_is_to_be_known_is_said(#[case] from: &str, #[case] to: &str, #[case] word: &str) {
    let findings = upgrade(from, to).path(&[]).findings;
    let found = findings.iter().find(|finding| finding.message.contains(word)).expect(word);
    assert_eq!((found.check, found.severity), (CheckName::VersionPath, Severity::Warning));
}

#[test]
fn every_range_of_the_table_can_be_read() {
    for rule in RULES {
        let stop = if let Effect::StopAt(range) = rule.effect { range } else { "*" };
        for range in [rule.from, rule.to, stop] {
            assert!(VersionReq::parse(range).is_ok(), "{range}");
        }
    }
}

fn any_version() -> impl proptest::strategy::Strategy<Value = Version> {
    (1u64..3, 0u64..45, 0u64..10).prop_map(|(major, minor, patch)| Version::new(major, minor, patch))
}

proptest! {
    #[test]
    fn hops_ascend_to_the_wanted_version_over_the_newest_of_each_stop(
        a in any_version(),
        b in any_version(),
        available in prop::collection::vec(any_version(), 0..200),
        direct in any::<bool>(),
    ) {
        let (from, to) = (a.clone().min(b.clone()), a.max(b));
        let policy = if direct { PathPolicy::Direct } else { PathPolicy::Safe };
        let upgrade = UpgradePath { from: from.clone(), to: to.clone(), policy, strategy: Strategy::RollingUpdate };
        let path = upgrade.path(&available);
        if from == to {
            prop_assert_eq!(path, Path::default());
            return Ok(());
        }
        prop_assert_eq!(path.hops.last(), Some(&to));
        let (last, stops) = path.hops.split_last().unwrap();
        prop_assert!(!direct || stops.is_empty());
        let mut before = &from;
        for hop in &path.hops {
            prop_assert!(before < hop);
            before = hop;
        }
        for stop in stops {
            let same_minor = |other: &&Version| (other.major, other.minor) == (stop.major, stop.minor);
            let newest = available.iter().filter(same_minor).filter(|v| **v < *last && !is_faulty(v)).max();
            prop_assert_eq!(newest, Some(stop));
        }
        // With every stop there, Coder Classic crosses one minor version at a time.
        let refused = path.findings.iter().any(|f| f.check == CheckName::VersionPath && f.severity == Severity::Refusal);
        if !direct && !refused && to.major == 1 {
            let minors = [&from].into_iter().chain(&path.hops).map(|version| version.minor).collect::<Vec<_>>();
            prop_assert!(minors.windows(2).all(|pair| pair[1] - pair[0] <= 1), "{:?}", minors);
        }
    }
}
