//! The versions that an upgrade crosses, and where their release notes are.

use semver::Version;

use super::CrossedVersion;
use crate::api::ProductLine;
use crate::core::helm::version;

/// The first release of each minor version that is crossed, and every version that the path stops at, in ascending order.
/// Nothing if the version stays the same.
pub fn crossed(from: Option<&str>, target: &str, hops: &[String]) -> Vec<CrossedVersion> {
    let from = from.and_then(version::parse);
    let stops: Vec<Version> =
        std::iter::once(target).chain(hops.iter().map(String::as_str)).filter_map(version::parse).collect();
    let Some(last) = stops.iter().max() else { return Vec::new() };
    let mut versions: Vec<Version> = match &from {
        Some(from) => minors(from, last).chain(stops.iter().cloned()).filter(|version| version > from).collect(),
        None => stops.clone(),
    };
    for version in &mut versions {
        version.build = semver::BuildMetadata::EMPTY;
    }
    versions.sort();
    versions.dedup();
    versions.iter().map(|version| CrossedVersion { version: version.to_string(), notes: notes(version) }).collect()
}

/// The first releases of the minor versions after `from`, up to `last`.
fn minors(from: &Version, last: &Version) -> impl Iterator<Item = Version> {
    let first = if from.major == last.major { from.minor + 1 } else { 0 };
    let (major, last) = (last.major, last.clone());
    (first..=last.minor).map(move |minor| Version::new(major, minor, 0)).filter(move |version| *version <= last)
}

fn notes(version: &Version) -> String {
    match version::product_line(version) {
        ProductLine::V1 => format!("https://coder.com/docs/v1/changelog/{version}"),
        ProductLine::V2 => format!("https://github.com/coder/coder/releases/tag/v{version}"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::patch(Some("2.31.6"), "2.31.7", &[], "2.31.7")]
    #[case::minors(Some("2.29.4"), "2.31.7", &[], "2.30.0 2.31.0 2.31.7")]
    #[case::hops(Some("1.15.2"), "1.16.3", &["1.17.4"], "1.16.0 1.16.3 1.17.0 1.17.4")]
    #[case::a_candidate(Some("2.32.0"), "2.33.0-rc.1", &[], "2.33.0-rc.1")]
    #[case::the_first_releases_of_v2(Some("0.27.1"), "2.1.3", &[], "2.0.0 2.1.0 2.1.3")]
    #[case::the_same(Some("2.31.7"), "2.31.7", &[], "")]
    #[case::nothing_installed(None, "v2.31.7+build", &[], "2.31.7")]
    fn minors_and_stops_are_crossed(
        #[case] from: Option<&str>,
        #[case] target: &str,
        #[case] hops: &[&str],
        #[case] expected: &str,
    ) {
        let hops: Vec<String> = hops.iter().map(ToString::to_string).collect();
        let crossed = crossed(from, target, &hops);
        assert_eq!(crossed.iter().map(|c| c.version.as_str()).collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn each_line_has_its_own_release_notes() {
        let notes = |version| crossed(None, version, &[])[0].notes.clone();
        assert_eq!(notes("2.31.7"), "https://github.com/coder/coder/releases/tag/v2.31.7");
        assert_eq!(notes("1.44.3"), "https://coder.com/docs/v1/changelog/1.44.3");
    }
}
