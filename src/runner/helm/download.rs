//! Files of a repository over HTTP: from where is allowed only, and with credentials only where they belong.
//!
//! helm follows redirects to wherever they lead, and takes credentials along to other ports of the same host. So the index
//! and the package are fetched here, and each address is judged before it is asked: that of the repository, those in its
//! index, and those that a redirect leads to.

use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, StatusCode, Url, header::LOCATION, redirect::Policy};

use super::pull::{Credentials, Source};
use crate::api::FailureClass;
use crate::core::allowed::{Address, Repositories};
use crate::core::report::Problem;

/// How many redirects are followed.
const REDIRECTS: usize = 5;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(15);
/// How long the server may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// How long one file may take in all.
const WHOLE: Duration = Duration::from_secs(90);

/// A repository's files.
pub struct Downloads {
    repository: Address,
    allowed: Repositories,
    credentials: Option<(String, String)>,
    /// Checks the certificate against that of the spec, if there is one.
    own: Client,
}

impl Downloads {
    /// Asks nothing yet.
    pub fn new(source: &Source, allowed: &Repositories) -> Result<Self, Box<Problem>> {
        let credentials = match &source.credentials {
            Some(Credentials::Basic { username, password }) => Some((username.clone(), password.clone())),
            Some(Credentials::Docker(_)) => {
                let message = format!(
                    "{} is no oci:// registry; its Secret needs the keys username and password",
                    source.address
                );
                return Err(Problem::new(FailureClass::RepositoryUnauthorized, message)
                    .field("spec.chart.credentialsSecret")
                    .boxed());
            }
            None => None,
        };
        let own = match &source.ca {
            Some(pem) => {
                let authorities = Certificate::from_pem_bundle(pem).ok().filter(|found| !found.is_empty());
                let authorities = authorities.ok_or_else(|| {
                    let message = "ca.crt of the Secret holds no certificate in PEM";
                    Problem::new(FailureClass::RepositoryUnreachable, message).field("spec.chart.caSecret").boxed()
                })?;
                client(Client::builder().tls_certs_only(authorities))?
            }
            // Without TLS it needs no authorities, which a machine may not have.
            None if source.address.is_unencrypted() => client(Client::builder().tls_certs_only([]))?,
            None => client(Client::builder())?,
        };
        Ok(Self { repository: source.address.clone(), allowed: allowed.clone(), credentials, own })
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
            let asked = if mine || address.is_unencrypted() { self.own.clone() } else { client(Client::builder())? };
            let asked = asked.get(url.clone());
            let asked = match &self.credentials {
                Some((username, password)) if mine => asked.basic_auth(username, Some(password)),
                _ => asked,
            };
            tracing::debug!("GET {address}");
            let answer = asked.send().await.map_err(|e| self.failed(Some(&address), &causes(e)))?;
            let status = answer.status();
            if !status.is_redirection() {
                return if status.is_success() {
                    self.body(&address, answer, limit).await
                } else {
                    Err(self.refused(&address, status))
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
    fn refused(&self, address: &Address, status: StatusCode) -> Box<Problem> {
        let unauthorized = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if unauthorized && self.repository.holds(address) {
            let message = format!("{address} answers {status}");
            return Problem::new(FailureClass::RepositoryUnauthorized, message)
                .field("spec.chart.credentialsSecret")
                .boxed();
        }
        self.failed(Some(address), &format!("it answers {status}"))
    }

    fn failed(&self, address: Option<&Address>, why: &str) -> Box<Problem> {
        let certificate = address.is_some_and(|address| self.repository.holds(address)) && why.contains("certificate");
        let field = if certificate { "spec.chart.caSecret" } else { "spec.chart.repository" };
        let address = address.unwrap_or(&self.repository);
        let message = format!("{address} cannot be fetched: {why}");
        Problem::new(FailureClass::RepositoryUnreachable, message).field(field).boxed()
    }
}

fn client(builder: ClientBuilder) -> Result<Client, Box<Problem>> {
    let agent = concat!("coder-upgrade-operator/", env!("CARGO_PKG_VERSION"));
    let builder = builder.redirect(Policy::none()).referer(false).user_agent(agent);
    let built = builder.connect_timeout(CONNECT).read_timeout(SILENCE).timeout(WHOLE).build();
    built.map_err(|e| Problem::new(FailureClass::RepositoryUnreachable, causes(e)).field("spec.chart.caSecret").boxed())
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
