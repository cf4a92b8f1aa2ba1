//! Builds the programs of this workspace that a cluster runs.

use crate::{Result, cargo};

/// The supervisor, what stands for Coder in pods, and the operator. The whole workspace, as tests build it: with a part of
/// it, cargo would compile shared crates once more.
pub const WORKSPACE_PROGRAMS: [&str; 4] = ["build", "--quiet", "--workspace", "--bins"];

/// Builds them.
pub async fn workspace_programs() -> Result<()> {
    eprintln!("building the test bed and the operator");
    cargo::run(&WORKSPACE_PROGRAMS).await
}
