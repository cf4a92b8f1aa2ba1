//! What a packaged chart says of itself, and whether it is the one that was asked for.

use semver::Version;

use super::report::Problem;
use super::version;
use crate::api::FailureClass;

/// A packaged chart, as its Chart.yaml tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChartMetadata {
    /// Name of the chart.
    pub name: String,
    /// Version of the chart.
    pub version: String,
    /// Version of Coder that it runs.
    #[serde(default)]
    pub app_version: Option<String>,
    /// Versions of Kubernetes that it supports, as a range in helm's notation.
    #[serde(default)]
    pub kube_version: Option<String>,
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

    /// Checks that it may follow on the chart that the release was made from.
    pub fn follows(&self, installed: &str) -> Result<(), Box<Problem>> {
        if self.name == installed {
            return Ok(());
        }
        let message = format!(
            "the release was made from the chart {installed}; {} would replace it by something else",
            self.name
        );
        Err(Problem::new(FailureClass::ChartInvalid, message).field("spec.chart.name").boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_must_be_the_one_that_was_asked_for() {
        let chart = ChartMetadata { name: "coder".into(), version: "2.31.7".into(), ..ChartMetadata::default() };
        assert!(chart.check("coder", Some("v2.31.7")).is_ok());
        assert_eq!(chart.check("coder", Some("2.31.6")).unwrap_err().field.as_deref(), Some("spec.version"));
        assert_eq!(chart.check("other", None).unwrap_err().field.as_deref(), Some("spec.chart.name"));
        assert!(chart.follows("coder").is_ok());
        assert_eq!(chart.follows("coder-provisioner").unwrap_err().class, FailureClass::ChartInvalid);
    }
}
