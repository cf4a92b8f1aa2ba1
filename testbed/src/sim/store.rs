//! How a server reaches its database.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode, Url};

use super::database::{LOGIN, Login, Transaction};
use super::log;
use super::record::{Line, Record, RecordFile, WriteError};
use super::settings::Settings;
use super::{SimError, faults, schema};

/// Pause before an unreachable database is asked again.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a migration may take: longer than anything runs here.
const UNLIMITED: Duration = Duration::from_secs(24 * 3600);
/// `PostgreSQL`'s port.
const DEFAULT_PORT: u16 = 5432;

/// A server's database.
#[derive(Debug)]
pub enum Store {
    /// In the container's own directory: gone with the container, as in Coder when no database is configured.
    Embedded(RecordFile),
    /// Somewhere else.
    Remote(Remote),
    /// Nowhere: its address cannot be understood. Coder v2 notices that at each try to connect.
    Nowhere(String),
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
    /// User, password and name of the database, as the URL has them.
    login: Option<Login>,
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
    /// It answers, and refuses: `PostgreSQL`'s own words.
    #[error("pq: {0}")]
    Refused(String),
    /// Its address cannot be understood.
    #[error("missing \"=\" after {0:?} in connection info string\"")]
    Nowhere(String),
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
        let mut login = None;
        let (host, port) = if let Some(url) = settings.get("CODER_PG_CONNECTION_URL") {
            let Some(found) = host_and_port(url) else { return Ok(Self::Nowhere(url.to_owned())) };
            login = Login::of(url);
            found
        } else if let Some(host) = settings.get("DB_HOST") {
            let port = settings.get("DB_PORT").map_or(Ok(DEFAULT_PORT), str::parse);
            let port = port.map_err(|_| SimError::Settings("DB_PORT is no port".into()))?;
            (host.to_owned(), port)
        } else {
            let path = PathBuf::from(settings.get("HOME").unwrap_or(".")).join(".config").join("coderv2");
            let file = RecordFile::open(&path).map_err(|source| SimError::File { path: path.clone(), source })?;
            println!("Using built-in PostgreSQL ({})", path.display());
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
            login,
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

    /// Reads the record, once.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub(super) async fn try_read(&self) -> Result<Record, StoreError> {
        match self {
            Self::Embedded(file) => file.read().map_err(|error| unreachable("localhost", &error)),
            Self::Remote(remote) => remote.ask(remote.http.get(remote.url("record").await?)).await,
            Self::Nowhere(url) => Err(StoreError::Nowhere(url.clone())),
        }
    }

    /// Has the database migrate itself, and returns the record after it. Nothing limits the time that this takes.
    ///
    /// # Errors
    /// If it does not answer any more, or refuses; then nothing is changed.
    pub(super) async fn migrate(&self, work: &Transaction) -> Result<Record, StoreError> {
        match self {
            Self::Embedded(file) => {
                tokio::time::sleep(Duration::from_millis(work.milliseconds)).await;
                let record = self.try_read().await?;
                let new = Record { line: Some(Line::V2), schema: work.schema, ..record };
                file.write(&new).map_err(|error| unreachable("localhost", &error))?;
                Ok(new)
            }
            Self::Remote(remote) => {
                let asked = remote.http.post(remote.url("migrate").await?).timeout(UNLIMITED).json(work);
                remote.ask(asked).await
            }
            Self::Nowhere(url) => Err(StoreError::Nowhere(url.clone())),
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
                let failed = |error: reqwest::Error| remote.unreachable(&error);
                let answer = remote.http.put(remote.url("record").await?).json(record).send().await.map_err(failed)?;
                if answer.status() == StatusCode::CONFLICT {
                    return Err(StoreError::Conflict);
                }
                answer.error_for_status().map(drop).map_err(failed)
            }
            Self::Nowhere(url) => Err(StoreError::Nowhere(url.clone())),
        }
    }
}

impl Remote {
    async fn url(&self, path: &str) -> Result<String, StoreError> {
        let address = self.resolve().await?;
        Ok(format!("http://{address}:{}/{path}", self.port))
    }

    fn unreachable(&self, error: &reqwest::Error) -> StoreError {
        unreachable(&format!("{}:{}", self.host, self.port), error)
    }

    /// Logs in, asks, and reads the record that is answered.
    async fn ask(&self, asked: RequestBuilder) -> Result<Record, StoreError> {
        let failed = |error: reqwest::Error| self.unreachable(&error);
        let asked = match &self.login {
            Some(login) => asked.header(LOGIN, login.to_string()),
            None => asked,
        };
        let answer = asked.send().await.map_err(failed)?;
        if answer.status() == StatusCode::UNPROCESSABLE_ENTITY {
            return Err(StoreError::Refused(answer.text().await.map_err(failed)?));
        }
        answer.error_for_status().map_err(failed)?.json().await.map_err(failed)
    }

    /// A name of a Service is resolved by the node; addresses, and names that are none of a Service, stay as they are.
    async fn resolve(&self) -> Result<String, StoreError> {
        let Some(resolver) = self.resolver.as_ref().filter(|_| self.host.parse::<IpAddr>().is_err()) else {
            return Ok(self.host.clone());
        };
        let (service, namespace) = service(&self.host, &self.namespace);
        let failed = |error: reqwest::Error| self.unreachable(&error);
        let answer = self.http.get(format!("{resolver}/resolve/{namespace}/{service}")).send().await.map_err(failed)?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(self.host.clone());
        }
        let addresses: Vec<String> = answer.error_for_status().map_err(failed)?.json().await.map_err(failed)?;
        let none = || StoreError::Unreachable {
            host: format!("{}:{}", self.host, self.port),
            reason: "connect: connection refused".into(),
        };
        addresses.into_iter().next().ok_or_else(none)
    }
}

/// With the words of Coder's system.
fn unreachable(host: &str, error: &dyn std::error::Error) -> StoreError {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let reason = cause.to_string();
    let refused = reason.starts_with("Connection refused");
    let reason = if refused { "connect: connection refused".to_owned() } else { reason };
    StoreError::Unreachable { host: host.to_owned(), reason }
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
    let wanted = schema::wanted(&settings.version, faults::own_migrations(settings, &record), &record)?;
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
