//! Builds the programs of this workspace that a cluster runs.

use std::path::Path;

use tokio::process::Command;

use crate::Result;

/// Builds the supervisor, what stands for Coder in pods, and the operator. cargo shows its own progress.
pub async fn workspace_programs() -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The whole workspace, as tests build it: with a part of it, cargo would compile shared crates once more.
    command.current_dir(workspace).args(["build", "--quiet", "--workspace", "--bins"]);
    command.args(["--package=testbed", "--package=coder-upgrade-operator"]);
    eprintln!("building the test bed and the operator");
    let status = command.status().await?;
    if status.success() { Ok(()) } else { Err(format!("cargo build: {status}").into()) }
}
