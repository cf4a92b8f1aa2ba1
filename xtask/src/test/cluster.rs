//! The cluster that integration tests run against: one for all of them, with the operator in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use testbed::cluster::{NodeChoice, TESTBED_VARIABLE};
use testbed::supervisor::state::NodeKind;
use testbed::{Cluster, ClusterOptions};

use super::binaries::Suite;
use crate::{Result, audit};

/// Integration tests that use no cluster.
const OFFLINE: [&str; 4] = ["charts", "install::manifests", "structure", "upgrade::stand_in"];

/// Integration tests of the process node itself, and of coder-sim on it: they start one where the others have a kubelet.
const PROCESS_NODE: [&str; 3] = ["node", "node_faults", "sim"];

/// Whether integration tests use the cluster.
pub fn is_needed(suite: &Suite) -> bool {
    !OFFLINE.contains(&suite.name.as_str())
}

/// A cluster in a temporary directory; both end with this process at the latest.
pub struct TestCluster(Cluster);

impl TestCluster {
    /// Starts it with the operator in it, and an audit log for tests that count requests.
    /// `servers` has real servers of Coder, `operator` is the program in its image if not the one that was just built.
    pub async fn start(node: NodeChoice, servers: Option<&Path>, operator: Option<PathBuf>) -> Result<Self> {
        let cluster = Cluster::up(ClusterOptions {
            node,
            coder_binaries: servers.map(Path::to_owned),
            operator,
            audit_log: true,
            load_operator: true,
            helm3: true,
            owner_pid: Some(std::process::id()),
            progress: Arc::new(|line| println!("    {line}")),
            ..ClusterOptions::default()
        })
        .await?;
        Ok(Self(cluster))
    }

    /// How test programs find it: name and value of an environment variable.
    pub fn variable(&self) -> (&'static str, PathBuf) {
        (TESTBED_VARIABLE, self.0.dir().to_owned())
    }

    /// Whether integration tests run against it.
    pub fn serves(&self, suite: &Suite) -> bool {
        self.0.node().kind == NodeKind::Process || !PROCESS_NODE.contains(&suite.name.as_str())
    }

    /// What differs between the rights of the operator and what it asked the API server for, a line each.
    pub fn audit(&self) -> Result<Vec<String>> {
        audit::findings(&self.0)
    }

    /// Stops it. With `keep_logs` its logs are copied to the directory `logs` before, and where they are is printed.
    pub async fn stop(self, logs: &Path, keep_logs: bool) -> Result<()> {
        let kept = if keep_logs { Some(copy_logs(&self.0.dir().join("logs"), &logs.join("cluster"))) } else { None };
        self.0.down().await?;
        if let Some(kept) = kept {
            println!("    logs of the cluster: {}", kept?.display());
        }
        Ok(())
    }
}

fn copy_logs(from: &Path, to: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(to.to_owned())
}
