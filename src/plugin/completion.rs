//! The command `completion`: what a shell needs to complete the commands.

use clap::{Args, Command};
use clap_complete::Shell;

use super::error::PluginError;
use super::session::print;

/// What `completion` is told.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = HELP)]
pub struct CompletionArgs {
    /// The shell: bash, zsh or fish
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

const HELP: &str = "\
It completes the program under its own name. For `kubectl coder-upgrade` kubectl asks a program of the name
kubectl_complete-coder_upgrade in the PATH: make that a symbolic link to this program.

Examples:
  source <(coder-upgrade-operator completion bash)
  ln -s \"$(command -v kubectl-coder_upgrade)\" ~/.local/bin/kubectl_complete-coder_upgrade";

/// Prints the script.
pub fn run(args: &CompletionArgs, mut command: Command) -> Result<u8, PluginError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, env!("CARGO_PKG_NAME"), &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}
