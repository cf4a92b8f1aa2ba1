//! kubectl and helm on a cluster, as an administrator, with private settings.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::spawn_blocking;

use super::{Cluster, ClusterError};
use crate::components::{self, Component};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be run.
    #[error("cannot run `{command}`: {source}")]
    Run {
        /// The command line.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("`{command}` failed ({status}): {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it said.
        stderr: String,
    },
}

impl Cluster {
    /// Runs kubectl; returns its standard output.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub async fn kubectl<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<String, ToolError> {
        run("kubectl", self.kubectl_command().args(arguments), None).await
    }

    /// Runs kubectl with `input` on its standard input, as in `kubectl apply -f -`; returns its standard output.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub async fn kubectl_with_input<A: AsRef<OsStr>>(&self, arguments: &[A], input: &str) -> Result<String, ToolError> {
        run("kubectl", self.kubectl_command().args(arguments), Some(input)).await
    }

    /// Runs helm 4; returns its standard output.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub async fn helm<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<String, ToolError> {
        run("helm", self.helm_command().args(arguments), None).await
    }

    /// Runs helm 3, which is built first if need be; returns its standard output.
    ///
    /// # Errors
    /// When it cannot be built or fails, with what it said.
    pub async fn helm3<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<String, ClusterError> {
        Ok(run("helm3", self.helm3_command().await?.args(arguments), None).await?)
    }

    /// helm 3, built first if need be, ready to be given arguments; for commands that are killed in the middle.
    ///
    /// # Errors
    /// When it cannot be built.
    pub async fn helm3_command(&self) -> Result<Command, ClusterError> {
        let ensured = spawn_blocking(|| components::ensure(&[Component::Helm3], &|_| ())).await;
        let binaries = ensured.map_err(|error| ClusterError::Start(io::Error::other(error)))??;
        let path = binaries.get(Component::Helm3);
        let path = path.ok_or_else(|| ClusterError::NoProgram { dir: self.dir.clone(), name: "helm3" })?;
        Ok(self.command(path))
    }

    /// kubectl, ready to be given arguments; for long-running commands.
    #[must_use]
    pub fn kubectl_command(&self) -> Command {
        self.command(&self.kubectl)
    }

    /// helm 4, ready to be given arguments; for long-running commands, for commands that are killed in the middle (as by
    /// [`tokio::process::Child::kill`]) and for benchmarks.
    #[must_use]
    pub fn helm_command(&self) -> Command {
        self.command(&self.helm)
    }

    /// A program with the administrator's kubeconfig, and with nothing of the developer's own kubectl and helm settings.
    /// It is killed when the handle of its process is dropped.
    fn command(&self, program: &Path) -> Command {
        let home = self.dir.join("home");
        let mut command = Command::new(program);
        command.env_clear().kill_on_drop(true).stdin(Stdio::null());
        command.envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "TMPDIR"));
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", &home);
        let below = |name: &str| -> PathBuf { home.join(name) };
        command.env("KUBECACHEDIR", below("kubectl-cache"));
        command.env("HELM_CACHE_HOME", below("helm-cache"));
        command.env("HELM_CONFIG_HOME", below("helm-config"));
        command.env("HELM_DATA_HOME", below("helm-data"));
        command
    }
}

/// Runs `command` to its end. The command line is for messages.
async fn run(name: &str, command: &mut Command, input: Option<&str>) -> Result<String, ToolError> {
    let line = command
        .as_std()
        .get_args()
        .fold(name.to_owned(), |line, argument| format!("{line} {}", argument.to_string_lossy()));
    let output = async {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        let feed = async {
            match (stdin, input) {
                (Some(mut stdin), Some(input)) => stdin.write_all(input.as_bytes()).await,
                _ => Ok(()),
            }
        };
        // Fed while it is read, so that neither waits for the other. What it did not read shows in its exit status.
        let (output, _fed) = tokio::join!(child.wait_with_output(), feed);
        output
    };
    let output = output.await.map_err(|source| ToolError::Run { command: line.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ToolError::Failed { command: line, status: output.status.to_string(), stderr })
}
