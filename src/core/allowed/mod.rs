//! What a `CoderUpgrade` may name: repositories, `ServiceAccounts` and images that the controller's flags allow.
//!
//! Whoever may write a `CoderUpgrade` has Jobs started by the controller's right to create them. Without these limits that
//! were the right to run any image under any `ServiceAccount` of the namespace, and to have credentials of any Secret sent
//! anywhere. The controller asks before a Job is created; the runner asks again before each request to a repository,
//! because an index or a redirect may lead elsewhere.

mod address;
mod flags;
mod image;

use std::fmt;
use std::str::FromStr;

pub use self::address::Address;
pub use self::flags::AllowedFlags;
pub use self::image::ImagePattern;
use super::report::Problem;
use super::rights::ACCOUNT as RUNNER_ACCOUNT;
use super::text::digest::short_hash;
use crate::api::{ChartSource, CoderUpgradeSpec, FailureClass, JobSettings, ProductLine};

/// The official repositories.
pub const OFFICIAL: [&str; 3] = ["https://helm.coder.com", "https://helm.coder.com/v2", "oci://ghcr.io/coder/chart"];

/// The official repository of a product line.
pub fn official(line: ProductLine) -> &'static str {
    match line {
        ProductLine::V1 => OFFICIAL[0],
        ProductLine::V2 => OFFICIAL[1],
    }
}

/// Where charts may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repositories(Vec<RepositoryPattern>);

/// One entry of `--allowed-repositories`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepositoryPattern {
    /// `*`: from anywhere.
    Any,
    /// `archives`: packaged charts in Secrets and `ConfigMaps` of the namespace.
    Archives,
    /// An address, and all below it.
    Below(Address),
    /// An empty entry, so that an empty list can be given.
    Nothing,
}

impl FromStr for RepositoryPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.trim() {
            "" => Self::Nothing,
            "*" => Self::Any,
            "archives" => Self::Archives,
            address => Self::Below(Address::parse(address).map_err(|why| {
                format!("it {why}; give an address such as https://charts.example.com/coder, archives, or *")
            })?),
        })
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Archives => f.write_str("archives"),
            Self::Below(address) => address.fmt(f),
            Self::Nothing => Ok(()),
        }
    }
}

impl Repositories {
    /// The entries of the flag.
    pub fn new(patterns: Vec<RepositoryPattern>) -> Self {
        Self(patterns)
    }

    /// Everything.
    pub fn any() -> Self {
        Self(vec![RepositoryPattern::Any])
    }

    /// The entries as they are given to a flag.
    pub fn patterns(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }

    /// Whether something may be fetched from there.
    pub fn allow(&self, address: &Address) -> bool {
        self.0.iter().any(|pattern| match pattern {
            RepositoryPattern::Any => true,
            RepositoryPattern::Below(allowed) => allowed.holds(address),
            RepositoryPattern::Archives | RepositoryPattern::Nothing => false,
        })
    }

    fn allow_archives(&self) -> bool {
        self.0.iter().any(|pattern| matches!(pattern, RepositoryPattern::Any | RepositoryPattern::Archives))
    }

    /// Whether the chart of the spec may come from where the spec says. `line` is the installed product line, if it is known:
    /// it decides which repository is the default.
    pub fn judge(&self, spec: &CoderUpgradeSpec, line: Option<ProductLine>) -> Result<(), Box<Problem>> {
        let chart = &spec.chart;
        if chart.archive.is_some() {
            let what = "spec.chart.archive is a packaged chart in the cluster";
            return if self.allow_archives() { Ok(()) } else { Err(self.refusal("spec.chart.archive", what)) };
        }
        let field = "spec.chart.repository";
        let Some(repository) = &chart.repository else {
            let lines = line.map_or_else(|| vec![ProductLine::V1, ProductLine::V2], |line| vec![line]);
            let defaults = lines.into_iter().map(official);
            let allowed = defaults.clone().any(|text| Address::parse(text).is_ok_and(|address| self.allow(&address)));
            let what = format!("{field} is not set, which means {}", defaults.collect::<Vec<_>>().join(" or "));
            return if allowed { Ok(()) } else { Err(self.refusal(field, &what)) };
        };
        let address = Address::parse(repository)
            .map_err(|why| Problem::new(FailureClass::SpecInvalid, format!("{field} {why}")).field(field).boxed())?;
        if !self.allow(&address) {
            return Err(self.refusal(field, &format!("{field} is {address}")));
        }
        if chart.credentials_secret_ref.is_some() && address.is_unencrypted() && !chart.plain_http {
            let message = format!(
                "the credentials of Secret/{} would be sent to {address} without encryption: use https://, or set \
                 spec.chart.plainHTTP: true if that is meant",
                chart.credentials_secret_ref.as_ref().map_or("", |secret| secret.name.as_str())
            );
            return Err(Problem::new(FailureClass::SpecInvalid, message).field("spec.chart.plainHTTP").boxed());
        }
        self.judge_archives(chart)
    }

