//! Builds the programs of this workspace that a cluster runs.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, cargo, workspace};

/// The supervisor, what stands for Coder in pods, and the operator. The whole workspace, as tests build it: with a part of
/// it, cargo would compile shared crates once more.
pub const WORKSPACE_PROGRAMS: [&str; 4] = ["build", "--quiet", "--workspace", "--bins"];

/// Builds them.
pub async fn workspace_programs() -> Result<()> {
    eprintln!("building the test bed and the operator");
    cargo::run(&WORKSPACE_PROGRAMS).await
}

/// Builds the operator for release as its image has it, and says how: static where this machine can, else linked to its C library.
pub async fn release_operator() -> Result<PathBuf> {
    let build = ["build", "--quiet", "--release", "--package=coder-upgrade-operator"];
    let program = "release/coder-upgrade-operator";
    let target = format!("{ARCH}-unknown-linux-musl");
    if let Err(missing) = builds_for(&target) {
        eprintln!(
            "building the operator for release, linked to the C library of this machine; for a static one, as its image has it: {missing}"
        );
        cargo::run(&build).await?;
        return Ok(workspace::target().join(program));
    }
    eprintln!("building the operator for release, static");
    cargo::run(&[&build[..], &["--target", &target]].concat()).await?;
    Ok(workspace::target().join(target).join(program))
}

/// Whether static programs can be built: their standard library is installed, and what compiles the C in `ring`. Otherwise the
/// command that installs it.
fn builds_for(target: &str) -> std::result::Result<(), String> {
    let asked = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    let libraries = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if libraries.is_empty() || !Path::new(&libraries).exists() {
        return Err(format!("rustup target add {target}"));
    }
    let installed = Command::new("musl-gcc").arg("--version").output().is_ok();
    if installed { Ok(()) } else { Err("install musl-gcc (Debian: apt-get install musl-tools)".to_owned()) }
}
