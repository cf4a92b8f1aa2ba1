//! Files of a repository over HTTP: from where is allowed only, and with credentials only where they belong.
//!
//! helm follows redirects to wherever they lead, and takes credentials along to other ports of the same host. So the index
//! and the package are fetched here, and each address is judged before it is asked: that of the repository, those in its
//! index, and those that a redirect leads to.

use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, StatusCode, Url, header::LOCATION, redirect::Policy};

use super::outside;
use super::source::{Credentials, PackageSource};
use crate::api::FailureClass;
use crate::core::allowed::{Address, Repositories};
use crate::core::outbound::Outbound;
use crate::core::report::Problem;

/// The file that lists a repository's charts.
pub const INDEX: &str = "index.yaml";
/// How many redirects are followed.
const REDIRECTS: usize = 5;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(15);
/// How long the server may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// How long one file may take in all.
const WHOLE: Duration = Duration::from_secs(90);

/// Fields of the credentials.
const OF_REPOSITORY: &str = "spec.chart.credentialsSecretRef";
const OF_ARCHIVES: &str = "spec.chart.archiveCredentials";

/// A repository's files.
pub struct Downloads {
    repository: Address,
    allowed: Repositories,
    /// What may be sent to what lies below an address.
    credentials: Vec<(Address, String, String)>,
    outbound: Outbound,
    /// Checks the certificate against that of the spec, if there is one.
    own: Client,
}

impl Downloads {
    /// Asks nothing yet.
    pub fn new(source: &PackageSource, allowed: &Repositories, outbound: &Outbound) -> Result<Self, Box<Problem>> {
        let of_repository = source.credentials.iter().map(|found| (&source.address, found, OF_REPOSITORY));
        let of_archives = source.archives.iter().map(|(address, found)| (address, found, OF_ARCHIVES));
        let mut credentials = Vec::new();
        for (address, found, field) in of_repository.chain(of_archives) {
            let Credentials::Basic { username, password } = found else {
                let message =
                    format!("{address} is no oci:// registry; its Secret needs the keys username and password");
                return Err(Problem::new(FailureClass::RepositoryUnauthorized, message).field(field).boxed());
            };
            credentials.push((address.clone(), username.clone(), password.clone()));
        }
        let own = match &source.ca {
            Some(pem) => {
                let authorities = Certificate::from_pem_bundle(pem).ok().filter(|found| !found.is_empty());
                let authorities = authorities.ok_or_else(|| {
                    let message = "ca.crt of the Secret holds no certificate in PEM";
                    Problem::new(FailureClass::RepositoryUnreachable, message).field("spec.chart.caSecretRef").boxed()
                })?;
                client(outbound, Client::builder().tls_certs_only(authorities))?
            }
            // Without TLS it needs no authorities, which a machine may not have.
            None if source.address.is_unencrypted() => client(outbound, Client::builder().tls_certs_only([]))?,
            None => public(outbound)?,
        };
        let (repository, allowed) = (source.address.clone(), allowed.clone());
        Ok(Self { repository, allowed, credentials, outbound: outbound.clone(), own })
    }

    /// A file of the repository. `reference` is its address, or the part of it below the repository's.
    pub async fn get(&self, reference: &str, limit: usize) -> Result<Vec<u8>, Box<Problem>> {
        let mut from = "the index";
        let base = Url::parse(&format!("{}/", self.repository));
        let mut url = base.and_then(|base| base.join(reference)).map_err(|e| self.failed(None, &e.to_string()))?;
        for _ in 0..=REDIRECTS {
            let address = self.judge(&url, from)?;
            let mine = self.repository.holds(&address);
            // The authority of the spec is that of the repository; what lies elsewhere has a public one.
            let asked = if mine || address.is_unencrypted() { self.own.clone() } else { public(&self.outbound)? };
            let asked = asked.get(url.clone());
            let asked = match self.credentials.iter().find(|(below, ..)| below.holds(&address)) {
                Some((_, username, password)) => asked.basic_auth(username, Some(password)),
                None => asked,
            };
            tracing::debug!("GET {address}");
            let answer = asked.send().await.map_err(|e| self.failed(Some(&address), &causes(e)))?;
            let status = answer.status();
            if !status.is_redirection() {
                return if status.is_success() {
                    self.body(&address, answer, limit).await
                } else if status == StatusCode::NOT_FOUND && reference == INDEX {
                    Err(self.failed(Some(&address), &self.no_repository(status)))
                } else {
                    Err(self.refused(&address, status, from))
                };
            }
            let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            url = next.ok_or_else(|| self.failed(Some(&address), &format!("{status} without a usable Location")))?;
            from = "a redirect";
        }
        Err(self.failed(None, &format!("it redirects more than {REDIRECTS} times")))
    }

