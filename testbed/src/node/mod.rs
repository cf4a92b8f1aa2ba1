//! The process node: a Kubernetes node whose containers are local processes.
//!
//! It needs neither root nor a container runtime. What runs for an image says the [`ImageTable`]. A pod has an address of
//! its own in 127.0.0.0/8 and a directory of its own; there is no mount namespace, so mount paths in commands and
//! variables are translated (`paths`), and `POD_ROOT` names a tree that looks like the container's mounts.
//!
//! - `register`: the Node object and its Lease.
//! - `pods`: the watch; one task for each pod (`pod`), one for each container in it (`container`); `running`: those that run.
//! - `volumes`, `token`, `environment`, `downward`: what a container is given; `sources`, `relation`: what is read for it.
//! - `status`, `events`: what the API server is told.
//! - `log_server`, `logs`: `kubectl logs`.
//! - `control`: faults on request, and the stand-in for cluster DNS.
//! - `guardian`: no process outlives the node.
//!
//! Users, capabilities, resource limits and network policies are accepted and have no effect. SIGTERM goes to a
//! container's first process only, and everything it left behind is killed when it ends, as with a process namespace.

mod addresses;
mod backoff;
mod container;
mod context;
mod control;
mod downward;
mod environment;
mod error;
mod events;
mod expand;
mod guardian;
mod image_ref;
mod images;
mod log_server;
mod logs;
mod paths;
mod pod;
mod pods;
mod register;
mod relation;
mod running;
mod sources;
mod state;
mod status;
mod token;
mod volumes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use self::backoff::BackOff;
use self::context::Node;
pub use self::control::Control;
pub use self::error::NodeError;
pub use self::image_ref::digest_of;
pub use self::images::{ImageRow, ImageTable};
use self::running::Running;

/// What the node is started with.
#[derive(Clone)]
pub struct NodeConfig {
    /// Client with the rights of a node.
    pub client: kube::Client,
    /// Where pods reach the API server, such as `https://127.0.0.1:6443`.
    pub api_server_url: String,
    /// The authority that signed the API server's certificate, for the kubeconfigs of pods.
    pub ca_pem: String,
    /// Name of the Node object.
    pub node_name: String,
    /// Directory of the node; pods, logs and the control address lie in it. It may be used again by a later run.
    pub dir: PathBuf,
    /// Pods get addresses in `127.THIS.0.0/16`.
    pub pod_range: u8,
    /// What runs for which image.
    pub images: ImageTable,
    /// Delays between restarts.
    pub backoff: BackOff,
    /// The server of container logs, which the API server calls.
    pub logs: LogServerConfig,
}

/// The node's TLS server for `kubectl logs`.
#[derive(Debug, Clone)]
pub struct LogServerConfig {
    /// Where it listens; with port 0 a free one is chosen. The port is published in the Node object.
    pub listen: SocketAddr,
    /// Its certificate chain, valid for the listening address.
    pub cert_pem: String,
    /// The key of the certificate.
    pub key_pem: String,
    /// The authority that signed the API server's client certificate; others are turned away.
    pub client_ca_pem: String,
}

/// Runs the node until `shutdown`; then all its processes are killed, as if its power were cut.
///
/// # Errors
/// If it cannot begin: unusable directory, certificates or pod range, no port, or the API server refuses the Node. Later
/// failures of the API server are waited out.
pub async fn run(config: NodeConfig, shutdown: CancellationToken) -> Result<(), NodeError> {
    let logs = log_server::bind(&config.logs).await?;
    let control = control::bind(&config.dir).await?;
    let node = Node::new(config, control.url())?;
    let running = Arc::<Running>::default();
    let _guardian = guardian::Guardian::start(&node.dir)?;
    register::register(&node, logs.port).await?;
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = register::keep_alive(&node, logs.port) => Ok(()),
        () = pods::serve(&node, &running) => Ok(()),
        end = log_server::serve(logs, running.clone()) => end,
        end = control::serve(control, node.clone(), running.clone()) => end,
    }
}
