//! The real node: a kubelet with containerd, in namespaces of its own on this machine, for root.
//!
//! - `host`: what the machine must have, and the command that installs it;
//! - `addresses`: the network `10.N.0.0/16` of one cluster;
//! - `space`, `first_process`: the namespaces (mounts, network, processes, IPC, host name); with their first process, the
//!   kernel ends every process, mount, rule and interface in them;
//! - `cgroups`: those of the pods, which are the machine's and are removed at the end;
//! - `network`: the cable to the machine, the network of pods, kube-proxy;
//! - `containerd`, `kubelet`: their settings;
//! - `images`, `oci`, `dockerfile`: this workspace's programs as images;
//! - `dns`: the cluster's DNS;
//! - `faults`: what pods ask for by annotations.
//!
//! The control plane runs on the machine, as with the process node, and is reached over the cable.

pub(crate) mod addresses;
mod cgroups;
mod containerd;
mod dns;
mod dockerfile;
pub(crate) mod faults;
pub mod first_process;
mod host;
mod images;
mod kubelet;
mod network;
mod oci;
mod space;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use host::{Host, Unfit};
pub use images::{ImageError, lay_out_operator, postgres_image};
use kube::Client;
pub use oci::Config as ImageConfig;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use self::addresses::Addresses;
use self::first_process::Arguments;
use self::space::Space;
use crate::components::{Binaries, Component};
use crate::control_plane::ControlPlane;
use crate::control_plane::identity::User;
use crate::control_plane::launch::{LaunchError, Running};
use crate::private_file;
use crate::process::{Identity, Signal};
use crate::servers::CoderServers;

/// The file in the cluster's directory with the [`Remains`].
const REMAINS: &str = "node-remains.json";
/// The kernel ends thousands of processes in less.
const END: Duration = Duration::from_secs(30);

/// Where the kubelet serves, once it works.
const KUBELET_PORT: u16 = 10250;
/// What it ends with while containerd is starting.
const NOT_YET: &str = "server is not initialized yet";
const KUBELET_STARTS: u32 = 60;
const KUBELET_PAUSE: Duration = Duration::from_millis(500);

/// Why a real node does not run.
#[derive(Debug, thiserror::Error)]
pub enum RealNodeError {
    /// The machine cannot run one.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// A program of it did not start, or did not become ready.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A command failed.
    #[error("`{line}` failed: {said}")]
    Command {
        /// The command line.
        line: String,
        /// What it said.
        said: String,
    },
    /// A file cannot be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cgroup of the pods cannot be made.
    #[error("cannot make the cgroup of the pods: {0}")]
    Cgroups(io::Error),
    /// The images cannot be made.
    #[error(transparent)]
    Images(#[from] ImageError),
    /// The first process ended while it was looked for.
    #[error("the first process of the node ended at once")]
    Lost,
    /// The cluster's DNS does not work.
    #[error("the cluster's DNS: {0}")]
    Dns(String),
    /// The webhook for faults cannot be served.
    #[error("the webhook for faults of pods: {0}")]
    Faults(String),
}

/// What a node is made of.
#[derive(Debug, Clone)]
pub(crate) struct Settings<'a> {
    /// The directory of the cluster.
    pub(crate) cluster: &'a Path,
    pub(crate) name: &'a str,
    pub(crate) addresses: Addresses,
    pub(crate) binaries: &'a Binaries,
    /// Servers of Coder that get images.
    pub(crate) servers: Option<CoderServers>,
    /// The program in the operator's image, if there is one.
    pub(crate) operator: &'a Path,
    /// Where the programs of this workspace lie, `testbed` among them.
    pub(crate) bin_dir: &'a Path,
}

/// A node that has its namespaces and is connected to the machine.
#[derive(Debug)]
pub(crate) struct RealNode<'a> {
    settings: Settings<'a>,
    dir: PathBuf,
    host: Host,
    space: Space,
}

impl<'a> RealNode<'a> {
    /// Makes the namespaces and lays the cable: from then on the machine has the address that the API server listens at.
    pub(crate) async fn open(settings: Settings<'a>) -> Result<(Self, Running), RealNodeError> {
        let Settings { cluster, name, addresses, bin_dir, .. } = settings;
        let host = examine(cluster, bin_dir, settings.binaries)?;
        let dir = cluster.join("node");
        fs::create_dir_all(&dir).map_err(|source| RealNodeError::File { path: dir.clone(), source })?;
        let mut remains = Remains { name: addresses.name(), first_process: None };
        remains.write(cluster)?;
        cgroups::create(&addresses.name()).map_err(RealNodeError::Cgroups)?;
        let arguments = Arguments { dir: dir.clone(), hostname: name.to_owned() };
        let (space, first) = Space::open(&host, &bin_dir.join("testbed"), cluster, &arguments).await?;
        remains.first_process = Identity::of(space.pid());
        remains.write(cluster)?;
        network::connect(&host, &space, addresses)?;
        Ok((Self { settings, dir, host, space }, first))
    }

    /// Cuts the node's power and begins again with what is on its disk: every process ends at once, without a signal that it
    /// could handle, and the cable is laid anew.
    pub(crate) async fn power_cycle(&mut self) -> Result<Running, RealNodeError> {
        let cluster = self.settings.cluster.to_owned();
        let cut = |source| RealNodeError::File { path: self.settings.cluster.join(REMAINS), source };
        let first = Identity::of(self.space.pid()).map(Identity::open).transpose().map_err(cut)?.flatten();
        if let Some(first) = first {
            first.signal(Signal::KILL).map_err(cut)?;
        }
        let removed = spawn_blocking(move || remove_remains(&cluster)).await;
        removed.map_err(io::Error::other).flatten().map_err(cut)?;
        let (again, first) = Self::open(self.settings.clone()).await?;
        *self = again;
        Ok(first)
    }