    /// Whether the address may be asked. A query is not a part of what is allowed, and may hold a signature.
    fn judge(&self, url: &Url, from: &str) -> Result<Address, Box<Problem>> {
        let field = "spec.chart.repository";
        let mut plain = url.clone();
        plain.set_query(None);
        plain.set_fragment(None);
        let leads = format!("{from} of {} leads to", self.repository);
        let no = |why: &str| Problem::new(FailureClass::NotAllowed, format!("{leads} {why}")).field(field).boxed();
        let address = Address::parse(plain.as_str()).map_err(|why| no(&format!("an address that {why}")))?;
        if address.is_registry() {
            return Err(no(&format!("the registry {address}: name that in {field}")));
        }
        if address.is_unencrypted() && !self.repository.is_unencrypted() {
            return Err(no(&format!("{address}, without encryption")));
        }
        if self.repository.holds(&address) || self.allowed.allow(&address) {
            return Ok(address);
        }
        Err(self.allowed.refusal(field, &format!("{leads} {address}")))
    }

    async fn body(
        &self,
        address: &Address,
        mut answer: reqwest::Response,
        limit: usize,
    ) -> Result<Vec<u8>, Box<Problem>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.failed(Some(address), &causes(e)))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > limit {
                let message = format!("{address} is larger than the {} MiB that are read of it", limit >> 20);
                return Err(Problem::new(FailureClass::TooLarge, message).field("spec.chart.repository").boxed());
            }
        }
        Ok(bytes)
    }

    /// What a server answered instead of the file.
    fn refused(&self, address: &Address, status: StatusCode, from: &str) -> Box<Problem> {
        let unauthorized =
            |field, message: String| Problem::new(FailureClass::RepositoryUnauthorized, message).field(field).boxed();
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            let why = format!(
                "the proxy answers {status}; the flag --runner-proxy-secret of the controller names its credentials"
            );
            return self.failed(Some(address), &why);
        }
        if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return self.failed(Some(address), &format!("it answers {status}"));
        }
        if self.repository.holds(address) {
            return unauthorized(OF_REPOSITORY, format!("{address} answers {status}"));
        }
        let sent = match self.credentials.iter().find(|(below, ..)| below.holds(address)) {
            Some(_) => format!("to the credentials of {OF_ARCHIVES}"),
            None => format!(
                "and was sent no credentials: {OF_REPOSITORY} is for {} alone; {OF_ARCHIVES} names another address and its Secret",
                self.repository
            ),
        };
        let message = format!("{address}, to which {from} of {} leads, answers {status} {sent}", self.repository);
        unauthorized(OF_ARCHIVES, message)
    }

    fn no_repository(&self, status: StatusCode) -> String {
        let repository = &self.repository;
        format!(
            "it answers {status}: {repository} is no chart repository (the address of a registry begins with oci://)"
        )
    }

    fn failed(&self, address: Option<&Address>, why: &str) -> Box<Problem> {
        let certificate = address.is_some_and(|address| self.repository.holds(address)) && why.contains("certificate");
        let field = if certificate { "spec.chart.caSecretRef" } else { "spec.chart.repository" };
        let address = address.unwrap_or(&self.repository);
        let way = outside::by_way_of(&self.outbound, address);
        let message = format!("{address} cannot be fetched{way}: {why}");
        Problem::new(FailureClass::RepositoryUnreachable, message).field(field).boxed()
    }
}

/// A client that trusts the authorities of the system, and those of the controller's flags.
fn public(outbound: &Outbound) -> Result<Client, Box<Problem>> {
    client(outbound, Client::builder().tls_certs_merge(outside::authorities(outbound)))
}

fn client(outbound: &Outbound, builder: ClientBuilder) -> Result<Client, Box<Problem>> {
    let builder = outside::client(outbound, builder)?;
    let agent = concat!("coder-upgrade-operator/", env!("CARGO_PKG_VERSION"));
    let builder = builder.redirect(Policy::none()).referer(false).user_agent(agent);
    let built = builder.connect_timeout(CONNECT).read_timeout(SILENCE).timeout(WHOLE).build();
    built.map_err(|e| {
        Problem::new(FailureClass::RepositoryUnreachable, causes(e)).field("spec.chart.caSecretRef").boxed()
    })
}

/// An error with all its causes, and without the URL, whose query may be a secret.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}
