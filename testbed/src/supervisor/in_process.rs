//! The parts of a cluster that run inside the supervisor: chart repositories, stand-ins for load balancers and storage, node.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use kube::Client;
use tokio_util::sync::CancellationToken;

use super::options::ServeOptions;
use super::parts::Parts;
use super::state::StateError;
use super::{NODE_NAME, SupervisorError, resizer, snapshots};
use crate::address_range::AddressRange;
use crate::charts::{self, ChartRepositories, ServerConfig};
use crate::components::{self, Component};
use crate::control_plane::identity::User;
use crate::control_plane::{ControlPlane, ControlPlaneError};
use crate::load_balancer;
use crate::node::{self, BackOff, ImageTable, LogServerConfig, NodeConfig};

/// Chart repositories that serve already, to be added to the parts of the cluster.
pub(super) struct Charts {
    pub(super) repositories: ChartRepositories,
    stop: CancellationToken,
}

/// Packages the charts if need be, and serves them.
pub(super) async fn start_charts(options: &ServeOptions) -> Result<Charts, SupervisorError> {
    let cache = components::cache_dir().map_err(|error| SupervisorError::Charts(error.into()))?.join("charts");
    let helm = program(options, Component::Helm)?;
    let config = ServerConfig { helm, cache, extra: options.dir.join("charts") };
    let stop = CancellationToken::new();
    let served = charts::serve(config, stop.clone()).await;
    Ok(Charts { repositories: served.map_err(|error| SupervisorError::Charts(error.into()))?, stop })
}

impl Charts {
    pub(super) fn join(self, parts: &mut Parts) -> Result<(), StateError> {
        parts.add_task("charts", async move |stop| {
            stop.cancelled().await;
            self.stop.cancel();
            Ok::<(), Infallible>(())
        })
    }
}

/// Starts the load balancer stand-in.
pub(super) fn start_load_balancer(options: &ServeOptions, client: Client, parts: &mut Parts) -> Result<(), StateError> {
    let delay = options.lb_release_delay;
    parts.add_task("load-balancer", async move |stop| {
        load_balancer::run(client, delay, stop).await;
        Ok::<(), Infallible>(())
    })
}

/// Starts the stand-in for a storage driver's resizer.
pub(super) fn start_resizer(client: Client, parts: &mut Parts) -> Result<(), StateError> {
    parts.add_task("resizer", async move |stop| {
        resizer::run(client, stop).await;
        Ok::<(), Infallible>(())
    })
}

/// Starts the stand-in for a snapshot controller.
pub(super) fn start_snapshots(options: &ServeOptions, client: Client, parts: &mut Parts) -> Result<(), StateError> {
    let dir = options.dir.clone();
    parts.add_task("snapshots", async move |stop| {
        snapshots::run(client, dir, stop).await;
        Ok::<(), Infallible>(())
    })
}

/// What runs for which image: the defaults, and before them the rows of the person who starts the cluster.
pub(super) fn images(options: &ServeOptions) -> Result<ImageTable, SupervisorError> {
    let helm = program(options, Component::Helm)?;
    let binaries = options.binaries();
    let defaults = ImageTable::defaults(&options.bin_dir, &helm, binaries.get(Component::Helm3));
    match &options.images {
        Some(file) => Ok(defaults.with_file(file)?),
        None => Ok(defaults),
    }
}

/// Starts the process node.
pub(super) async fn start_node(
    options: &ServeOptions,
    control_plane: &ControlPlane,
    addresses: &AddressRange,
    images: ImageTable,
    parts: &mut Parts,
) -> Result<(), SupervisorError> {
    let pki = &control_plane.pki;
    let config = NodeConfig {
        client: control_plane.client(User::Node).await?,
        api_server_url: control_plane.api_url.clone(),
        ca_pem: pki.authority.clone(),
        node_name: NODE_NAME.to_owned(),
        dir: options.dir.join("node"),
        pod_range: addresses.second_octet(),
        images,
        backoff: BackOff { base: options.restart_back_off, ..BackOff::default() },
        logs: LogServerConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            cert_pem: pki.node.certificate.clone(),
            key_pem: pki.node.key.clone(),
            client_ca_pem: pki.authority.clone(),
        },
    };
    Ok(parts.add_task("node", move |stop| node::run(config, stop))?)
}

fn program(options: &ServeOptions, component: Component) -> Result<std::path::PathBuf, SupervisorError> {
    let path = options.binaries().get(component).map(std::path::Path::to_owned);
    path.ok_or_else(|| ControlPlaneError::Missing(component).into())
}