    /// Starts containerd with what it has.
    pub(crate) async fn restart_containerd(&self) -> Result<Running, RealNodeError> {
        let networks = network::configure_pods(&self.dir, self.settings.addresses)?;
        containerd::start(self.settings.cluster, &self.dir, &self.host, &self.space, &networks).await
    }

    /// Starts containerd and gives it the images.
    pub(crate) async fn start_containerd(&self) -> Result<Running, RealNodeError> {
        let Settings { operator, bin_dir, binaries, servers, .. } = &self.settings;
        let (archive, sim) = (self.dir.join("images.tar"), bin_dir.join("coder-sim"));
        let (operator, servers, binaries) = (operator.to_path_buf(), servers.clone(), (*binaries).clone());
        let write = spawn_blocking(move || images::write(&archive, &sim, servers.as_ref(), &operator, &binaries));
        let containerd = self.restart_containerd().await?;
        let archive = write.await.map_err(|error| ImageError::File(io::Error::other(error)))??;
        containerd::import(&self.host, &self.space, archive.clone()).await?;
        fs::remove_file(&archive).map_err(|source| RealNodeError::File { path: archive, source })?;
        Ok(containerd)
    }

    /// Starts kubelet and kube-proxy, in this order. They run when this returns; the Node becomes ready later.
    pub(crate) async fn start_kubernetes(&self, control_plane: &ControlPlane) -> Result<[Running; 2], RealNodeError> {
        let Settings { addresses, name, .. } = self.settings;
        let kubeconfig = |user| control_plane.identities.kubeconfig_file(user);
        let (dir, pki) = (&self.dir, &control_plane.pki);
        let kubelet = kubelet::configure(dir, addresses, name, pki, &kubeconfig(User::Node))?;
        let proxy = network::configure_proxy(dir, &self.host, addresses, name, &kubeconfig(User::KubeProxy))?;
        let kubelet = self.start_kubelet(kubelet).await?;
        Ok([kubelet, self.start(Component::KubeProxy, proxy, async || true).await?])
    }

    /// Starts the kubelet, again and again as systemd does: it ends when containerd, which answers other programs by then, still looks at
    /// the containers from before a power cut.
    async fn start_kubelet(&self, arguments: Vec<String>) -> Result<Running, RealNodeError> {
        let port = (self.settings.addresses.node(), KUBELET_PORT);
        for _ in 1..KUBELET_STARTS {
            let serves = async || TcpStream::connect(port).await.is_ok();
            match self.start(Component::Kubelet, arguments.clone(), serves).await {
                Err(RealNodeError::Launch(LaunchError::Ended { tail, .. })) if tail.contains(NOT_YET) => {
                    sleep(KUBELET_PAUSE).await;
                }
                done => return done,
            }
        }
        self.start(Component::Kubelet, arguments, async || true).await
    }

    /// Starts the cluster's DNS and returns when it answers at its Service.
    pub(crate) async fn start_dns(&self, client: &Client) -> Result<(), RealNodeError> {
        dns::start(client, self.settings.addresses).await
    }

    async fn start(
        &self,
        component: Component,
        arguments: Vec<String>,
        serves: impl AsyncFn() -> bool,
    ) -> Result<Running, RealNodeError> {
        let missing =
            || RealNodeError::Command { line: component.name().to_owned(), said: "it was not given".to_owned() };
        let program = self.settings.binaries.get(component).ok_or_else(missing)?;
        let named = (component.name(), Some(component.version()));
        Ok(self.space.launch(self.settings.cluster, named, program, arguments, serves).await?)
    }
}

/// Whether this machine can run the node of a cluster in `cluster`, and with what.
pub(crate) fn examine(cluster: &Path, bin_dir: &Path, binaries: &Binaries) -> Result<Host, Unfit> {
    let programs = binaries.iter().filter_map(|(_, path)| path.parent());
    Host::examine(&[cluster, bin_dir].into_iter().chain(programs).collect::<Vec<_>>())
}

/// What a killed supervisor cannot remove from the machine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remains {
    /// Name of cgroup and cable.
    name: String,
    /// The kernel lets it end as the last of the node's processes, each of which may still make a cgroup.
    first_process: Option<Identity>,
}

impl Remains {
    fn write(&self, cluster: &Path) -> Result<(), RealNodeError> {
        let path = cluster.join(REMAINS);
        let text = serde_json::to_string(self)
            .map_err(|error| RealNodeError::File { path: path.clone(), source: error.into() })?;
        write(&path, &text)
    }
}

/// Removes from the machine what a node leaves there whose first process ends: its cgroups, and the cable if the kernel has
/// not done so yet. Does nothing for a cluster that had no real node.
///
/// # Errors
/// When something cannot be removed.
pub(crate) fn remove_remains(cluster: &Path) -> io::Result<()> {
    let file = cluster.join(REMAINS);
    let remains = match fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        remains => remains?,
    };
    let Remains { name, first_process } = serde_json::from_slice(&remains)?;
    if let Some(process) = first_process.map(Identity::open).transpose()?.flatten()
        && !process.ends_within(END)?
    {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "processes of the node do not end"));
    }
    network::disconnect(&name)?;
    cgroups::remove(&name)?;
    fs::remove_file(file)
}

fn write(path: &Path, text: &str) -> Result<(), RealNodeError> {
    private_file::write(path, text).map_err(|source| RealNodeError::File { path: path.to_owned(), source })
}
