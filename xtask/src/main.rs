//! Development commands: `cargo xtask --help`.
//!
//! One file per command; each has `Args` for clap and `run`.

mod audit;
mod bench;
mod bin;
mod book;
mod build;
mod cargo;
mod checks;
mod cluster;
mod demo;
mod failures;
mod generate;
mod interrupt;
mod markdown;
mod progress;
mod reference;
mod release;
mod test;
#[cfg(test)]
mod workflows;
mod workspace;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use coder_upgrade_operator::core::text::causes::causes;

/// What went wrong, for a person at a terminal.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Development commands of the Coder upgrade operator.
///
/// Prerequisites: Rust, Go and Linux. What else is needed (a Kubernetes control plane, helm) is built once, from pinned
/// Go modules, and kept in the user's cache directory.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", version, propagate_version = false)]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Audit(audit::Args),
    Bench(bench::Args),
    Bin(bin::Args),
    Book(book::Args),
    Demo(demo::Args),
    Cluster(cluster::Args),
    Generate(generate::Args),
    Release(release::Args),
    Test(test::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Xtask::parse().command {
        Command::Audit(args) => audit::run(args),
        Command::Bench(args) => bench::run(args).await,
        Command::Bin(args) => bin::run(args).await,
        Command::Book(args) => book::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Cluster(args) => cluster::run(args).await,
        Command::Generate(args) => generate::run(args).await,
        Command::Release(args) => release::run(args).await,
        Command::Test(args) => match test::run(args).await {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
