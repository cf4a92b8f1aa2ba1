//! A helm process that changes something: it is never cut off without a chance to record its failure.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use super::failure::OutOfMemoryKills;
use super::{Helm, HelmFailure, output};
use crate::runner::cluster::lease::Held;
use crate::runner::error::Error;

/// How long a helm process that lost the Lease may take to record its failure. With the time in which the loss is noticed this is
/// less than the Lease's duration, so that helm has ended before another runner can begin.
const LOST_LEASE_GRACE: Duration = Duration::from_secs(4);

/// Runs helm with these arguments to its end. `stop` goes on to helm as SIGTERM, which then records the release as failed;
/// so does the loss of the Lease, but then helm does not get more time than the Lease has left: none if somebody else has it.
///
/// helm's notes on stdout are not for logs: charts print addresses and passwords there.
pub async fn run(
    helm: &Helm,
    arguments: &[String],
    lease: &Held,
    stop: &CancellationToken,
) -> Result<Result<(), HelmFailure>, Error> {
    tracing::info!("helm {}", arguments.join(" "));
    let mut command = helm.command(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // Without limits of memory: a helm process that is killed in the middle of a change leaves it unfinished. What it reads here was
    // read by a helm process with limits before, when the plan was made.
    let kills = OutOfMemoryKills::now();
    let mut child = child_process::spawn(command, None).await.map_err(Error::HelmMissing)?;
    let stderr = child.stderr.take();
    let said = async {
        match stderr {
            Some(stderr) => output::listen(stderr).await.last,
            None => String::new(),
        }
    };
    let ended = wait(&mut child, lease, stop);
    let (said, ended) = tokio::join!(said, ended);
    let status = ended?;
    if status.success() {
        return Ok(Ok(()));
    }
    Ok(Err(HelmFailure::of(status, &said, kills)))
}

async fn wait(child: &mut Child, lease: &Held, stop: &CancellationToken) -> Result<std::process::ExitStatus, Error> {
    let (lost, taken) = (lease.lost(), lease.taken());
    let ended = |result: std::io::Result<_>| result.map_err(Error::HelmMissing);
    tokio::select! {
        status = child.wait() => return ended(status),
        () = stop.cancelled() => tracing::warn!("told to stop: passing it on to helm"),
        () = lost.cancelled() => tracing::error!("the Lease of the release is lost: stopping helm"),
    }
    if taken.is_cancelled() {
        return kill(child).await;
    }
    terminate(child).map_err(Error::HelmMissing)?;
    // With a rollback, helm may take long to end after a signal. That is allowed as long as nobody else may begin.
    tokio::select! {
        status = child.wait() => return ended(status),
        () = lost.cancelled() => {}
    }
    if !taken.is_cancelled()
        && let Ok(status) = tokio::time::timeout(LOST_LEASE_GRACE, child.wait()).await
    {
        return ended(status);
    }
    kill(child).await
}

/// Asks a child to end. One that has ended already is no error.
fn terminate(child: &Child) -> io::Result<()> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    match pid.map(|pid| kill_process(pid, Signal::TERM)) {
        None | Some(Ok(()) | Err(Errno::SRCH)) => Ok(()),
        Some(Err(errno)) => Err(errno.into()),
    }
}

/// Whatever helm does next would be done beside another one.
async fn kill(child: &mut Child) -> Result<std::process::ExitStatus, Error> {
    child.kill().await.map_err(Error::HelmMissing)?;
    child.wait().await.map_err(Error::HelmMissing)
}
