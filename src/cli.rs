//! The command line.

use clap::{Parser, Subcommand};

use crate::controller::ControllerArgs;
use crate::core::text::log_format::LogFormat;
use crate::runner::RunnerArgs;
use crate::runner::preview::PreviewArgs;
use crate::runner::preview::rights::RightsArgs;

/// Upgrades Coder on Kubernetes safely.
///
/// `kubectl apply` a CoderUpgrade that names a version; the controller takes the Helm release there in Jobs, verifies
/// that every pod answers with that version on the same data, and says in status what it does and why.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 120)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The parts of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch CoderUpgrades and start the Jobs that they need (runs in a Deployment, see deploy/)
    Controller(ControllerArgs),
    /// Show what an upgrade would do, and change nothing
    ///
    /// Makes the plan now, as the operator would, with the rights of your kubeconfig and the helm in your PATH: it reads the
    /// release, fetches the chart, merges the values, rehearses the upgrade and goes through the checks. Nothing is written
    /// to the cluster: no plan, no Job, no record of helm.
    Plan(PreviewArgs),
    /// Print the ServiceAccount of the runner and the Roles that it needs, as YAML for kubectl apply -f -
    ///
    /// The rights that suffice for every public chart of Coder, or the least that one CoderUpgrade takes.
    Rights(RightsArgs),
    /// Perform one step of an upgrade (runs in the Jobs that the controller makes)
    Runner(RunnerArgs),
    /// Print the CustomResourceDefinition as YAML, for kubectl apply -f -
    Crd,
}

impl Command {
    /// The form of the log. At a terminal people read it.
    pub(crate) fn log_format(&self) -> LogFormat {
        match self {
            Self::Controller(args) => args.log_format,
            Self::Runner(args) => args.log_format(),
            Self::Plan(_) | Self::Rights(_) | Self::Crd => LogFormat::Text,
        }
    }
}
