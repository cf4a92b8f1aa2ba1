//! Chart versions: the product line they belong to, and the choice among those that a repository offers.

use semver::Version;

use crate::api::ProductLine;

/// The version without a leading v, as charts write it.
pub fn plain(version: &str) -> &str {
    version.strip_prefix('v').unwrap_or(version)
}

/// Reads a chart version; a leading v is tolerated.
pub fn parse(version: &str) -> Option<Version> {
    Version::parse(plain(version)).ok()
}

/// Whether `found` is a build of the same release that somebody made for themselves, such as 2.31.7-acme1 of 2.31.7, or the
/// release itself where `wanted` is such a build. A release candidate is an earlier version, and no build.
pub fn is_build_of(found: &Version, wanted: &Version) -> bool {
    let candidate = |version: &Version| {
        let word = version.pre.split(['.', '-']).next().unwrap_or_default().to_ascii_lowercase();
        ["alpha", "beta", "rc", "pre", "preview"]
            .iter()
            .any(|early| word.strip_prefix(early).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit())))
    };
    let base = |version: &Version| (version.major, version.minor, version.patch);
    base(found) == base(wanted) && (found.pre == wanted.pre || !(candidate(found) || candidate(wanted)))
}

/// The higher one of two versions. What cannot be read as a version is lower than all others.
pub fn higher<'a>(known: Option<&'a str>, other: &'a str) -> &'a str {
    known.filter(|known| parse(known) >= parse(other)).unwrap_or(other)
}

/// The product line of a chart version: major 1 is Coder Classic, everything else Coder v2 (which began with 0).
pub fn product_line(version: &Version) -> ProductLine {
    if version.major == 1 { ProductLine::V1 } else { ProductLine::V2 }
}

/// The range in which helm looks for the newest stable version of a product line. Without a pre-release in the range,
/// helm leaves out pre-releases.
pub fn stable_range(line: ProductLine) -> &'static str {
    match line {
        ProductLine::V1 => ">=1.0.0 <2.0.0",
        ProductLine::V2 => ">=2.0.0",
    }
}

/// The newest of `available` that is stable and of the product line, as the repository spells it.
pub fn newest_stable(available: &[String], line: ProductLine) -> Option<&str> {
    available
        .iter()
        .filter_map(|text| Some((parse(text)?, text)))
        .filter(|(version, _)| version.pre.is_empty() && product_line(version) == line)
        .max_by(|(a, _), (b, _)| a.cmp(b))
        .map(|(_, text)| text.as_str())
}

/// The one of `available` that is the wanted version, as the repository spells it; with or without a leading v.
pub fn exact<'a>(available: &'a [String], wanted: &str) -> Option<&'a str> {
    available.iter().find(|text| plain(text) == plain(wanted)).map(String::as_str)
}

/// Up to `count` of the available versions that lie nearest to the wanted one, in ascending order: what a person who
/// mistyped a version may have meant.
pub fn nearest(available: &[String], wanted: &str, count: usize) -> Vec<String> {
    let mut versions: Vec<Version> = available.iter().filter_map(|text| parse(text)).collect();
    versions.sort();
    versions.dedup();
    let at = parse(wanted).map_or(versions.len(), |wanted| versions.partition_point(|v| *v < wanted));
    let first = at.saturating_sub(count.div_ceil(2)).min(versions.len().saturating_sub(count));
    versions.iter().skip(first).take(count).map(ToString::to_string).collect()
}

/// A version without a leading v and without build metadata: `v2.31.7+1a2b3c4` and `2.31.7` are the same Coder.
pub fn comparable(version: &str) -> &str {
    let version = version.trim();
    version.strip_prefix('v').unwrap_or(version).split('+').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn newest_stable_stays_on_the_line_and_leaves_out_pre_releases() {
        let all = list("1.44.3 2.9.0 2.31.7 2.33.0-rc.1 1.9.9 nonsense");
        assert_eq!(newest_stable(&all, ProductLine::V1), Some("1.44.3"));
        assert_eq!(newest_stable(&all, ProductLine::V2), Some("2.31.7"));
        assert_eq!(newest_stable(&list("2.0.0-rc.1"), ProductLine::V2), None);
    }

    #[rstest]
    #[case("v2.31.7", Some("2.31.7"))]
    #[case("2.9.0", Some("v2.9.0"))]
    #[case("2.31", None)]
    fn exact_version_tolerates_a_v_on_either_side(#[case] wanted: &str, #[case] found: Option<&str>) {
        assert_eq!(exact(&list("2.31.7 v2.9.0"), wanted), found);
    }

    #[rstest]
    #[case("2.31.9", "2.31.6 2.31.7 2.32.0 2.33.0")]
    #[case("9.9.9", "2.31.7 2.32.0 2.33.0 2.34.0")]
    #[case("0.0.1", "2.31.6 2.31.7 2.32.0 2.33.0")]
    fn nearest_versions_lie_around_the_wanted_one(#[case] wanted: &str, #[case] expected: &str) {
        let all = list("2.34.0 2.33.0 2.32.0 2.31.7 2.31.6");
        assert_eq!(nearest(&all, wanted, 4).join(" "), expected);
        assert_eq!(nearest(&all[..1], wanted, 4), ["2.34.0"]);
    }

    #[test]
    fn product_lines() {
        let line = |text: &str| product_line(&parse(text).unwrap());
        assert_eq!(
            [line("1.16.1"), line("0.14.3"), line("v2.31.7")],
            [ProductLine::V1, ProductLine::V2, ProductLine::V2]
        );
    }
}
