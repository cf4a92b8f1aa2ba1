//! The node of a cluster, of whichever kind, as it starts.

use std::net::{Ipv4Addr, SocketAddr};

use kube::Client;

use super::in_process::program;
use super::options::ServeOptions;
use super::parts::Parts;
use super::state::NodeKind;
use super::{NODE_NAME, SupervisorError, starting};
use crate::address_range::AddressRange;
use crate::components::{Binaries, Component};
use crate::control_plane::identity::User;
use crate::control_plane::launch::Running;
use crate::control_plane::{ControlPlane, Network};
use crate::node::{self, BackOff, ImageTable, LogServerConfig, NodeConfig};
use crate::real_node::addresses::Addresses;
use crate::real_node::faults::PodFaults;
use crate::real_node::{RealNode, Settings};
use crate::servers::CoderServers;

/// What ends with a real node's power.
const POWERED: [&str; 4] = ["node", "containerd", "kubelet", "kube-proxy"];

/// A node before it registers.
pub(super) enum Starting<'a> {
    Process { options: &'a ServeOptions, pod_range: u8, images: ImageTable },
    Real { node: Box<RealNode<'a>>, network: Network },
}

impl<'a> Starting<'a> {
    /// Does what must be done before the control plane starts: a real node makes the network at which it listens. That lives as
    /// long as the process that is returned with it.
    pub(super) async fn open(
        options: &'a ServeOptions,
        addresses: &AddressRange,
        binaries: &'a Binaries,
    ) -> Result<(Self, Option<Running>), SupervisorError> {
        match options.node {
            NodeKind::Process => {
                let pod_range = addresses.second_octet();
                Ok((Self::Process { options, pod_range, images: images(options)? }, None))
            }
            NodeKind::Real => {
                starting("the node's namespaces");
                let addresses = Addresses::new(addresses.second_octet());
                let ServeOptions { dir: cluster, operator, bin_dir, .. } = options;
                let servers = options.coder_binaries.as_deref().map(CoderServers::open).transpose()?;
                let settings = Settings { cluster, name: NODE_NAME, addresses, binaries, operator, servers, bin_dir };
                let (node, first) = RealNode::open(settings).await?;
                Ok((Self::Real { node: Box::new(node), network: addresses.network() }, Some(first)))
            }
        }
    }

    /// Where the parts of the cluster reach each other.
    pub(super) fn network(&self) -> Network {
        match self {
            Self::Process { .. } => Network::loopback(),
            Self::Real { network, .. } => network.clone(),
        }
    }

    /// Starts containerd with its images, on a real node.
    pub(super) async fn start_containerd(&self) -> Result<Option<Running>, SupervisorError> {
        match self {
            Self::Process { .. } => Ok(None),
            Self::Real { node, .. } => {
                starting("containerd, with the images");
                Ok(Some(node.start_containerd().await?))
            }
        }
    }

    /// Starts what registers the node and runs pods. `containerd` runs already and is stopped after it.
    pub(super) async fn start(
        &self,
        control_plane: &ControlPlane,
        containerd: Option<Running>,
        parts: &mut Parts,
    ) -> Result<(), SupervisorError> {
        if let Some(process) = containerd {
            parts.add_process(process)?;
        }
        match self {
            Self::Process { options, pod_range, images } => {
                let config = process_node(options, control_plane, *pod_range, images.clone()).await?;
                Ok(parts.add_task("node", move |stop| node::run(config, stop))?)
            }
            Self::Real { node, .. } => {
                for process in node.start_kubernetes(control_plane).await? {
                    parts.add_process(process)?;
                }
                let faults = PodFaults::register(control_plane.client(User::TestBed).await?).await?;
                Ok(parts.add_task("pod-faults", move |stop| faults.serve(stop))?)
            }
        }
    }

    /// Cuts the power of a real node and starts it again; its pods begin anew with what their volumes hold. A process node has no
    /// power.
    pub(super) async fn power_cycle(
        &mut self,
        control_plane: &ControlPlane,
        parts: &mut Parts,
    ) -> Result<(), SupervisorError> {
        let Self::Real { node, .. } = self else { return Ok(()) };
        tracing::info!("the node's power is cut");
        let first = node.power_cycle().await?;
        parts.forget(&POWERED).await;
        parts.add_first(first)?;
        parts.add_process(node.restart_containerd().await?)?;
        for process in node.start_kubernetes(control_plane).await? {
            parts.add_process(process)?;
        }
        Ok(())
    }

    /// Starts the cluster's DNS, on a real node.
    pub(super) async fn start_dns(&self, client: &Client) -> Result<(), SupervisorError> {
        match self {
            Self::Process { .. } => Ok(()),
            Self::Real { node, .. } => {
                starting("DNS");
                Ok(node.start_dns(client).await?)
            }
        }
    }
}

/// What runs for which image: the defaults, and before them the rows of the person who starts the cluster.
fn images(options: &ServeOptions) -> Result<ImageTable, SupervisorError> {
    let helm = program(options, Component::Helm)?;
    let binaries = options.binaries();
    let defaults = ImageTable::defaults(&options.operator, &options.bin_dir, &helm, binaries.get(Component::Helm3));
    let defaults = match &options.coder_binaries {
        Some(directory) => defaults.with_rows(CoderServers::open(directory)?.rows()),
        None => defaults,
    };
    match &options.images {
        Some(file) => Ok(defaults.with_file(file)?),
        None => Ok(defaults),
    }
}

async fn process_node(
    options: &ServeOptions,
    control_plane: &ControlPlane,
    pod_range: u8,
    images: ImageTable,
) -> Result<NodeConfig, SupervisorError> {
    let pki = &control_plane.pki;
    Ok(NodeConfig {
        client: control_plane.client(User::Node).await?,
        api_server_url: control_plane.api_url.clone(),
        ca_pem: pki.authority.clone(),
        node_name: NODE_NAME.to_owned(),
        dir: options.dir.join("node"),
        pod_range,
        images,
        backoff: BackOff { base: options.restart_back_off, ..BackOff::default() },
        logs: LogServerConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            cert_pem: pki.node.certificate.clone(),
            key_pem: pki.node.key.clone(),
            client_ca_pem: pki.authority.clone(),
        },
    })
}
