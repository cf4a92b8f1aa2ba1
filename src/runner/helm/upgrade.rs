//! `helm upgrade`: as a rehearsal that changes nothing, and for real.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::record::Record;
use super::{Helm, HelmFailure, Major};
use crate::api::FailureClass;
use crate::core::helm::failures;
use crate::core::report::Problem;
use crate::core::text::bounded;
use crate::runner::error::Error;

/// What is rendered.
pub struct Rendering<'a> {
    /// Name of the release.
    pub release: &'a str,
    /// Namespace of the release.
    pub namespace: &'a str,
    /// The packaged chart.
    pub chart: &'a Path,
    /// Files of values, the later ones win.
    pub values: &'a [PathBuf],
    /// helm would refuse to look at an upgrade (the newest revision is pending, or names removed APIs), so it is asked for
    /// an install, which renders the same with another `.Release.IsInstall`.
    pub as_install: bool,
    /// Objects that exist and are not helm's are no reason to refuse: nothing is changed here.
    pub take_ownership: bool,
}

/// Has helm merge the values, check them against the chart's schema and render the chart, with lookups in the cluster.
/// `--reset-values`, because helm silently uses the old values when the new ones are empty.
async fn render(helm: &Helm, rendering: &Rendering<'_>) -> Result<Result<Record, HelmFailure>, Error> {
    let Rendering { release, namespace, chart, values, as_install, take_ownership } = rendering;
    let mut arguments: Vec<String> = if *as_install {
        vec!["install".into(), (*release).into()]
    } else {
        vec!["upgrade".into(), "--install".into(), "--reset-values".into(), (*release).into()]
    };
    arguments.push(chart.display().to_string());
    arguments.extend(["--namespace", namespace, "--dry-run=server", "--output", "json"].map(Into::into));
    if *take_ownership {
        arguments.push("--take-ownership".into());
    }
    for file in *values {
        arguments.extend(["--values".into(), file.display().to_string()]);
    }
    match helm.capture(&arguments, None).await? {
        Ok(json) => {
            let release: serde_json::Value = bounded::json(&json).map_err(|why| {
                Problem::new(FailureClass::TooLarge, format!("what helm rendered {why}")).field("spec.chart")
            })?;
            Ok(Ok(Record::from(release)))
        }
        Err(failure) => Ok(Err(failure)),
    }
}

/// Renders past what a repair can cure: objects without an owner, and removed APIs in helm's records. Nothing is changed by
/// looking past them. Also tells whether there are objects that helm does not own.
pub async fn render_past(helm: &Helm, rendering: Rendering<'_>) -> Result<Result<(Record, bool), HelmFailure>, Error> {
    let mut rendering = rendering;
    loop {
        let failure = match render(helm, &rendering).await? {
            Ok(record) => return Ok(Ok((record, rendering.take_ownership))),
            Err(failure) => failure,
        };
        match failures::worst(&failure.text).class {
            Some(FailureClass::OwnershipMissing | FailureClass::OwnedByOther) if !rendering.take_ownership => {
                rendering.take_ownership = true;
            }
            Some(FailureClass::ApiRemoved) if !rendering.as_install => rendering.as_install = true,
            _ => return Ok(Err(failure)),
        }
    }
}

/// An upgrade to be made.
pub struct Upgrade<'a> {
    /// Name of the release.
    pub release: &'a str,
    /// Namespace of the release.
    pub namespace: &'a str,
    /// The chart: an archive or a directory.
    pub chart: &'a Path,
    /// All values, in one file.
    pub values: &'a Path,
    /// Labels of the record.
    pub labels: &'a [(&'a str, String)],
    /// How long helm waits for the objects.
    pub timeout: Duration,
    /// Whether helm rolls back by itself after a failure.
    pub rollback_on_failure: bool,
    /// Whether helm takes objects that exist already and are not its own, whoever they belong to.
    pub take_ownership: bool,
}

impl Upgrade<'_> {
    /// What helm is told.
    pub fn arguments(&self, major: Major) -> Vec<String> {
        let mut arguments: Vec<String> = vec![
            "upgrade".into(),
            "--install".into(),
            self.release.into(),
            self.chart.display().to_string(),
            "--namespace".into(),
            self.namespace.into(),
            "--values".into(),
            self.values.display().to_string(),
            "--reset-values".into(),
            // The rehearsal's helm has validated the same objects, and the API server does so again as it writes them. helm reads
            // the whole description of each API group for it, only to find that the server validates by itself.
            "--disable-openapi-validation".into(),
            "--wait".into(),
            "--timeout".into(),
            format!("{}s", self.timeout.as_secs().max(1)),
        ];
        let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if !labels.is_empty() {
            arguments.extend(["--labels".into(), labels.join(",")]);
        }
        if self.take_ownership {
            arguments.push("--take-ownership".into());
        }
        if self.rollback_on_failure {
            arguments.push(match major {
                Major::Three => "--atomic".into(),
                Major::Four => "--rollback-on-failure".into(),
            });
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_helm_gets_its_own_flag_for_a_rollback() {
        let labels = [("coderupgrade.dev/plan", "0123456789ab".to_owned())];
        let mut upgrade = Upgrade {
            release: "coder",
            namespace: "ns",
            chart: Path::new("/plan/chart.tgz"),
            values: Path::new("/plan/values.json"),
            labels: &labels,
            timeout: Duration::from_secs(1800),
            rollback_on_failure: true,
            take_ownership: false,
        };
        let line = |upgrade: &Upgrade<'_>, major| upgrade.arguments(major).join(" ");
        assert!(line(&upgrade, Major::Three).ends_with("--labels coderupgrade.dev/plan=0123456789ab --atomic"));
        assert!(line(&upgrade, Major::Four).ends_with("--rollback-on-failure"));
        upgrade.rollback_on_failure = false;
        assert_eq!(
            line(&upgrade, Major::Four),
            "upgrade --install coder /plan/chart.tgz --namespace ns --values /plan/values.json --reset-values \
             --disable-openapi-validation --wait --timeout 1800s --labels coderupgrade.dev/plan=0123456789ab"
        );
        upgrade.take_ownership = true;
        assert!(line(&upgrade, Major::Three).ends_with("=0123456789ab --take-ownership"));
    }
}
