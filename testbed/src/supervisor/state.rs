//! What is known about a cluster, in `DIR/cluster.json`, for people and for other processes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::charts::ChartRepositories;
use crate::private_file;
use crate::process::Identity;

/// The name of the state file in a cluster's directory.
const FILE: &str = "cluster.json";

/// A cluster as its supervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterState {
    /// How far it is.
    pub phase: Phase,
    /// The process that holds everything together. When it ends, so does the cluster.
    pub supervisor: Identity,
    /// When the supervisor started.
    pub started_at: Timestamp,
    /// Where the API server listens, once that is known.
    pub api_url: Option<String>,
    /// The node that runs pods.
    pub node: NodeState,
    /// Processes and in-process parts by name.
    pub components: BTreeMap<String, ComponentState>,
    /// Programs for people and tests, by name: kubectl, helm …
    pub programs: BTreeMap<String, PathBuf>,
    /// Where charts come from.
    pub repositories: Option<ChartRepositories>,
}

/// How far a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not everything runs yet.
    Starting,
    /// Everything was up; see the components for what has ended since.
    Running,
    /// Ended, on purpose.
    Stopped,
}

/// The node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// What kind of node.
    pub kind: NodeKind,
    /// Its name in the API.
    pub name: String,
    /// The addresses of its pods, as a range.
    pub pod_addresses: String,
    /// The address at which its pods reach this machine.
    pub machine: Ipv4Addr,
}

/// What runs the pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum NodeKind {
    /// Local processes instead of containers: no root, no packages.
    #[default]
    Process,
    /// kubelet and containerd, in namespaces of their own: takes root and packages of the distribution.
    Real,
}

/// One component of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComponentState {
    /// Its process; none if it runs inside the supervisor.
    pub process: Option<Identity>,
    /// Its version, if it has one of its own.
    pub version: Option<String>,
    /// How it ended, if it did so without being asked.
    pub ended: Option<String>,
}

/// Why the state of a cluster cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// `read` or `write`.
        what: &'static str,
        /// The state file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} is not the state of a cluster: {source}", path.display())]
    Parse {
        /// The state file.
        path: PathBuf,
        /// What does not fit.
        source: serde_json::Error,
    },
}

impl ClusterState {
    /// Reads the state of the cluster in `dir`; `None` if there never was one.
    ///
    /// # Errors
    /// When the file exists and cannot be understood.
    pub fn read(dir: &Path) -> Result<Option<Self>, StateError> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| StateError::Parse { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Io { what: "read", path, source }),
        }
    }

    /// Whether its supervisor runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.supervisor.is_alive()
    }

    fn write(&self, dir: &Path) -> Result<(), StateError> {
        let path = dir.join(FILE);
        // Private, because the passwords of chart repositories are in it.
        let written = serde_json::to_string_pretty(self)
            .map_err(io::Error::from)
            .and_then(|text| private_file::write(&path, &text));
        written.map_err(|source| StateError::Io { what: "write", path, source })
    }
}

/// The state of the running cluster and its file.
#[derive(Debug)]
pub struct StateFile {
    dir: PathBuf,
    state: Mutex<ClusterState>,
}

impl StateFile {
    /// Writes the first state.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(dir: &Path, state: ClusterState) -> Result<Self, StateError> {
        state.write(dir)?;
        Ok(Self { dir: dir.to_owned(), state: Mutex::new(state) })
    }

    /// Changes the state and writes it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn update(&self, change: impl FnOnce(&mut ClusterState)) -> Result<(), StateError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        state.write(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ClusterState::read(dir.path()).unwrap(), None);
        let state = ClusterState {
            phase: Phase::Starting,
            supervisor: Identity::of(std::process::id()).unwrap(),
            started_at: Timestamp::now(),
            api_url: None,
            node: NodeState {
                kind: NodeKind::Process,
                name: "node-1".to_owned(),
                pod_addresses: "127.1.0.0/16".to_owned(),
                machine: Ipv4Addr::LOCALHOST,
            },
            components: BTreeMap::new(),
            programs: BTreeMap::new(),
            repositories: None,
        };
        let file = StateFile::create(dir.path(), state.clone()).unwrap();
        file.update(|state| state.phase = Phase::Running).unwrap();
        let read = ClusterState::read(dir.path()).unwrap().unwrap();
        assert_eq!(read, ClusterState { phase: Phase::Running, ..state });
        assert!(read.is_alive());
    }

    #[test]
    fn a_strange_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{}").unwrap();
        let error = ClusterState::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("cluster.json is not the state of a cluster"), "{error}");
    }
}
