//! What all parts of the node share.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Client;
use tokio::sync::watch;

use super::addresses::AddressPool;
use super::{BackOff, ImageTable, NodeConfig, NodeError};

/// The node's address in its own object and in `status.hostIP`.
pub const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What all parts of the node share.
pub struct Node {
    pub client: Client,
    pub name: String,
    pub dir: PathBuf,
    pub api_server_url: String,
    /// Host and port of the API server, for `KUBERNETES_SERVICE_HOST` and `…_PORT`.
    pub api_server: (String, u16),
    pub ca_file: PathBuf,
    pub images: ImageTable,
    pub backoff: BackOff,
    pub addresses: Mutex<AddressPool>,
    /// For probes: no redirects, no proxy, any certificate.
    pub http: reqwest::Client,
    pub control_url: String,
    /// Whether the node speaks to the API server; a lost node goes on working silently.
    pub online: watch::Sender<bool>,
}

impl Node {
    pub fn new(config: NodeConfig, control_url: String) -> Result<Arc<Self>, NodeError> {
        // Containers have working directories of their own.
        let dir = std::path::absolute(&config.dir).map_err(NodeError::file(&config.dir))?;
        fs::create_dir_all(&dir).map_err(NodeError::file(&dir))?;
        let ca_file = dir.join("ca.crt");
        fs::write(&ca_file, &config.ca_pem).map_err(NodeError::file(&ca_file))?;
        // An error says that the process has a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .user_agent("kube-probe/process-node")
            .redirect(reqwest::redirect::Policy::none())
            .tls_danger_accept_invalid_certs(true)
            .build()
            .map_err(|source| NodeError::Http { what: "the client for probes".into(), source })?;
        Ok(Arc::new(Self {
            client: config.client,
            name: config.node_name,
            api_server: host_and_port(&config.api_server_url)?,
            api_server_url: config.api_server_url,
            dir,
            ca_file,
            images: config.images,
            backoff: config.backoff,
            addresses: Mutex::new(AddressPool::new(config.pod_range)?),
            http,
            control_url,
            online: watch::Sender::new(true),
        }))
    }

    /// What the node says it has: far more than a machine, so that no request of a chart keeps a pod from starting.
    pub fn capacity() -> BTreeMap<String, Quantity> {
        [("cpu", "256"), ("memory", "1Ti"), ("ephemeral-storage", "4Ti"), ("pods", "5000")]
            .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
            .into()
    }

    /// Returns when the node may speak to the API server.
    pub async fn online(&self) {
        // The sender lives as long as the node, so waiting cannot fail.
        let _ = self.online.subscribe().wait_for(|online| *online).await;
    }

    /// The directory with links to the tools of an image, for the front of a container's `PATH`.
    pub fn tools(&self, tools: &BTreeMap<String, PathBuf>) -> Result<PathBuf, NodeError> {
        let names: Vec<String> = tools.iter().map(|(name, path)| format!("{name}={}", path.display())).collect();
        let directory = self.dir.join("tools").join(names.join(",").replace('/', "_"));
        fs::create_dir_all(&directory).map_err(NodeError::file(&directory))?;
        for (name, target) in tools {
            let link = directory.join(name);
            if !link.exists() {
                replace_link(&link, target).map_err(NodeError::file(&link))?;
            }
        }
        Ok(directory)
    }
}

/// Two pods may do this at once: the link appears as a whole.
fn replace_link(link: &Path, target: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::symlink;
    match symlink(target, link) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn host_and_port(url: &str) -> Result<(String, u16), NodeError> {
    let refused = || NodeError::Url { url: url.to_owned() };
    let parsed = reqwest::Url::parse(url).map_err(|_| refused())?;
    let host = parsed.host_str().ok_or_else(refused)?.to_owned();
    Ok((host, parsed.port_or_known_default().ok_or_else(refused)?))
}

/// Locks a mutex. A thread that panicked while it held the lock left plain data behind, which is still good.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
