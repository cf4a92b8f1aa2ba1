//! The commands for people at a terminal, also as `kubectl coder-upgrade`: they read and edit objects with the rights of a
//! kubeconfig. What they say is decided in `core`.

mod approve;
mod candidates;
mod completion;
mod doctor;
mod edit;
mod error;
mod follow;
mod history;
mod live_release;
mod logs;
mod output;
mod screen;
mod session;
mod setup;
mod status;

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;

use self::approve::ApproveArgs;
use self::completion::CompletionArgs;
use self::doctor::DoctorArgs;
use self::edit::{EditArgs, SuspendArgs, UpgradeArgs};
use self::error::PluginError;
use self::history::HistoryArgs;
use self::logs::LogsArgs;
use self::setup::SetupArgs;
use self::status::StatusArgs;
use crate::core::text::display::printable;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Show where an upgrade stands, or follow it
    Status(StatusArgs),
    /// Declare another version (spec.version), and follow the upgrade if wanted
    Upgrade(UpgradeArgs),
    /// Show what waits for an approval, ask, and let it begin
    Approve(ApproveArgs),
    /// Ask for another attempt after a failure, or for the newest version again
    Retry(EditArgs),
    /// Have nothing new begin (spec.suspend); a change that has begun is finished
    Suspend(SuspendArgs),
    /// Let a suspended upgrade go on
    Resume(EditArgs),
    /// List the finished attempts
    History(HistoryArgs),
    /// Print the log of a step's pod, or what was saved of it
    Logs(LogsArgs),
    /// Give the runner its rights in a namespace, and say what they are
    Setup(SetupArgs),
    /// Look at the installation, and say what to do about what it lacks
    Doctor(DoctorArgs),
    /// Print the completion script of a shell
    Completion(CompletionArgs),
}

/// Does what the command says. `whole` is the command line of the program, `program` how it is called.
pub async fn run(command: PluginCommand, program: &'static str, whole: clap::Command) -> ExitCode {
    let done = match command {
        PluginCommand::Status(args) => status::run(&args, program).await,
        PluginCommand::Upgrade(args) => edit::upgrade(&args, program).await,
        PluginCommand::Approve(args) => approve::run(&args, program).await,
        PluginCommand::Retry(args) => edit::retry(&args, program).await,
        PluginCommand::Suspend(args) => edit::suspend(&args, program).await,
        PluginCommand::Resume(args) => edit::resume(&args, program).await,
        PluginCommand::History(args) => history::run(&args, program).await,
        PluginCommand::Logs(args) => logs::run(&args, program).await,
        PluginCommand::Setup(args) => setup::run(&args, program).await,
        PluginCommand::Doctor(args) => doctor::run(&args, program).await,
        PluginCommand::Completion(args) => completion::run(&args, whole),
    };
    ended(done)
}

/// Prints what may follow these words of a command line, as kubectl asks for it.
pub async fn complete(words: &[String], whole: &clap::Command) -> ExitCode {
    ended(candidates::run(words, whole).await)
}

fn ended(done: Result<u8, PluginError>) -> ExitCode {
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Nobody is left to be told when the terminal is gone.
            let _ = writeln!(std::io::stderr(), "error: {}", printable(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}
