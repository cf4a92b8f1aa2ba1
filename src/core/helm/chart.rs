//! What a packaged chart says of itself, and whether it is the one that was asked for.

use std::collections::BTreeMap;

use semver::Version;
use serde_json::Value;

use super::version;
use super::wrapped::{CODER, Dependency, UNDER, VERSION, Wrapped};
use crate::api::FailureClass;
use crate::core::report::Problem;

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
    /// Charts that it brings along.
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
    /// Annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, Value>,
    /// The Coder that it brings along, if it is not Coder's own chart.
    #[serde(skip)]
    pub wrapped: Option<Wrapped>,
}

impl ChartMetadata {
    /// The same with the Coder that it brings along, of which its package has this Chart.yaml.
    pub fn packed_with(mut self, coder: Option<Self>) -> Self {
        self.wrapped = coder.map(|Self { version, app_version, .. }| {
            let under = Wrapped::among(&self.dependencies, &[]).map(|named| named.under);
            Wrapped { version, app_version, under: under.unwrap_or_else(|| CODER.to_owned()) }
        });
        self
    }

    /// The same with the Coder that it brings along, as helm's record of a release tells: by the label with the chart's name and
    /// version on the workload that runs Coder's servers, by its dependencies with those of its Chart.lock, or by what stands in a
    /// chart that was restored.
    pub fn recorded_with(mut self, label: Option<&str>, locked: &[Dependency]) -> Self {
        let text = |key: &str| self.annotations.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
        let restored = || Some(Wrapped { version: text(VERSION)?, app_version: None, under: text(UNDER)? });
        let own = |wrapped: &Wrapped| wrapped.under == self.name && wrapped.version == version::plain(&self.version);
        let labelled = label.and_then(Wrapped::labelled).filter(|wrapped| !own(wrapped));
        self.wrapped = labelled.or_else(|| Wrapped::among(&self.dependencies, locked)).or_else(restored);
        self
    }

    /// Version of Coder's chart: its own one, or that of the Coder that it brings along.
    pub fn coder_version(&self) -> &str {
        self.wrapped.as_ref().map_or(&self.version, |wrapped| &wrapped.version)
    }

    /// Name of the chart of Coder that it is, or brings along.
    pub fn runs(&self) -> &str {
        if self.wrapped.is_some() { CODER } else { &self.name }
    }

    /// Version of Coder that the chart runs: the appVersion, or the version of Coder's chart when it names none.
    pub fn app_version(&self) -> &str {
        if let Some(wrapped) = &self.wrapped {
            return wrapped.app_version.as_deref().filter(|text| !text.is_empty()).unwrap_or(&wrapped.version);
        }
        self.app_version.as_deref().filter(|text| !text.is_empty()).unwrap_or(&self.version)
    }

    /// Version of Coder's chart, read.
    pub fn parsed(&self) -> Result<Version, Box<Problem>> {
        version::parse(self.coder_version()).ok_or_else(|| {
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

    /// Checks that it may follow on the chart that the release was made from. Values of a Coder that another chart brings along
    /// lie elsewhere, so they could not be kept.
    pub fn follows(&self, installed: &Self) -> Result<(), Box<Problem>> {
        let under = |chart: &Self| chart.wrapped.as_ref().map(|wrapped| wrapped.under.clone());
        if self.name == installed.name && under(self) == under(installed) {
            return Ok(());
        }
        let message = if self.name == installed.name {
            let how = |chart: &Self| match under(chart) {
                Some(under) => format!("takes the values of Coder under the key {under}"),
                None => "is Coder's own chart".to_owned(),
            };
            format!(
                "the installed chart {} {}, and the new one {}: the values of the release could not be kept",
                self.name,
                how(installed),
                how(self)
            )
        } else {
            format!(
                "the release was made from the chart {}; {} would replace it by something else",
                installed.name, self.name
            )
        };
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
        let named = |name: &str| ChartMetadata { name: name.into(), ..ChartMetadata::default() };
        assert!(chart.follows(&named("coder")).is_ok());
        assert_eq!(chart.follows(&named("coder-provisioner")).unwrap_err().class, FailureClass::ChartInvalid);
        let wrapped = Wrapped { version: "2.30.0".into(), app_version: None, under: "coder".into() };
        let outer = ChartMetadata { wrapped: Some(wrapped), ..named("coder") };
        assert!(chart.follows(&outer).unwrap_err().message.contains("under the key coder"));
        assert!(outer.follows(&outer.clone()).is_ok());
    }

    #[test]
    fn a_chart_that_brings_coder_along_counts_as_that_coder() {
        let text = r#"{"name": "platform", "version": "1.4.0", "appVersion": "9", "dependencies": [
            {"name": "postgres", "version": "1.0.0"}, {"name": "coder", "version": "2.31.0", "alias": "ide"}]}"#;
        let read = || serde_json::from_str::<ChartMetadata>(text).unwrap();
        let of = |chart: &ChartMetadata| {
            (chart.coder_version().to_owned(), chart.app_version().to_owned(), chart.runs().to_owned())
        };
        assert_eq!(of(&read()), ("1.4.0".into(), "9".into(), "platform".into()), "nobody has looked into it");
        let by_name = read().recorded_with(None, &[]);
        assert_eq!(of(&by_name), ("2.31.0".into(), "2.31.0".into(), "coder".into()));
        let within =
            ChartMetadata { version: "2.31.4".into(), app_version: Some("2.31.5".into()), ..ChartMetadata::default() };
        let looked = read().packed_with(Some(within));
        assert_eq!(of(&looked), ("2.31.4".into(), "2.31.5".into(), "coder".into()));
        assert_eq!(looked.wrapped.unwrap().under, "ide");
        let restored = r#"{"name": "platform", "version": "1.4.0", "annotations":
            {"coderupgrade.dev/coder-version": "2.31.0", "coderupgrade.dev/coder-values": "ide"}}"#;
        let restored = serde_json::from_str::<ChartMetadata>(restored).unwrap().recorded_with(None, &[]);
        let labelled =
            |label: &str| read().recorded_with(Some(label), &[]).wrapped.map(|found| (found.version, found.under));
        assert_eq!(
            labelled("ide-2.31.2"),
            Some(("2.31.2".into(), "ide".into())),
            "the label knows better than a range"
        );
        let own: ChartMetadata = serde_json::from_str(r#"{"name": "coder", "version": "2.31.0"}"#).unwrap();
        assert_eq!(own.recorded_with(Some("coder-2.31.0"), &[]).wrapped, None, "it is Coder's own chart");
        assert_eq!((restored.coder_version(), restored.wrapped.as_ref().unwrap().under.as_str()), ("2.31.0", "ide"));
    }
}
