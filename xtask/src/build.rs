//! Builds the programs of this workspace that a cluster runs.

use tokio::process::Command;

use crate::{Result, workspace};

/// Builds the supervisor, what stands for Coder in pods, and the operator. cargo tells errors by itself.
pub async fn workspace_programs() -> Result<()> {
    let mut command = Command::new(workspace::cargo());
    // The whole workspace, as tests build it: with a part of it, cargo would compile shared crates once more.
    command.current_dir(workspace::root()).args(["build", "--quiet", "--workspace", "--bins"]);
    eprintln!("building the test bed and the operator");
    let status = command.status().await?;
    if status.success() { Ok(()) } else { Err(format!("cargo build: {status}").into()) }
}
