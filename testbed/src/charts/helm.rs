//! Runs the real helm for chores that need no cluster.

use std::path::Path;
use std::process::Command;

use super::ChartError;
use crate::process;

/// Runs `helm` with `arguments` and directories of its own under `home`, so that neither the developer's repositories and
/// credentials nor another run play a part.
pub(super) async fn run(helm: &Path, home: &Path, arguments: &[&str]) -> Result<(), ChartError> {
    let start = |source| ChartError::Start { program: helm.to_owned(), source };
    let mut command = Command::new(helm);
    command.args(arguments);
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, home.join(variable.to_lowercase()));
    }
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let child = process::spawn(command).await.map_err(start)?;
    let output = child.wait_with_output().await.map_err(start)?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ChartError::Helm { arguments: arguments.join(" "), message })
}
