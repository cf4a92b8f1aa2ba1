//! What the stories share: the stage, and the commands that are shown on it.

use std::time::{Duration, Instant};

use coder_upgrade_operator::api::{CoderUpgradeStatus, Phase};
use testbed::{Cluster, charts::charts_dir};

use super::timeline;
use crate::Result;

/// Namespace and name of everything in the demonstration.
pub const NAME: &str = "coder";

/// How long the operator may take for one part of a story.
const PATIENCE: Duration = Duration::from_secs(300);

/// A Coder that an administrator installs.
pub struct Coder<'a> {
    /// Version of the chart.
    pub version: &'a str,
    /// URL of the chart repository.
    pub repository: &'a str,
    /// File with the administrator's values, among the test charts.
    pub values: &'a str,
    /// Further values, as `--set` takes them.
    pub settings: &'a [&'a str],
    /// Whether the chart needs a database beside it.
    pub database: bool,
}

/// The stage: a cluster, and the time since the beginning.
pub struct Scene<'a> {
    /// The cluster of this story.
    pub cluster: &'a Cluster,
    begin: Instant,
}

impl<'a> Scene<'a> {
    pub fn new(cluster: &'a Cluster, begin: Instant) -> Self {
        Self { cluster, begin }
    }

    /// The next act.
    pub fn heading(&self, text: &str) {
        println!("\n[{:5.1} s] {text}", self.begin.elapsed().as_secs_f32());
    }

    /// Installs Coder with helm into the namespace, which is made.
    pub async fn install(&self, coder: &Coder<'_>) -> Result<()> {
        self.heading(&format!("An administrator has installed Coder {} with helm", coder.version));
        self.cluster.kubectl(&["create", "namespace", NAME]).await?;
        if coder.database {
            say("$ kubectl apply -f database.yaml");
            let manifest = charts_dir().join("database.yaml");
            self.kubectl(&["apply", "-f", &manifest.to_string_lossy()]).await?;
        }
        let settings: String = coder.settings.iter().fold(String::new(), |text, setting| text + " --set " + setting);
        say(&format!(
            "$ helm install coder coder --repo {} --version {} --values {}{settings} --wait",
            coder.repository, coder.version, coder.values
        ));
        let values = charts_dir().join(coder.values);
        let values = values.to_string_lossy();
        let mut arguments = vec!["install", NAME, "coder", "--namespace", NAME, "--repo", coder.repository];
        arguments.extend(["--version", coder.version, "--values", &values, "--wait", "--timeout", "3m"]);
        arguments.extend(coder.settings.iter().flat_map(|setting| ["--set", setting]));
        self.cluster.helm(&arguments).await?;
        Ok(())
    }

    /// Loads the operator and gives the runner its rights in the namespace.
    pub async fn load_operator(&self) -> Result<()> {
        self.heading("The operator is loaded, with the rights of deploy/ and no others");
        say("$ kubectl apply --server-side -k deploy/default && kubectl apply --server-side -k deploy/runner");
        self.cluster.load_operator().await?;
        self.cluster.allow_runner(NAME).await?;
        Ok(())
    }

    /// Applies a `CoderUpgrade`; `spec` is YAML without indentation. Waits are short, as in a test: in production the
    /// defaults hold.
    pub async fn declare(&self, spec: &str) -> Result<()> {
        let lines = spec.lines().chain(["verify:", "  soak: 3s"]).map(|line| format!("  {line}\n"));
        let spec: String = lines.collect();
        let manifest = format!(
            "apiVersion: coderupgrade.dev/v1alpha1\nkind: CoderUpgrade\nmetadata:\n  name: {NAME}\nspec:\n{spec}"
        );
        say("$ kubectl apply -f - <<EOF");
        print(&manifest);
        say("EOF");
        print(&self.cluster.kubectl_with_input(&["apply", "--namespace", NAME, "-f", "-"], &manifest).await?);
        Ok(())
    }

    /// Tells what happens until the upgrade is in one of these phases, and returns what its status says then. An end that
    /// the story does not have is an error, with the failure as the object tells it. `known` was told before.
    pub async fn follow(&self, wanted: Phase, known: Option<&CoderUpgradeStatus>) -> Result<CoderUpgradeStatus> {
        let ends = [wanted, Phase::Succeeded, Phase::Failed, Phase::AwaitingApproval];
        let status = timeline::follow(self.cluster.client().await?, NAME, NAME, PATIENCE, known, &ends).await?;
        if status.phase == wanted {
            return Ok(status);
        }
        let failure = status.failure.map(|failure| failure.message).unwrap_or_default();
        Err(format!("the story should end with {wanted} and ends with {}: {failure}", status.phase).into())
    }

    /// What a person sees at the end.
    pub async fn show_object(&self) -> Result<()> {
        self.heading("What the object says");
        self.show(&["get", "cu"]).await?;
        say("$ kubectl get cu coder -o custom-columns=…conditions…");
        let columns = "custom-columns=CONDITION:.status.conditions[*].type,STATUS:.status.conditions[*].status,REASON:.status.conditions[*].reason";
        print(&transposed(&self.kubectl(&["get", "cu", NAME, "-o", columns, "--no-headers"]).await?));
        Ok(())
    }

    /// Shows a command and what it prints.
    pub async fn show(&self, arguments: &[&str]) -> Result<()> {
        say(&format!("$ kubectl {}", arguments.join(" ")));
        print(&self.kubectl(arguments).await?);
        Ok(())
    }

    /// Runs kubectl in the namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.cluster.kubectl(&[arguments, &["--namespace", NAME]].concat()).await?)
    }

    /// Name, UID, volume and phase of each claim, a line each.
    pub async fn claims(&self) -> Result<String> {
        let columns =
            "custom-columns=CLAIM:.metadata.name,UID:.metadata.uid,VOLUME:.spec.volumeName,PHASE:.status.phase";
        self.kubectl(&["get", "pvc", "-o", columns]).await
    }

    /// Shows that the claims are what [`Self::claims`] said before.
    pub async fn same_claims(&self, before: &str) -> Result<()> {
        self.heading("The data: the same claims, with the same UIDs and volumes, before and after");
        let after = self.claims().await?;
        print(&after);
        if before == after {
            return Ok(());
        }
        print("before the upgrade:");
        print(before);
        Err("the claims are not the same as before".into())
    }
}

/// A line on the stage.
pub fn say(line: &str) {
    println!("    {line}");
}

/// Some lines on the stage.
pub fn print(text: &str) {
    for line in text.lines() {
        say(line);
    }
}

/// An error, unless the story went as it should.
pub fn expect(holds: bool, otherwise: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(otherwise.to_owned().into()) }
}

/// kubectl prints lists of conditions as one row of comma-separated cells; people read one condition a line.
fn transposed(row: &str) -> String {
    let cells: Vec<Vec<&str>> = row.split_whitespace().map(|cell| cell.split(',').collect()).collect();
    let count = cells.iter().map(Vec::len).max().unwrap_or(0);
    let line = |i: usize| -> Vec<&str> { cells.iter().map(|cell| cell.get(i).copied().unwrap_or_default()).collect() };
    let lines = (0..count).map(line).map(|cells| match cells[..] {
        [condition, status, reason] => format!("{condition:<16}{status:<12}{reason}\n"),
        _ => cells.join(" ") + "\n",
    });
    lines.collect()
}
