//! A cluster from the outside: start it, find it again, use it, stop it.
//!
//! A [`Cluster`] is only a directory and what its `cluster.json` says; the processes belong to the supervisor (see
//! [`crate::supervisor`]), which lives on when the value is dropped. Files: `up` starts one, `tools` runs kubectl and helm
//! on it, `data` looks into its databases, `availability` measures outages, `audit` reads the audit log,
//! `operator` loads the operator into it, `node_choice` chooses its node, `locate` finds the binaries of this workspace.

mod audit;
mod availability;
mod data;
mod down;
mod error;
mod locate;
mod node_choice;
mod operator;
mod power;
mod tools;
mod up;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use availability::{Availability, ServiceWatch};
pub use data::DataError;
pub use error::ClusterError;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
pub use node_choice::NodeChoice;
pub use operator::OPERATOR_NAMESPACE;
use tokio::sync::OnceCell;
pub use tools::ToolError;

use crate::charts::ChartRepositories;
use crate::node::BackOff;
use crate::supervisor::options::ReleaseDelay;
use crate::supervisor::state::{ClusterState, NodeState};

/// The program that the operator's image stands for.
pub(crate) const OPERATOR_PROGRAM: &str = "coder-upgrade-operator";

/// Names the directory of a running cluster that tests should use; set by `cargo xtask test`.
pub const TESTBED_VARIABLE: &str = "CODER_UPGRADE_TESTBED";

/// Names the program for the operator's image, if it is not the one beside the program that starts a cluster; set by
/// `cargo xtask test --release`.
pub const OPERATOR_VARIABLE: &str = "CODER_UPGRADE_OPERATOR";

/// Hears what happens while a cluster comes up, a line at a time.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// What kind of cluster to start.
#[derive(Clone)]
pub struct ClusterOptions {
    /// Its directory; a temporary one, removed at the end, if `None`.
    pub dir: Option<PathBuf>,
    /// Rows to add before the default image table, as a YAML file.
    pub images: Option<PathBuf>,
    /// Servers of Coder, programs named coder-VERSION in this directory, as images of [`crate::servers::REPOSITORY`].
    pub coder_binaries: Option<PathBuf>,
    /// The program in the operator's image; the one that [`OPERATOR_VARIABLE`] names, or else that beside this program, if `None`.
    pub operator: Option<PathBuf>,
    /// How long the load balancer stand-in takes to release an address.
    pub lb_release_delay: ReleaseDelay,
    /// Delay before the second restart of a container that ends again and again; it doubles each time.
    pub restart_back_off: Duration,
    /// What runs the pods.
    pub node: NodeChoice,
    /// Write every API request to `logs/audit.log` (metadata only).
    pub audit_log: bool,
    /// Apply the operator's manifests and wait until the controller is available.
    pub load_operator: bool,
    /// Have helm 3, too, for [`Cluster::helm3`] and for images whose tag ends in `-helm3`.
    pub helm3: bool,
    /// End the cluster when this process ends.
    pub owner_pid: Option<u32>,
    /// Hears what happens.
    pub progress: Progress,
}

impl Default for ClusterOptions {
    /// A temporary cluster on the process node, without the operator, that outlives this process.
    fn default() -> Self {
        Self {
            dir: None,
            images: None,
            coder_binaries: None,
            operator: None,
            lb_release_delay: ReleaseDelay::default(),
            restart_back_off: BackOff::default().base,
            node: NodeChoice::default(),
            audit_log: false,
            load_operator: false,
            helm3: false,
            owner_pid: None,
            progress: Arc::new(|_| ()),
        }
    }
}

/// A running cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    dir: PathBuf,
    kubectl: PathBuf,
    helm: PathBuf,
    node: NodeState,
    repositories: Option<ChartRepositories>,
}

impl Cluster {
    /// Starts a cluster and returns when pods can be created in it.
    ///
    /// # Errors
    /// See [`ClusterError`]: a component that cannot be built, a directory in use, a component that fails, with the end
    /// of its log.
    pub async fn up(options: ClusterOptions) -> Result<Self, ClusterError> {
        up::up(options).await
    }

