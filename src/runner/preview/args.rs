//! The command line of `plan`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::access::Access;
use crate::core::allowed::{Allowed, ImagePattern, RepositoryPattern};

/// What `plan` is told.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = HELP)]
pub struct PreviewArgs {
    /// Name of a CoderUpgrade in the cluster; with --file, which of those in the file
    #[arg(value_name = "NAME", required_unless_present = "file")]
    pub name: Option<String>,

    /// File with a CoderUpgrade, as YAML or JSON; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Namespace; by default that of the object in the file, or else that of your kubeconfig
    #[arg(short, long)]
    pub namespace: Option<String>,

    /// How the plan is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,

    /// Where the controller lets charts come from, as its flag of this name says; everything by default
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', default_value = "*")]
    allowed_repositories: Vec<RepositoryPattern>,

    /// `ServiceAccounts` that the controller allows, as its flag of this name says; everything by default
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "*")]
    allowed_service_accounts: Vec<String>,

    /// Images that the controller allows, as its flag of this name says; everything by default
    #[arg(long, value_name = "IMAGE", value_delimiter = ',', default_value = "*")]
    allowed_job_images: Vec<ImagePattern>,

    /// Suppress progress output
    #[arg(short, long)]
    pub quiet: bool,

    /// Cluster and user.
    #[command(flatten)]
    pub access: Access,
}

impl PreviewArgs {
    /// What the controller allows, as far as it is said.
    pub(crate) fn allowed(&self) -> Allowed {
        let (accounts, images) = (self.allowed_service_accounts.clone(), self.allowed_job_images.clone());
        Allowed::new(self.allowed_repositories.clone(), accounts, images)
    }
}

/// How a plan is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people at a terminal
    #[default]
    Text,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
    /// A comment on a pull request
    Markdown,
}

const HELP: &str = "\
Exit codes:
  0  nothing to do: Coder runs at that version with these values
  1  no plan could be made: the cluster or the repository cannot be reached, the file is invalid, helm is missing
  2  changes are planned
  3  changes are planned, and a person must allow them (spec.approval, or repairs beyond spec.recovery)
  4  the operator would refuse: a check, the chart or the API server says no

Examples:
  What would this file do, if it were applied?
    coder-upgrade-operator plan -f coder.yaml

  What will the operator do with the object that is in the cluster?
    coder-upgrade-operator plan coder -n coder

  What would another version do?
    kubectl get cu coder -n coder -o yaml | sed 's/version: 2.30.*/version: 2.31.7/' | coder-upgrade-operator plan -f -

  The repairs, for a script:
    coder-upgrade-operator plan -f coder.yaml -o json | jq .plan.repairs

  Would a controller that is started with this flag allow it?
    coder-upgrade-operator plan -f coder.yaml --allowed-repositories https://charts.example.com/coder

  A comment on a pull request:
    coder-upgrade-operator plan -f coder.yaml -o markdown > comment.md";
