//! What can go wrong with a cluster.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::ToolError;
use crate::components::ComponentError;
use crate::real_node::Unfit;
use crate::supervisor::directory::DirectoryError;
use crate::supervisor::state::StateError;

/// Why there is no cluster, or why it could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A program could not be supplied.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The state of a cluster cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The directory of a cluster cannot be used.
    #[error(transparent)]
    OwnDirectory(#[from] DirectoryError),
    /// kubectl or helm failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// This machine cannot run a real node.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Rows for the image table were given for a node that has none.
    #[error("a table of images is for a node of local processes; a real node runs images")]
    TableOnRealNode,
    /// No cluster runs there.
    #[error("no cluster runs in {dir}; start one with `cargo xtask cluster up --dir {dir}`", dir = .0.display())]
    NotRunning(PathBuf),
    /// A cluster runs there already.
    #[error("a cluster runs in {dir} already; stop it with `cargo xtask cluster down --dir {dir}`", dir = .0.display())]
    AlreadyRunning(PathBuf),
    /// The directory holds something else.
    #[error("{} holds files that are not a cluster's; choose an empty or a new directory", .0.display())]
    ForeignDirectory(PathBuf),
    /// The directory cannot be made or looked at.
    #[error("cannot use the directory {}: {source}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program of this workspace was not built.
    #[error(
        "`{name}` is in none of {searched}: use `cargo xtask cluster up` or `cargo xtask test`, which build it, or set TESTBED_BIN_DIR"
    )]
    NotBuilt {
        /// The program.
        name: &'static str,
        /// Where it was looked for.
        searched: String,
    },
    /// The supervisor cannot be started or waited for.
    #[error("cannot start the supervisor: {0}")]
    Start(io::Error),
    /// The supervisor ended before everything ran.
    #[error("the cluster did not start: {message}")]
    Failed {
        /// What the supervisor said last.
        message: String,
    },
    /// The supervisor cannot be stopped.
    #[error("cannot stop the supervisor (process {pid}) of {}: {source}", dir.display())]
    Stop {
        /// The cluster's directory.
        dir: PathBuf,
        /// The supervisor's process id.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The node's power cannot be cut, or it does not come back.
    #[error("cannot cut the power of the node of {}: {source}", dir.display())]
    Power {
        /// The cluster's directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kubeconfig is of no use.
    #[error("cannot make a client from {}: {source}", path.display())]
    Client {
        /// The kubeconfig.
        path: PathBuf,
        /// The reason.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The state does not say where a program is.
    #[error("the cluster in {} does not say where its {name} is; it was started by another version of the test bed", dir.display())]
    NoProgram {
        /// The cluster's directory.
        dir: PathBuf,
        /// The program.
        name: &'static str,
    },
    /// The cluster has no chart repositories.
    #[error("the cluster in {} has no chart repositories", .0.display())]
    NoRepositories(PathBuf),
}
