//! Reads the command line, sets up logging and hands over.

use std::process::ExitCode;

use clap::Parser;
use coder_upgrade_operator::{
    api,
    cli::{Cli, Command},
    controller, runner,
};
use tracing_subscriber::EnvFilter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // A plan at a terminal says by itself where it stands.
    let level = if matches!(cli.command, Command::Plan(_)) { "warn" } else { "info" };
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},kube_runtime=warn,kube_lease_manager=warn")));
    // The log of a runner is read by people who do not know the modules.
    let target = !matches!(cli.command, Command::Runner(_) | Command::Plan(_));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    log.with_target(target).init();
    // Fails only if a provider is set already, which then serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.command {
        Command::Controller(args) => match controller::run(args).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::FAILURE
            }
        },
        Command::Plan(args) => Box::pin(runner::preview::run(args)).await,
        Command::Runner(args) => Box::pin(runner::run(args)).await,
        Command::Crd => match serde_saphyr::to_string(&api::crd()) {
            Ok(yaml) => {
                print!("{yaml}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("cannot write the definition as YAML: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Help, or what is wrong with the command line. Never the exit code 2, which says that changes are planned.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is left to be told when the terminal is gone.
    let _ = error.print();
    if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
