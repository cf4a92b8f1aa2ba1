//! `cargo xtask bin NAME`: where a component of the test bed lies.

use testbed::components::{Component, ensure};

use crate::{Result, progress};

/// Print the path of a component, after building it if need be.
///
/// For shells: `$(cargo xtask bin kubectl) get nodes`. Progress goes to stderr.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which program.
    name: Component,
}

/// Prints the path on stdout, and nothing else there.
pub async fn run(Args { name }: Args) -> Result<()> {
    let found = tokio::task::spawn_blocking(move || ensure(&[name], &|event| progress::component(&event))).await??;
    let path = found.get(name).ok_or("the component was not among those that were built")?;
    println!("{}", path.display());
    Ok(())
}
