//! The parts of a cluster that run inside the supervisor: chart repositories, stand-ins for load balancers and storage.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use kube::Client;
use tokio_util::sync::CancellationToken;

use super::options::ServeOptions;
use super::parts::Parts;
use super::state::StateError;
use super::{SupervisorError, resizer, snapshots};
use crate::charts::{self, ChartRepositories, ServerConfig};
use crate::components::{self, Component};
use crate::control_plane::ControlPlaneError;
use crate::load_balancer;

/// Chart repositories that serve already, to be added to the parts of the cluster.
pub(super) struct Charts {
    pub(super) repositories: ChartRepositories,
    stop: CancellationToken,
}

/// Packages the charts if need be, and serves them at `listen`.
pub(super) async fn start_charts(options: &ServeOptions, listen: Ipv4Addr) -> Result<Charts, SupervisorError> {
    let cache = components::cache_dir().map_err(|error| SupervisorError::Charts(error.into()))?.join("charts");
    let helm = program(options, Component::Helm)?;
    let config = ServerConfig { helm, cache, extra: options.dir.join("charts"), listen };
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

pub(super) fn program(options: &ServeOptions, component: Component) -> Result<std::path::PathBuf, SupervisorError> {
    let path = options.binaries().get(component).map(std::path::Path::to_owned);
    path.ok_or_else(|| ControlPlaneError::Missing(component).into())
}
