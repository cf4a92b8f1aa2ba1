//! The list of what the chart repositories offer.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::ChartError;

/// The contents of `repository.yaml`: repository name to the charts in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Catalog(pub BTreeMap<String, Vec<Row>>);

/// One packaged chart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Directory of the chart, beside `repository.yaml`.
    pub chart: String,
    /// The version it is packaged at, which is its appVersion too.
    pub version: String,
    /// Directory in `overlays` that is laid over the chart.
    #[serde(default)]
    pub overlay: Option<String>,
}

impl Row {
    /// A chart directory, unchanged, at a version.
    #[must_use]
    pub fn new(chart: &str, version: &str) -> Self {
        Self { chart: chart.to_owned(), version: version.to_owned(), overlay: None }
    }

    /// The same with a directory of `overlays` laid over it.
    #[must_use]
    pub fn with_overlay(mut self, overlay: &str) -> Self {
        self.overlay = Some(overlay.to_owned());
        self
    }
}

impl Catalog {
    /// Reads `repository.yaml` in the directory of the test charts.
    pub fn read(charts: &Path) -> Result<Self, ChartError> {
        let path = charts.join("repository.yaml");
        let text = std::fs::read_to_string(&path).map_err(ChartError::at(&path))?;
        serde_saphyr::from_str(&text).map_err(|error| ChartError::Yaml { path, problem: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charts::charts_dir;

    #[test]
    fn every_row_names_a_chart_and_an_overlay_that_exist() {
        let charts = charts_dir();
        let Catalog(repositories) = Catalog::read(&charts).unwrap();
        assert!(repositories.contains_key("v1") && repositories.contains_key("v2"));
        for row in repositories.values().flatten() {
            assert!(charts.join(&row.chart).join("Chart.yaml").is_file(), "{row:?}");
            if let Some(overlay) = &row.overlay {
                assert!(charts.join("overlays").join(overlay).is_dir(), "{row:?}");
            }
        }
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        let read: Result<Catalog, _> = serde_saphyr::from_str("v2: [{chart: coder-v2, version: 2.0.0, overlays: x}]");
        assert!(read.is_err());
    }
}
