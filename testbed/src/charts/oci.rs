//! An OCI registry, for charts at `oci://` addresses.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::package::pack;
use super::tls::ServerIdentity;
use super::{ChartError, Row, charts_dir, helm};
use crate::{process, secret};

/// The user of a registry that asks for credentials.
const USER: &str = "pusher";
/// How long a registry may take until it answers.
const START: Duration = Duration::from_secs(20);
/// A free port may be taken by somebody else before the registry has it.
const PORTS_TO_TRY: usize = 3;

/// What kind of registry is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct OciOptions {
    /// HTTPS with a certificate of an authority made for it; otherwise plain HTTP.
    pub tls: bool,
    /// Ask for user and password, to push and to pull.
    pub credentials: bool,
}

/// A running registry. It ends when this value is dropped, or with this process.
#[derive(Debug)]
pub struct OciRegistry {
    /// Where `helm push` puts charts: `oci://ADDRESS:PORT/charts`. The chart itself is at `URL/coder`.
    pub url: String,
    /// User and password, if it asks for them.
    pub credentials: Option<(String, String)>,
    /// The certificate authority of a registry with TLS.
    pub ca_pem: Option<String>,
    ca_file: PathBuf,
    directory: PathBuf,
    _process: Child,
}

impl OciRegistry {
    /// Starts the program `registry` with everything it keeps in `directory`, and waits until it listens at the address `listen`.
    pub async fn start(
        registry: &Path,
        directory: &Path,
        listen: Ipv4Addr,
        options: OciOptions,
    ) -> Result<Self, ChartError> {
        fs::create_dir_all(directory).map_err(ChartError::at(directory))?;
        let mut http = serde_json::Map::new();
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": directory.join("data")}},
        });
        let ca_file = directory.join("ca.pem");
        let mut ca_pem = None;
        if options.tls {
            let identity = ServerIdentity::of(&[&listen.to_string()])?;
            let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
            write(&certificate, &identity.certificate_pem)?;
            write(&key, &identity.key_pem)?;
            write(&ca_file, &identity.ca_pem)?;
            http.insert("tls".to_owned(), json!({"certificate": certificate, "key": key}));
            ca_pem = Some(identity.ca_pem);
        }
        let mut credentials = None;
        if options.credentials {
            let (password, file) = (secret::token().map_err(ChartError::Random)?, directory.join("htpasswd"));
            let hash = bcrypt::hash(&password, 4).map_err(|error| ChartError::Hash(error.to_string()))?;
            write(&file, &format!("{USER}:{hash}\n"))?;
            config["auth"] = json!({"htpasswd": {"realm": "charts", "path": file}});
            credentials = Some((USER.to_owned(), password));
        }
        config["http"] = Value::Object(http);
        let (process, address) = run(registry, directory, listen, config).await?;
        let url = format!("oci://{address}/charts");
        Ok(Self { url, credentials, ca_pem, ca_file, directory: directory.to_owned(), _process: process })
    }

    /// Packages a chart and pushes it.
    pub async fn push(&self, helm: &Path, row: &Row) -> Result<(), ChartError> {
        let work = tempfile::tempdir_in(&self.directory).map_err(ChartError::at(&self.directory))?;
        let home = work.path().join("home");
        pack(helm, &home, &charts_dir(), row, work.path().to_owned()).await?;
        let archive = work.path().join(format!("coder-{}.tgz", row.version));
        let (archive, ca_file) = (archive.to_string_lossy(), self.ca_file.to_string_lossy());
        let mut arguments = vec!["push", &archive, &self.url];
        match &self.ca_pem {
            Some(_) => arguments.extend(["--ca-file", &ca_file]),
            None => arguments.push("--plain-http"),
        }
        if let Some((user, password)) = &self.credentials {
            arguments.extend(["--username", user, "--password", password]);
        }
        helm::run(helm, &home, &arguments).await
    }
}

/// Starts the process on a free port; on another one if that is taken meanwhile.
async fn run(
    registry: &Path,
    directory: &Path,
    listen: Ipv4Addr,
    mut config: Value,
) -> Result<(Child, SocketAddr), ChartError> {
    let (config_file, log) = (directory.join("config.yml"), directory.join("registry.log"));
    let mut problem = String::new();
    for _ in 0..PORTS_TO_TRY {
        let address = free_address(listen)?;
        config["http"]["addr"] = json!(address);
        // JSON is YAML, too.
        write(&config_file, &config.to_string())?;
        let mut command = Command::new(registry);
        command.arg("serve").arg(&config_file).env("OTEL_TRACES_EXPORTER", "none");
        process::log_to(&mut command, &log).map_err(ChartError::at(&log))?;
        let start = |source| ChartError::Start { program: registry.to_owned(), source };
        let mut child = process::spawn(command).await.map_err(start)?;
        match listening(&mut child, address).await.map_err(start)? {
            Started::Listening => return Ok((child, address)),
            Started::Failed(what) => problem = what,
        }
    }
    Err(ChartError::Registry { problem, log })
}

enum Started {
    Listening,
    Failed(String),
}

/// Waits until somebody listens at `address` while the process is alive.
async fn listening(child: &mut Child, address: SocketAddr) -> std::io::Result<Started> {
    let deadline = Instant::now() + START;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Started::Failed(format!("it ended with {status}")));
        }
        if TcpStream::connect(address).is_ok() {
            return Ok(Started::Listening);
        }
        if Instant::now() > deadline {
            return Ok(Started::Failed(format!("nobody listens at {address} after {} s", START.as_secs())));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn free_address(listen: Ipv4Addr) -> Result<SocketAddr, ChartError> {
    TcpListener::bind((listen, 0)).and_then(|listener| listener.local_addr()).map_err(ChartError::Listen)
}

fn write(path: &Path, text: &str) -> Result<(), ChartError> {
    fs::write(path, text).map_err(ChartError::at(path))
}
