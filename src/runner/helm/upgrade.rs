//! `helm upgrade`: as a rehearsal that changes nothing, and for real.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use super::record::Record;
use super::{Helm, HelmFailure, Major, process};
use crate::api::label;
use crate::core::classify;
use crate::runner::error::Error;
use crate::runner::secrets::Secrets;

/// How long a helm that lost the Lease may take to record its failure. With the time in which the loss is noticed this is
/// less than the Lease's duration, so that helm has ended before another runner can begin.
const LOST_LEASE_GRACE: Duration = Duration::from_secs(4);
/// How much of what helm says is kept to find out what it meant, in bytes.
const STDERR_LIMIT: usize = 64 * 1024;

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
    /// The newest revision is pending. helm would refuse to look at an upgrade, so it is asked for an install, which
    /// renders the same with another `.Release.IsInstall`.
    pub locked: bool,
}

/// Has helm merge the values, check them against the chart's schema and render the chart, with lookups in the cluster.
/// `--reset-values`, because helm silently uses the old values when the new ones are empty.
pub async fn render(helm: &Helm, rendering: &Rendering<'_>) -> Result<Result<Record, HelmFailure>, Error> {
    let Rendering { release, namespace, chart, values, locked } = rendering;
    let mut arguments: Vec<String> = if *locked {
        vec!["install".into(), (*release).into()]
    } else {
        vec!["upgrade".into(), "--install".into(), "--reset-values".into(), (*release).into()]
    };
    arguments.push(chart.display().to_string());
    arguments.extend(["--namespace", namespace, "--dry-run=server", "--output", "json"].map(Into::into));
    for file in *values {
        arguments.extend(["--values".into(), file.display().to_string()]);
    }
    match helm.capture(&arguments, None).await? {
        Ok(json) => {
            let release: serde_json::Value =
                serde_json::from_slice(&json).map_err(|source| Error::Json { what: "what helm rendered", source })?;
            Ok(Ok(Record::from(release)))
        }
        Err(failure) => Ok(Err(failure)),
    }
}

/// An upgrade to be made.
pub struct Upgrade<'a> {
    /// Name of the release.
    pub release: &'a str,
    /// Namespace of the release.
    pub namespace: &'a str,
    /// The packaged chart.
    pub chart: &'a Path,
    /// All values, in one file.
    pub values: &'a Path,
    /// Id of the plan, which becomes a label of the record.
    pub plan: &'a str,
    /// How long helm waits for the objects.
    pub timeout: Duration,
    /// Whether helm rolls back by itself after a failure.
    pub rollback_on_failure: bool,
}

impl Upgrade<'_> {
    fn arguments(&self, major: Major) -> Vec<String> {
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
            "--wait".into(),
            "--timeout".into(),
            format!("{}s", self.timeout.as_secs().max(1)),
            "--labels".into(),
            format!("{}={}", label::PLAN, self.plan),
        ];
        if self.rollback_on_failure {
            arguments.push(match major {
                Major::Three => "--atomic".into(),
                Major::Four => "--rollback-on-failure".into(),
            });
        }
        arguments
    }
}

/// Runs the upgrade to its end. `stop` (the runner's SIGTERM) goes on to helm, which then records the release as failed;
/// so does `lost` (the Lease), but then helm does not get more time than the Lease has left.
///
/// helm's notes on stdout are not for logs: charts print addresses and passwords there.
pub async fn run(
    helm: &Helm,
    secrets: &Secrets,
    upgrade: &Upgrade<'_>,
    stop: &CancellationToken,
    lost: &CancellationToken,
) -> Result<Result<(), HelmFailure>, Error> {
    let arguments = upgrade.arguments(helm.major());
    tracing::info!("helm {}", arguments.join(" "));
    let mut command = helm.command(&arguments);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = process::spawn(&mut command).map_err(Error::HelmMissing)?;
    drop(child.stdin.take());
    let said = listen(&mut child, secrets);
    let ended = wait(&mut child, stop, lost);
    let (said, ended) = tokio::join!(said, ended);
    let status = ended?;
    if status.success() {
        return Ok(Ok(()));
    }
    let text = classify::helm_error(&said);
    Ok(Err(HelmFailure { text: if text.is_empty() { status.to_string() } else { text.to_owned() } }))
}

/// Logs what helm says, line by line, and returns the end of it.
fn listen(child: &mut Child, secrets: &Secrets) -> impl Future<Output = String> + use<> {
    let stderr = child.stderr.take();
    let secrets = secrets.clone();
    async move {
        let mut said = String::new();
        let Some(stderr) = stderr else { return said };
        let mut lines = BufReader::new(stderr).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let line = String::from_utf8_lossy(&line);
            tracing::info!("helm: {}", secrets.clean(&line));
            said.push_str(&line);
            said.push('\n');
            if said.len() > 2 * STDERR_LIMIT {
                said = crate::core::redact::tail(&said, STDERR_LIMIT);
            }
        }
        said
    }
}

async fn wait(
    child: &mut Child,
    stop: &CancellationToken,
    lost: &CancellationToken,
) -> Result<std::process::ExitStatus, Error> {
    let ended = |result: std::io::Result<_>| result.map_err(Error::HelmMissing);
    tokio::select! {
        status = child.wait() => return ended(status),
        () = stop.cancelled() => tracing::warn!("told to stop: passing it on to helm"),
        () = lost.cancelled() => tracing::error!("the Lease of the release is lost: stopping helm"),
    }
    process::terminate(child).map_err(Error::HelmMissing)?;
    // With a rollback, helm may take long to end after a signal. That is allowed as long as nobody else may begin.
    tokio::select! {
        status = child.wait() => return ended(status),
        () = lost.cancelled() => {}
    }
    if let Ok(status) = tokio::time::timeout(LOST_LEASE_GRACE, child.wait()).await {
        return ended(status);
    }
    child.kill().await.map_err(Error::HelmMissing)?;
    ended(child.wait().await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_helm_gets_its_own_flag_for_a_rollback() {
        let mut upgrade = Upgrade {
            release: "coder",
            namespace: "ns",
            chart: Path::new("/plan/chart.tgz"),
            values: Path::new("/plan/values.json"),
            plan: "0123456789ab",
            timeout: Duration::from_secs(1800),
            rollback_on_failure: true,
        };
        let line = |upgrade: &Upgrade<'_>, major| upgrade.arguments(major).join(" ");
        assert!(line(&upgrade, Major::Three).ends_with("--labels coderupgrade.dev/plan=0123456789ab --atomic"));
        assert!(line(&upgrade, Major::Four).ends_with("--rollback-on-failure"));
        upgrade.rollback_on_failure = false;
        assert_eq!(
            line(&upgrade, Major::Four),
            "upgrade --install coder /plan/chart.tgz --namespace ns --values /plan/values.json --reset-values --wait \
             --timeout 1800s --labels coderupgrade.dev/plan=0123456789ab"
        );
    }
}
