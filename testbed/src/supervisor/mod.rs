//! The process that holds a cluster together: `testbed serve`.
//!
//! It starts the control plane as child processes, runs node, load balancer stand-in and chart repositories inside itself (a real
//! node as child processes, too), and ends all of it when it is asked to, when its owner ends, or (by the kernel) when it is killed. What others need to
//! know about the cluster is in `DIR/cluster.json`.

pub(crate) mod directory;
mod end;
pub(crate) mod event;
mod in_process;
mod node;
pub mod options;
mod parts;
pub(crate) mod readiness;
mod resizer;
mod snapshots;
pub mod state;
mod storage_class;
mod volumes;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use directory::{DirectoryError, OwnDirectory};
use end::{End, Reason};
use event::Event;
use jiff::Timestamp;
use options::ServeOptions;
use parts::Parts;
use readiness::NotReady;
use state::{ClusterState, NodeKind, NodeState, Phase, StateError, StateFile};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::address_range::AddressRange;
use crate::components::Binaries;
use crate::control_plane::identity::User;
use crate::control_plane::{ControlPlane, ControlPlaneError, Settings};
use crate::node::NodeError;
use crate::process::Identity;
use crate::real_node::RealNodeError;
use crate::real_node::addresses::Addresses;
use crate::servers::ServersError;

/// The name of the only node.
const NODE_NAME: &str = "node-1";

