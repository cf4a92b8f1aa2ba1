//! A power cut of the node.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Cluster, ClusterError};
use crate::process::{Identity, Signal};
use crate::supervisor::state::NodeKind;

/// containerd and kubelet start within seconds.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Cluster {
    /// Ends every process of a real node at once, and returns when its kubelet runs again. What the pods' volumes hold stays; the
    /// control plane is elsewhere and goes on.
    ///
    /// # Errors
    /// The cluster has no real node, or it does not come back.
    pub async fn cut_power(&self) -> Result<(), ClusterError> {
        let failed = |source| ClusterError::Power { dir: self.dir().to_owned(), source };
        if self.node().kind != NodeKind::Real {
            return Err(failed(io::Error::new(io::ErrorKind::Unsupported, "a process node has no power to cut")));
        }
        let before = self.kubelet()?;
        let supervisor = self.status()?.supervisor.open().map_err(failed)?;
        let gone = || failed(io::Error::new(io::ErrorKind::NotFound, "the supervisor is gone"));
        supervisor.ok_or_else(gone)?.signal(Signal::USR1).map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        while self.kubelet()? == before {
            if Instant::now() > deadline {
                return Err(failed(io::Error::new(io::ErrorKind::TimedOut, "its kubelet does not start again")));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn kubelet(&self) -> Result<Option<Identity>, ClusterError> {
        Ok(self.status()?.components.get("kubelet").and_then(|kubelet| kubelet.process))
    }
}
