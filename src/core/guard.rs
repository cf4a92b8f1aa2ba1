//! Refusals that protect data: no other product line, no downgrade, no other chart under the same release.

use semver::Version;

use super::plan::Answer;
use super::report::Problem;
use super::{verify::comparable, version};
use crate::api::{FailureClass, Installed, ProductLine};

/// A packaged chart, as its Chart.yaml tells.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChartMetadata {
    /// Name of the chart.
    pub name: String,
    /// Version of the chart.
    pub version: String,
    /// Version of Coder that it runs.
    #[serde(default)]
    pub app_version: Option<String>,
}

impl ChartMetadata {
    /// Version of Coder that the chart runs: its appVersion, or its own version when it names none.
    #[must_use]
    pub fn app_version(&self) -> &str {
        self.app_version.as_deref().filter(|text| !text.is_empty()).unwrap_or(&self.version)
    }

    /// Version of the chart, read.
    pub fn parsed(&self) -> Result<Version, Box<Problem>> {
        version::parse(&self.version).ok_or_else(|| {
            Problem::new(
                FailureClass::ChartInvalid,
                format!("the chart {} has the version {:?}, which is no semantic version", self.name, self.version),
            )
            .field("spec.chart")
            .boxed()
        })
    }

    /// Checks that this is the chart that was asked for.
    pub fn check(&self, name: &str, wanted: Option<&str>) -> Result<(), Box<Problem>> {
        if self.name != name {
            return Err(Problem::new(
                FailureClass::ChartInvalid,
                format!("the chart is called {}, not {name}", self.name),
            )
            .field("spec.chart.name")
            .boxed());
        }
        match wanted {
            Some(wanted) if version::plain(wanted) != version::plain(&self.version) => Err(Problem::new(
                FailureClass::ChartInvalid,
                format!("the chart has version {}, but {wanted} was asked for", self.version),
            )
            .field("spec.version")
            .boxed()),
            _ => Ok(()),
        }
    }
}

/// Checks the chart against the installed release and against what its pods answer.
pub fn check(
    chart: &ChartMetadata,
    installed_chart: &str,
    installed: &Installed,
    answers: &[Answer],
) -> Result<(), Box<Problem>> {
    if chart.name != installed_chart {
        return Err(Problem::new(
            FailureClass::ChartInvalid,
            format!(
                "the release was made from the chart {installed_chart}; {} would replace it by something else",
                chart.name
            ),
        )
        .field("spec.chart.name")
        .boxed());
    }
    let target = chart.parsed()?;
    let line = version::product_line(&target);
    if line != installed.line {
        return Err(Problem::new(
            FailureClass::ProductLineChanged,
            format!(
                "{} {} is installed, but chart {} belongs to {}; both charts are called {}",
                product(installed.line),
                installed.version,
                chart.version,
                product(line),
                chart.name
            ),
        )
        .field("spec.version")
        .boxed());
    }
    let older = |than: &str| version::parse(than).is_some_and(|than| target < than);
    if older(&installed.version) {
        return Err(downgrade(&chart.version, &format!("{} is installed", installed.version)));
    }
    let app = version::parse(comparable(chart.app_version()));
    let newer = answers.iter().find(|answer| version::parse(&answer.version) > app && app.is_some());
    match newer {
        Some(answer) => {
            Err(downgrade(&chart.version, &format!("Pod/{} runs Coder {} already", answer.pod, answer.version)))
        }
        None => Ok(()),
    }
}

fn downgrade(target: &str, reason: &str) -> Box<Problem> {
    Problem::new(FailureClass::Downgrade, format!("{target} is older: {reason}")).field("spec.version").boxed()
}

fn product(line: ProductLine) -> &'static str {
    match line {
        ProductLine::V1 => "Coder Classic (v1)",
        ProductLine::V2 => "Coder v2",
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn chart(version: &str) -> ChartMetadata {
        ChartMetadata { name: "coder".into(), version: version.into(), app_version: Some(format!("v{version}")) }
    }

    #[rstest]
    #[case("2.30.0", "2.31.7", None, None)]
    #[case("2.31.7", "2.31.7", Some("2.31.7"), None)]
    #[case("2.31.7", "2.31.6", None, Some(FailureClass::Downgrade))]
    #[case("2.31.6", "2.31.7", Some("2.32.0"), Some(FailureClass::Downgrade))]
    #[case("1.44.3", "2.31.7", None, Some(FailureClass::ProductLineChanged))]
    #[case("2.31.7", "1.44.3", None, Some(FailureClass::ProductLineChanged))]
    #[case("0.14.3", "2.31.7", Some("not a version"), None)]
    fn product_line_and_direction(
        #[case] from: &str,
        #[case] to: &str,
        #[case] running: Option<&str>,
        #[case] expected: Option<FailureClass>,
    ) {
        let installed = Installed {
            version: from.into(),
            app_version: None,
            revision: 1,
            status: "deployed".into(),
            line: version::product_line(&version::parse(from).unwrap()),
        };
        let answers: Vec<Answer> = running
            .map(|version| Answer { pod: "coder-1".into(), version: version.into(), deployment_id: None })
            .into_iter()
            .collect();
        assert_eq!(check(&chart(to), "coder", &installed, &answers).err().map(|p| p.class), expected);
        let other = check(&chart(to), "coder-provisioner", &installed, &answers).unwrap_err();
        assert_eq!(other.class, FailureClass::ChartInvalid);
    }

    #[test]
    fn the_chart_must_be_the_one_that_was_asked_for() {
        assert!(chart("2.31.7").check("coder", Some("v2.31.7")).is_ok());
        assert_eq!(chart("2.31.7").check("coder", Some("2.31.6")).unwrap_err().field.as_deref(), Some("spec.version"));
        assert_eq!(chart("2.31.7").check("other", None).unwrap_err().field.as_deref(), Some("spec.chart.name"));
    }
}
