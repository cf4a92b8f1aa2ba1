//! The cluster that integration tests run against: one for all of them, with the operator in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use testbed::cluster::TESTBED_VARIABLE;
use testbed::{Cluster, ClusterOptions};

use super::binaries::TestBinary;
use crate::Result;

/// Files of integration tests that use no cluster.
const OFFLINE: [&str; 3] = ["charts", "manifests", "structure"];

/// Whether a file of integration tests uses the cluster.
pub fn is_needed(binary: &TestBinary) -> bool {
    !OFFLINE.contains(&binary.name.as_str())
}

/// A cluster in a directory of its own that ends with this process at the latest.
pub struct TestCluster {
    cluster: Cluster,
    // Removed when this is dropped, after the cluster was stopped.
    _directory: tempfile::TempDir,
}

impl TestCluster {
    /// Starts it with the operator in it, and an audit log for tests that count requests.
    pub async fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("coder-upgrade-test-").tempdir()?;
        let cluster = Cluster::up(ClusterOptions {
            dir: Some(directory.path().join("cluster")),
            audit_log: true,
            load_operator: true,
            helm3: true,
            owner_pid: Some(std::process::id()),
            progress: Arc::new(|line| println!("    {line}")),
            ..ClusterOptions::default()
        })
        .await?;
        Ok(Self { cluster, _directory: directory })
    }

    /// How test programs find it: name and value of an environment variable.
    pub fn variable(&self) -> (&'static str, &Path) {
        (TESTBED_VARIABLE, self.cluster.dir())
    }

    /// Stops it. With `keep_logs` its logs are copied to the directory `logs`, and where they are is printed.
    pub async fn stop(self, logs: &Path, keep_logs: bool) -> Result<()> {
        let stopped = self.cluster.down().await;
        if keep_logs {
            let kept = copy_logs(&self.cluster.dir().join("logs"), &logs.join("cluster"))?;
            println!("    logs of the cluster: {}", kept.display());
        }
        Ok(stopped?)
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