    /// Whether what an index leads to may be asked with credentials.
    fn judge_archives(&self, chart: &ChartSource) -> Result<(), Box<Problem>> {
        let Some(archives) = &chart.archive_credentials else { return Ok(()) };
        let field = "spec.chart.archiveCredentials";
        let invalid = |why: String| {
            Problem::new(FailureClass::SpecInvalid, format!("{field}.address {why}")).field(field).boxed()
        };
        let address = Address::parse(&archives.address).map_err(|why| invalid(why.to_string()))?;
        if !self.allow(&address) {
            return Err(self.refusal(field, &format!("{field}.address is {address}")));
        }
        if address.is_unencrypted() && !chart.plain_http {
            let why = "has no encryption: use https://, or set spec.chart.plainHTTP: true if that is meant";
            return Err(invalid(why.to_owned()));
        }
        Ok(())
    }

    /// A refusal that names the flag. `what` is the beginning of its sentence.
    pub fn refusal(&self, field: &str, what: &str) -> Box<Problem> {
        not_allowed(field, what, "--allowed-repositories", self.patterns())
    }
}

/// What the flags of the controller allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Where charts may come from.
    pub repositories: Repositories,
    /// Names of `ServiceAccounts`, or `*`.
    service_accounts: Vec<String>,
    /// Images beside that of the controller.
    images: Vec<ImagePattern>,
}

impl Allowed {
    /// What these flags allow.
    pub fn new(repositories: Vec<RepositoryPattern>, service_accounts: Vec<String>, images: Vec<ImagePattern>) -> Self {
        Self { repositories: Repositories::new(repositories), service_accounts, images }
    }

    /// Whether the spec names only what is allowed. Whether an index or a redirect leads elsewhere, the runner finds out.
    pub fn judge(&self, spec: &CoderUpgradeSpec) -> Result<(), Box<Problem>> {
        self.repositories.judge(spec, None)?;
        let job = &spec.job;
        if !self.allows_account(&job.service_account_name) {
            let field = "spec.job.serviceAccountName";
            let what = format!("{field} is {}", job.service_account_name);
            return Err(not_allowed(field, &what, "--allowed-service-accounts", self.service_accounts.iter()));
        }
        if let Some(image) = &job.image
            && !self.allows_image(image)
        {
            let field = "spec.job.image";
            let what = format!("{field} is {image}");
            return Err(not_allowed(field, &what, "--allowed-job-images", self.images.iter()));
        }
        Ok(())
    }

    /// The `ServiceAccount` of a Job. One that is not allowed never counts: a step of a change that has begun then runs under
    /// the default, so that it is not held up by an edit.
    pub fn service_account<'a>(&'a self, job: &'a JobSettings) -> &'a str {
        let wanted = job.service_account_name.as_str();
        if self.allows_account(wanted) {
            return wanted;
        }
        let first = self.service_accounts.iter().find(|name| !name.is_empty());
        if self.allows_account(RUNNER_ACCOUNT) { RUNNER_ACCOUNT } else { first.map_or(RUNNER_ACCOUNT, String::as_str) }
    }

    /// The image that the spec asks for, if it is allowed.
    pub fn image<'a>(&self, job: &'a JobSettings) -> Option<&'a str> {
        job.image.as_deref().filter(|image| self.allows_image(image))
    }

    /// Another text for other flags: what was refused is judged again when they change.
    pub fn fingerprint(&self) -> String {
        let repositories = self.repositories.patterns().collect::<Vec<_>>().join(",");
        let images = self.images.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        short_hash(&[&repositories, &self.service_accounts.join(","), &images], 8)
    }

    fn allows_account(&self, name: &str) -> bool {
        !name.is_empty() && self.service_accounts.iter().any(|allowed| allowed == "*" || allowed == name)
    }

    fn allows_image(&self, image: &str) -> bool {
        self.images.iter().any(|pattern| pattern.allows(image))
    }
}

impl Default for Allowed {
    /// What the controller allows without any flag.
    fn default() -> Self {
        let official = OFFICIAL.iter().filter_map(|text| Address::parse(text).ok()).map(RepositoryPattern::Below);
        Self::new(official.collect(), vec![RUNNER_ACCOUNT.to_owned()], Vec::new())
    }
}

fn not_allowed(field: &str, what: &str, flag: &str, allowed: impl Iterator<Item = impl ToString>) -> Box<Problem> {
    let allowed: Vec<String> = allowed.map(|one| one.to_string()).filter(|one| !one.is_empty()).collect();
    let allowed = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
    let message = format!("{what}, which the controller does not allow ({flag}: {allowed})");
    Problem::new(FailureClass::NotAllowed, message).field(field).boxed()
}

#[cfg(test)]
mod tests;
