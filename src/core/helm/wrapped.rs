//! Charts that bring Coder along as a dependency, with a name and versions of their own.
//!
//! helm, and `spec.version`, count with the versions of the outer chart. All that is about Coder counts with the version of the
//! chart of Coder in it: product line, downgrade, rules of paths, and what the pods must answer.

use semver::Version;
use serde::{Deserialize, Serialize};

use super::version;

/// Name of the chart that runs servers of Coder.
pub const CODER: &str = "coder";
/// Annotation of a restored chart, which has no dependencies any more: the version of Coder's chart in it.
pub const VERSION: &str = "coderupgrade.dev/coder-version";
/// Annotation of a restored chart: the key of its values under which those of Coder lie.
pub const UNDER: &str = "coderupgrade.dev/coder-values";

/// A dependency, as Chart.yaml and Chart.lock name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Dependency {
    /// Name of its chart.
    #[serde(default)]
    pub name: String,
    /// Its version in a Chart.lock, or a range in a Chart.yaml.
    #[serde(default)]
    pub version: String,
    /// Another name, under which its values lie.
    #[serde(default)]
    pub alias: Option<String>,
}

/// The Coder in a chart.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Wrapped {
    /// Version of Coder's chart.
    pub version: String,
    /// Version of Coder that it names.
    pub app_version: Option<String>,
    /// Key of the outer chart's values under which those of Coder lie.
    pub under: String,
}

impl Wrapped {
    /// The Coder among the dependencies of a Chart.yaml; `locked` are those of its Chart.lock, with exact versions.
    pub fn among(dependencies: &[Dependency], locked: &[Dependency]) -> Option<Self> {
        let coder = dependencies.iter().find(|dependency| dependency.name == CODER)?;
        let exact = locked.iter().find(|dependency| dependency.name == CODER);
        let version = exact.map_or(&coder.version, |exact| &exact.version);
        // Of a range, the version that it begins with: it is of the same product line at least.
        let from = version.trim_start_matches(|c: char| !c.is_ascii_digit());
        let from = from.split(|c: char| c.is_whitespace() || c == ',').next().unwrap_or_default();
        let mut parts: Vec<&str> = from.splitn(3, '.').collect();
        parts.resize(3, "0");
        let parts: Vec<&str> =
            parts.into_iter().map(|part| if matches!(part, "x" | "X" | "*") { "0" } else { part }).collect();
        let version = version::parse(&parts.join(".")).as_ref().map(Version::to_string)?;
        Some(Self { version, app_version: None, under: coder.alias.clone().unwrap_or_else(|| CODER.to_owned()) })
    }
}

impl Wrapped {
    /// From the label `helm.sh/chart` of a workload that runs Coder's servers: name and version of the chart that made it. helm
    /// calls a dependency by its other name there, if it has one.
    pub fn labelled(label: &str) -> Option<Self> {
        let cuts = label.match_indices('-').map(|(at, _)| (&label[..at], &label[at + 1..]));
        let (under, version) = cuts.into_iter().find(|(_, rest)| version::parse(&rest.replace('_', "+")).is_some())?;
        let version = version::plain(&version.replace('_', "+")).to_owned();
        Some(Self { version, app_version: None, under: under.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("coder-2.31.0", Some(("coder", "2.31.0")))]
    #[case::dashes("my-ide-v2.31.0", Some(("my-ide", "2.31.0")))]
    #[case::build("coder-2.31.0-rc.1_abc", Some(("coder", "2.31.0-rc.1+abc")))]
    #[case::no_version("coder", None)]
    #[case::nonsense("coder-latest", None)]
    fn a_label_tells_the_chart(#[case] label: &str, #[case] expected: Option<(&str, &str)>) {
        let found = Wrapped::labelled(label);
        assert_eq!(found.as_ref().map(|found| (found.under.as_str(), found.version.as_str())), expected);
    }

    #[rstest]
    #[case::exact("2.31.0", None, None, Some(("2.31.0", "coder")))]
    #[case::locked("~2.31.0", Some("2.31.4"), None, Some(("2.31.4", "coder")))]
    #[case::range(">=2.30.0 <3.0.0", None, None, Some(("2.30.0", "coder")))]
    #[case::wildcard("2.x", None, Some("ide"), Some(("2.0.0", "ide")))]
    #[case::anything("*", None, None, None)]
    fn the_coder_among_dependencies_has_a_version(
        #[case] version: &str,
        #[case] locked: Option<&str>,
        #[case] alias: Option<&str>,
        #[case] expected: Option<(&str, &str)>,
    ) {
        let dependency = |version: &str, alias: Option<&str>| Dependency {
            name: CODER.into(),
            version: version.into(),
            alias: alias.map(Into::into),
        };
        let locked: Vec<Dependency> = locked.map(|version| dependency(version, None)).into_iter().collect();
        let found = Wrapped::among(&[dependency(version, alias)], &locked);
        let found = found.as_ref().map(|found| (found.version.as_str(), found.under.as_str()));
        assert_eq!(found, expected);
    }
}