/// Why a cluster did not start, or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The state cannot be written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The control plane did not start.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    /// Something started, but did not begin its work.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// The API server refused something the cluster needs.
    #[error("the API server refused {what}: {source}")]
    Api {
        /// The object.
        what: &'static str,
        /// Its answer.
        source: kube::Error,
    },
    /// The image table cannot be used, or the node cannot start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Charts cannot be packaged or served.
    #[error("chart repositories: {0}")]
    Charts(Box<dyn std::error::Error + Send + Sync>),
    /// The servers of Coder cannot be used.
    #[error(transparent)]
    Servers(#[from] ServersError),
    /// The real node did not start.
    #[error("the real node: {0}")]
    RealNode(#[from] RealNodeError),
    /// The system refused something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> SupervisorError {
    move |source| SupervisorError::System { what, source }
}

/// Runs a cluster until its end. Tells on standard output how far it is (see [`Event`]).
///
/// # Errors
/// See [`SupervisorError`]. Whatever was started is stopped before this returns.
pub async fn serve(options: ServeOptions) -> Result<(), SupervisorError> {
    let done = serve_until_end(&options).await;
    if let Err(error) = &done {
        tracing::error!(%error, "the cluster failed");
        Event::Failed { message: error.to_string() }.tell();
    }
    done
}

async fn serve_until_end(options: &ServeOptions) -> Result<(), SupervisorError> {
    let starter = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if options.detach {
        rustix::process::setsid().map_err(|errno| system("leave the session")(errno.into()))?;
    }
    let starter = options.detach.then_some(starter).flatten();
    // Without it the signal would end this process.
    let mut cuts = signal(SignalKind::user_defined1()).map_err(system("receive SIGUSR1"))?;
    let mut end = End::new(options.owner_pid, starter).map_err(system("watch for the end"))?;
    let directory = OwnDirectory::take(&options.dir)?;
    let addresses = match options.node {
        NodeKind::Process => AddressRange::claim(),
        NodeKind::Real => AddressRange::claim_if(|octet| Addresses::new(octet).are_free().unwrap_or(false)),
    };
    let addresses = addresses.map_err(system("claim addresses for pods"))?;
    let state = Arc::new(StateFile::create(&options.dir, first_state(options, &addresses)?)?);

    let mut parts = Parts::new(Arc::clone(&state));
    let reason = run(options, &addresses, &state, &mut parts, &mut end, &mut cuts).await;
    if let Ok(reason) = &reason {
        tracing::info!(%reason, "stopping");
    }
    parts.stop().await;
    state.update(|state| state.phase = Phase::Stopped)?;
    if options.remove_dir {
        directory.remove()?;
    } else {
        directory.clean_up()?;
    }
    reason.map(|_| ())
}

/// Starts everything, and waits for the end, which may come before everything runs.
async fn run(
    options: &ServeOptions,
    addresses: &AddressRange,
    state: &StateFile,
    parts: &mut Parts,
    end: &mut End,
    cuts: &mut Signal,
) -> Result<Reason, SupervisorError> {
    let binaries = options.binaries();
    let (mut node, control_plane) = tokio::select! {
        started = start(options, addresses, &binaries, state, parts) => started?,
        reason = end.reached_before_ready() => return reason.map_err(system("watch for the end")),
    };
    state.update(|state| state.phase = Phase::Running)?;
    tracing::info!("ready");
    Event::Ready.tell();
    loop {
        tokio::select! {
            reason = end.reached() => return reason.map_err(system("watch for the end")),
            _ = cuts.recv() => node.power_cycle(&control_plane, parts).await?,
        }
    }
}

async fn start<'a>(
    options: &'a ServeOptions,
    addresses: &AddressRange,
    binaries: &'a Binaries,
    state: &StateFile,
    parts: &mut Parts,
) -> Result<(node::Starting<'a>, ControlPlane), SupervisorError> {
    let (node, namespaces) = node::Starting::open(options, addresses, binaries).await?;
    let settings = Settings {
        dir: &options.dir,
        binaries,
        node_name: NODE_NAME,
        network: node.network(),
        audit_log: options.audit_log,
    };
    let (charts, control_plane, containerd) = tokio::join!(
        in_process::start_charts(options, settings.network.api_server),
        ControlPlane::start(&settings, |component| starting(component.name())),
        node.start_containerd(),
    );
    let (control_plane, processes) = control_plane?;
    let containerd = containerd?;
    // Stopped last: with the node's namespaces goes the address of the API server, whose clients would wait for its answers.
    for process in namespaces.into_iter().chain(processes) {
        parts.add_process(process)?;
    }
    let charts = charts?;
    state.update(|state| {
        state.api_url = Some(control_plane.api_url.clone());
        state.repositories = Some(charts.repositories.clone());
    })?;
    charts.join(parts)?;
    let client = control_plane.client(User::TestBed).await?;
    storage_class::create(&client).await?;

    // Started before the controller-manager, so that it is stopped after it.
    let (watched, dir) = (client.clone(), options.dir.clone());
    parts.add_task("volumes", async move |stop| {
        volumes::write_down(watched, dir, stop).await;
        Ok::<(), Infallible>(())
    })?;
    starting("controllers and node");
    for process in control_plane.start_controllers(&settings).await? {
        parts.add_process(process)?;
    }
    in_process::start_load_balancer(options, client.clone(), parts)?;
    in_process::start_resizer(client.clone(), parts)?;
    in_process::start_snapshots(options, client.clone(), parts)?;
    node.start(&control_plane, containerd, parts).await?;
    readiness::controllers_work(&client).await?;
    readiness::node_is_ready(&client, NODE_NAME).await?;
    node.start_dns(&client).await?;
    Ok((node, control_plane))
}

fn starting(what: &str) {
    tracing::info!(%what, "starting");
    Event::Starting { what: what.to_owned() }.tell();
}

fn first_state(options: &ServeOptions, addresses: &AddressRange) -> Result<ClusterState, SupervisorError> {
    let (pod_addresses, machine) = match options.node {
        NodeKind::Process => (addresses.to_string(), Ipv4Addr::LOCALHOST),
        NodeKind::Real => {
            let addresses = Addresses::new(addresses.second_octet());
            (addresses.pods(), addresses.machine())
        }
    };
    let own = Identity::of(std::process::id()).ok_or_else(|| io::Error::other("/proc is not mounted"));
    Ok(ClusterState {
        phase: Phase::Starting,
        supervisor: own.map_err(system("find out which process this is"))?,
        started_at: Timestamp::now(),
        api_url: None,
        node: NodeState { kind: options.node, name: NODE_NAME.to_owned(), pod_addresses, machine },
        components: BTreeMap::new(),
        programs: options.components.iter().map(|(name, path)| (name.to_string(), path.clone())).collect(),
        repositories: None,
    })
}
