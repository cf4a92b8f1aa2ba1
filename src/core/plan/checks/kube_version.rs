//! The range of Kubernetes versions that a chart supports.

use semver::{Version, VersionReq};

use super::Facts;
use crate::api::{CheckName, FailureClass, Finding};

/// [`CheckName::KubeVersion`]
pub fn check(facts: &Facts) -> Vec<Finding> {
    let (Some(range), Some(version)) = (&facts.chart.kube_version, &facts.kubernetes) else { return Vec::new() };
    if satisfied(range, version) != Some(false) {
        return Vec::new();
    }
    let message = format!("chart {} supports Kubernetes {range}, and this cluster is {version}", facts.chart.version);
    let refusal = Finding::refusal(CheckName::KubeVersion, message, FailureClass::Incompatible.next_step());
    vec![refusal.at("spec.version")]
}

/// Whether a version lies in a range of helm's notation; none if the range cannot be read here, in which case helm itself
/// will judge. What a provider appends to the version (`v1.33.1-gke.1`) does not count.
fn satisfied(range: &str, version: &Version) -> Option<bool> {
    let version = Version::new(version.major, version.minor, version.patch);
    let alternatives: Option<Vec<VersionReq>> = range.split("||").map(requirement).collect();
    Some(alternatives?.iter().any(|requirement| requirement.matches(&version)))
}

/// One alternative: comparators that blanks or commas separate, each perhaps with a blank behind its operator.
fn requirement(text: &str) -> Option<VersionReq> {
    let mut comparators: Vec<String> = Vec::new();
    let mut operator = String::new();
    for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
        let end = word.find(|c: char| c.is_ascii_alphanumeric() || c == '*').unwrap_or(word.len());
        operator.push_str(&word[..end]);
        if end == word.len() {
            continue;
        }
        let wanted = word[end..].trim_start_matches('v').split('-').next().unwrap_or_default();
        let sign = match operator.as_str() {
            "" => "=",
            "=>" => ">=",
            "=<" => "<=",
            other => other,
        };
        comparators.push(format!("{sign}{wanted}"));
        operator.clear();
    }
    if !operator.is_empty() {
        return None;
    }
    VersionReq::parse(&comparators.join(", ")).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case(">=1.19.0-0", "1.35.4", Some(true))]
    #[case(">= 1.99", "1.35.4", Some(false))]
    #[case(">=1.19.0 <1.30.0", "1.35.4", Some(false))]
    #[case(">=1.19.0, <1.36.0", "1.35.4", Some(true))]
    #[case("<1.20 || >=1.35", "1.35.4", Some(true))]
    #[case("1.35", "1.35.4", Some(true))]
    #[case("~1.34", "1.35.4", Some(false))]
    #[case(">=1.33.0", "1.33.1-gke.100", Some(true))]
    #[case("1.20 - 1.25", "1.35.4", None)]
    #[case("!=1.20", "1.35.4", None)]
    #[case("whatever", "1.35.4", None)]
    fn ranges_are_read_as_helm_does(#[case] range: &str, #[case] version: &str, #[case] expected: Option<bool>) {
        assert_eq!(satisfied(range, &Version::parse(version).unwrap()), expected);
    }

    #[test]
    fn a_cluster_outside_of_the_range_is_refused() {
        let mut facts = sample::facts("2.30.0", "2.31.7");
        assert!(check(&facts).is_empty());
        facts.chart.kube_version = Some(">=1.99.0-0".into());
        assert!(check(&facts)[0].message.contains(">=1.99.0-0, and this cluster is 1.35.4"));
    }
}
