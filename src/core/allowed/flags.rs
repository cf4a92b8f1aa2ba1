//! The flags of the controller.

use clap::Args;

use super::{Allowed, ImagePattern, OFFICIAL, RUNNER_ACCOUNT, RepositoryPattern};

/// What `CoderUpgrades` may name.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What CoderUpgrades may name (several with commas between, or the flag several times)")]
pub struct AllowedFlags {
    /// Where charts may come from: an address and all below it, `archives` (packaged charts in the cluster), or *
    ///
    /// Scheme, host and port must be the same, and the path must begin with the same whole parts: `https://example.com/a`
    /// allows `https://example.com/a/b`, but neither `https://example.com/ab` nor `http://example.com/a` nor another port.
    /// What an index or a redirect leads to must be allowed, too.
    #[arg(
        long = "allowed-repositories",
        env = "ALLOWED_REPOSITORIES",
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_values = OFFICIAL,
    )]
    repositories: Vec<RepositoryPattern>,

    /// `ServiceAccounts` that spec.job.serviceAccountName may name, or *
    #[arg(
        long = "allowed-service-accounts",
        env = "ALLOWED_SERVICE_ACCOUNTS",
        value_name = "NAME",
        value_delimiter = ',',
        default_values = [RUNNER_ACCOUNT],
    )]
    service_accounts: Vec<String>,

    /// Images that spec.job.image may name beside the runner's own: the beginning of a name in whole parts, with any tag, or
    /// *; none by default
    #[arg(long = "allowed-job-images", env = "ALLOWED_JOB_IMAGES", value_name = "IMAGE", value_delimiter = ',')]
    job_images: Vec<ImagePattern>,
}

impl AllowedFlags {
    /// What they allow.
    pub fn allowed(&self) -> Allowed {
        let accounts = self.service_accounts.iter().map(|name| name.trim().to_owned()).collect();
        Allowed::new(self.repositories.clone(), accounts, self.job_images.clone())
    }
}
