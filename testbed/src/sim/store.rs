//! How a server reaches its database.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{StatusCode, Url};

use super::log;
use super::record::{Record, RecordFile, WriteError};
use super::settings::Settings;
use super::{SimError, schema};

/// Pause before an unreachable database is asked again.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// `PostgreSQL`'s port.
const DEFAULT_PORT: u16 = 5432;

/// A server's database.
#[derive(Debug)]
pub enum Store {
    /// In the container's own directory: gone with the container, as in Coder when no database is configured.
    Embedded(RecordFile),
    /// Somewhere else.
    Remote(Remote),
}

/// A database reached over the network.
#[derive(Debug)]
pub struct Remote {
    host: String,
    port: u16,
    /// The node's stand-in for cluster DNS.
    resolver: Option<String>,
    /// The pod's namespace, for names without one.
    namespace: String,
    http: reqwest::Client,
}

/// Why an attempt to use the database failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not answer.
    #[error("dial tcp {host}: {reason}")]
    Unreachable {
        /// The host as configured.
        host: String,
        /// What went wrong.
        reason: String,
    },
    /// Somebody else has changed it meanwhile.
    #[error("pq: could not serialize access due to concurrent update")]
    Conflict,
}

impl Store {
    /// The database that the environment names: `CODER_PG_CONNECTION_URL`, or `DB_HOST` and `DB_PORT` of Coder Classic.
    ///
    /// # Errors
    /// If what it names cannot be understood, or the embedded database has no directory.
    pub fn new(settings: &Settings) -> Result<Self, SimError> {
        let (host, port) = if let Some(url) = settings.get("CODER_PG_CONNECTION_URL") {
            host_and_port(url).ok_or_else(|| {
                SimError::Settings("CODER_PG_CONNECTION_URL looks like postgres://user:password@host:5432/coder".into())
            })?
        } else if let Some(host) = settings.get("DB_HOST") {
            let port = settings.get("DB_PORT").map_or(Ok(DEFAULT_PORT), str::parse);
            let port = port.map_err(|_| SimError::Settings("DB_PORT is no port".into()))?;
            (host.to_owned(), port)
        } else {
            let path = PathBuf::from(settings.get("HOME").unwrap_or(".")).join(".config").join("coderv2");
            let file = RecordFile::open(&path).map_err(|source| SimError::File { path: path.clone(), source })?;
            log("warn", &format!("using built-in PostgreSQL ({}); it is gone with this container", path.display()));
            return Ok(Self::Embedded(file));
        };
        // An error says that there is a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build();
        Ok(Self::Remote(Remote {
            host,
            port,
            resolver: settings.get("CODER_SIM_RESOLVER").map(str::to_owned),
            namespace: settings.get("CODER_SIM_NAMESPACE").unwrap_or("default").to_owned(),
            http: http.map_err(|error| SimError::Settings(format!("HTTP client: {error}")))?,
        }))
    }

    /// Reads the record, and waits for the database as long as it does not answer.
    pub async fn read(&self) -> Record {
        loop {
            match self.try_read().await {
                Ok(record) => return record,
                Err(error) => {
                    log("warn", &format!("connect to postgres: ping postgres: {error}; trying again"));
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    async fn try_read(&self) -> Result<Record, StoreError> {
        match self {
            Self::Embedded(file) => file.read().map_err(|error| unreachable("localhost", &error)),
            Self::Remote(remote) => {
                let failed = |error: reqwest::Error| unreachable(&remote.host, &error);
                let answer = remote.http.get(remote.url().await?).send().await.map_err(failed)?;
                answer.error_for_status().map_err(failed)?.json().await.map_err(failed)
            }
        }
    }

    /// Writes a record that was made from the current one.
    ///
    /// # Errors
    /// If somebody else was faster, or the database does not answer.
    pub async fn write(&self, record: &Record) -> Result<(), StoreError> {
        match self {
            Self::Embedded(file) => file.write(record).map_err(|error| match error {
                WriteError::Conflict => StoreError::Conflict,
                WriteError::File(error) => unreachable("localhost", &error),
            }),
            Self::Remote(remote) => {
                let failed = |error: reqwest::Error| unreachable(&remote.host, &error);
                let answer = remote.http.put(remote.url().await?).json(record).send().await.map_err(failed)?;
                if answer.status() == StatusCode::CONFLICT {
                    return Err(StoreError::Conflict);
                }
                answer.error_for_status().map(drop).map_err(failed)
            }
        }
    }
}

impl Remote {
    async fn url(&self) -> Result<String, StoreError> {
        let address = self.resolve().await?;
        Ok(format!("http://{address}:{}/record", self.port))
    }

    /// A name of a Service is resolved by the node; addresses, and names that are none of a Service, stay as they are.
    async fn resolve(&self) -> Result<String, StoreError> {
        let Some(resolver) = self.resolver.as_ref().filter(|_| self.host.parse::<IpAddr>().is_err()) else {
            return Ok(self.host.clone());
        };
        let (service, namespace) = service(&self.host, &self.namespace);
        let failed = |error: reqwest::Error| unreachable(&self.host, &error);
        let answer = self.http.get(format!("{resolver}/resolve/{namespace}/{service}")).send().await.map_err(failed)?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(self.host.clone());
        }
        let addresses: Vec<String> = answer.error_for_status().map_err(failed)?.json().await.map_err(failed)?;
        let none = || StoreError::Unreachable {
            host: self.host.clone(),
            reason: "connection refused (the Service has no ready pod)".into(),
        };
        addresses.into_iter().next().ok_or_else(none)
    }
}

fn unreachable(host: &str, error: &dyn std::error::Error) -> StoreError {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    StoreError::Unreachable { host: host.to_owned(), reason: cause.to_string() }
}

/// Service and namespace of `SERVICE[.NAMESPACE[.svc…]]`.
fn service<'a>(host: &'a str, namespace: &'a str) -> (&'a str, &'a str) {
    let mut labels = host.split('.');
    (labels.next().unwrap_or(host), labels.next().unwrap_or(namespace))
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let url = Url::parse(url).ok()?;
    Some((url.host_str().filter(|host| !host.is_empty())?.to_owned(), url.port().unwrap_or(DEFAULT_PORT)))
}

/// Waits for the database and checks that `settings.version` may run on it.
///
/// # Errors
/// If it may not.
pub async fn check(store: &Store, settings: &Settings) -> Result<(Record, Option<u64>), SimError> {
    let record = store.read().await;
    let wanted = schema::wanted(&settings.version, &record)?;
    Ok((record, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_urls() {
        for (url, expected) in [
            ("postgres://coder:geheim@database:5433/coder?sslmode=disable", Some(("database", 5433))),
            ("postgresql://coder@db.coder.svc.cluster.local/coder", Some(("db.coder.svc.cluster.local", 5432))),
            ("database:5432", None),
        ] {
            assert_eq!(host_and_port(url), expected.map(|(host, port)| (host.to_owned(), port)), "{url}");
        }
    }

    #[test]
    fn names_of_services() {
        assert_eq!(service("database", "coder"), ("database", "coder"));
        assert_eq!(service("database.prod", "coder"), ("database", "prod"));
        assert_eq!(service("timescale.prod.svc.cluster.local", "coder"), ("timescale", "prod"));
    }
}
