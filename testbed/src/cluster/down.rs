//! Stops the cluster of a directory.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::ClusterError;
use crate::process::{Handled, Signal};
use crate::supervisor::directory;
use crate::supervisor::state::ClusterState;

/// An orderly end takes a second or two, plus the grace periods of pods.
const GRACE: Duration = Duration::from_secs(60);

/// Asks the supervisor to end, ends it if it does not, and removes what an orderly end would have removed.
pub(super) async fn down(dir: &Path) -> Result<(), ClusterError> {
    let Some(state) = ClusterState::read(dir)? else { return Ok(()) };
    let failed = |source| ClusterError::Stop { dir: dir.to_owned(), pid: state.supervisor.pid, source };
    if let Some(supervisor) = state.supervisor.open().map_err(failed)? {
        end(&supervisor).await.map_err(failed)?;
    }
    // An orderly end leaves nothing to do here, and possibly no directory.
    if dir.exists() {
        let another = || matches!(ClusterState::read(dir), Ok(Some(now)) if now.supervisor != state.supervisor);
        directory::clean_up_after_the_dead(dir, another)?;
    }
    Ok(())
}

async fn end(supervisor: &Handled) -> io::Result<()> {
    supervisor.signal(Signal::TERM)?;
    if let Ok(ended) = timeout(GRACE, supervisor.ended()).await {
        return ended;
    }
    supervisor.signal(Signal::KILL)?; // the kernel ends its children
    supervisor.ended().await
}