    /// Finds the running cluster of `dir`.
    ///
    /// # Errors
    /// When none runs there.
    pub fn attach(dir: impl AsRef<Path>) -> Result<Self, ClusterError> {
        let dir = dir.as_ref();
        let absolute =
            std::path::absolute(dir).map_err(|source| ClusterError::Directory { dir: dir.to_owned(), source })?;
        let state = ClusterState::read(&absolute)?.filter(ClusterState::is_alive);
        Self::of(absolute, state.ok_or_else(|| ClusterError::NotRunning(dir.to_owned()))?)
    }

    /// The cluster for tests: the one that `CODER_UPGRADE_TESTBED` names, else one of this process, which ends with it.
    /// That one writes an audit log, and has the operator loaded if its program was built; tests of the test bed alone do not need it.
    ///
    /// # Errors
    /// As [`Cluster::attach`] and [`Cluster::up`].
    pub async fn for_tests() -> Result<&'static Self, ClusterError> {
        static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
        let find = async || {
            if let Some(dir) = std::env::var_os(TESTBED_VARIABLE) {
                return Self::attach(PathBuf::from(dir));
            }
            let options = ClusterOptions {
                load_operator: locate::bin_dir_with(OPERATOR_PROGRAM).is_ok(),
                audit_log: true,
                owner_pid: Some(std::process::id()),
                ..ClusterOptions::default()
            };
            Self::up(options).await
        };
        CLUSTER.get_or_try_init(find).await
    }

    fn of(dir: PathBuf, state: ClusterState) -> Result<Self, ClusterError> {
        let program = |name: &'static str| {
            let path = state.programs.get(name).cloned();
            path.ok_or_else(|| ClusterError::NoProgram { dir: dir.clone(), name })
        };
        let (kubectl, helm) = (program("kubectl")?, program("helm")?);
        Ok(Self { dir, kubectl, helm, node: state.node, repositories: state.repositories })
    }

    /// Its directory, absolute.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The kubeconfig of its administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// A client with an administrator's rights.
    ///
    /// # Errors
    /// When the kubeconfig is gone, because the cluster was stopped meanwhile.
    pub async fn client(&self) -> Result<Client, ClusterError> {
        let path = self.kubeconfig();
        let made = async {
            let config =
                Config::from_custom_kubeconfig(Kubeconfig::read_from(&path)?, &KubeConfigOptions::default()).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Client::try_from(config)?)
        };
        made.await.map_err(|source| ClusterError::Client { path: path.clone(), source })
    }

    /// What runs its pods, and where they reach this machine.
    #[must_use]
    pub fn node(&self) -> &NodeState {
        &self.node
    }

    /// Where charts come from.
    ///
    /// # Errors
    /// When this cluster has no chart repositories.
    pub fn repositories(&self) -> Result<&ChartRepositories, ClusterError> {
        self.repositories.as_ref().ok_or_else(|| ClusterError::NoRepositories(self.dir.clone()))
    }

    /// What its supervisor says about it now.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn status(&self) -> Result<ClusterState, ClusterError> {
        ClusterState::read(&self.dir)?.ok_or_else(|| ClusterError::NotRunning(self.dir.clone()))
    }

    /// Stops it and waits until nothing of it runs. Its logs stay in the directory, unless that was a temporary one.
    ///
    /// # Errors
    /// When a process cannot be signalled, or something cannot be removed.
    pub async fn down(&self) -> Result<(), ClusterError> {
        down::down(&self.dir).await
    }

    /// Stops whatever runs in `dir`, and removes what a cluster that was killed left there; says whether one ran.
    ///
    /// # Errors
    /// As [`Cluster::down`].
    pub async fn down_in(dir: impl AsRef<Path>) -> Result<bool, ClusterError> {
        let running = ClusterState::read(dir.as_ref())?.is_some_and(|state| state.is_alive());
        down::down(dir.as_ref()).await?;
        Ok(running)
    }
}
