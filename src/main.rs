//! Reads the command line, sets up logging and hands over.

use std::process::ExitCode;

use coder_upgrade_operator::{
    api,
    cli::{Cli, Command},
    controller, log, plugin,
    runner::{self, secrets::Secrets},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let called = arguments.first().cloned().unwrap_or_default();
    let program = Cli::program(&called);
    if Cli::completes(&called) {
        install_cryptography();
        let words: Vec<String> = arguments.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        return plugin::complete(&words, &Cli::under(program)).await;
    }
    let cli = match Cli::read(program, arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let secrets = Secrets::default();
    log::start(&cli.command, secrets.clone());
    install_cryptography();
    match cli.command {
        Command::Controller(args) => match controller::run(args).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::FAILURE
            }
        },
        Command::Plan(args) => Box::pin(runner::preview::run(args, secrets)).await,
        Command::Rights(args) => Box::pin(runner::preview::rights::run(args, secrets)).await,
        Command::Plugin(command) => Box::pin(plugin::run(command, program, Cli::under(program))).await,
        Command::Runner(args) => Box::pin(runner::run(args, secrets)).await,
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

fn install_cryptography() {
    // Fails only if a provider is set already, which then serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
