//! Starts one program and waits until it serves.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tokio::process::Child;
use tokio::time::{Instant, sleep_until, timeout};

use crate::process::{self, Identity, Signal};
use crate::tail;

/// How often another port is tried when somebody took the one that was free a moment ago.
const ATTEMPTS: usize = 5;
/// A program that does not serve by then never will; a busy machine takes a few seconds.
const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// How often a starting program is asked whether it serves.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How far the heap of a Go program may grow before it is collected, in percent of what is in use. The default, 100, costs a
/// loaded control plane a fifth of its CPU time; a test bed has memory to spare instead.
const GARBAGE_COLLECTION: (&str, &str) = ("GOGC", "400");
/// How long a program may take to end by itself. Nothing it holds is worth more: the cluster is thrown away.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A program to start.
#[derive(Debug)]
pub struct Program<'a> {
    /// Its name.
    pub name: &'static str,
    /// Its version, if it is built here.
    pub version: Option<&'static str>,
    /// Its binary.
    pub path: &'a Path,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its `PATH`, if not our own.
    pub path_variable: Option<&'a OsStr>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    /// Its name.
    pub name: &'static str,
    /// Its version, if it is built here.
    pub version: Option<&'static str>,
    /// Which process.
    pub identity: Identity,
    child: Child,
    log: PathBuf,
}

/// Why a program does not run.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It could not be started.
    #[error("cannot start {name} ({}): {source}", path.display())]
    Start {
        /// Which program.
        name: &'static str,
        /// Its binary or its log file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended by itself.
    #[error("{name} ended ({status}) before it was ready; the end of {}:\n{tail}", log.display())]
    Ended {
        /// Which program.
        name: &'static str,
        /// How it ended.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// It runs, but does not serve.
    #[error("{name} was not ready within {} s; the end of {}:\n{tail}", READY_TIMEOUT.as_secs(), log.display())]
    NotReady {
        /// Which program.
        name: &'static str,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
}

impl LaunchError {
    /// Whether another port would help.
    fn port_was_taken(&self) -> bool {
        matches!(self, Self::Ended { tail, .. } if tail.contains("address already in use"))
    }
}

/// Calls `start` again as long as it fails because its port was taken meanwhile; each call must choose new ports.
pub(super) async fn with_free_ports<T, E>(start: impl AsyncFn() -> Result<T, E>) -> Result<T, E>
where
    E: AsLaunchError,
{
    let mut attempt = 1;
    loop {
        match start().await {
            Err(error) if attempt < ATTEMPTS && error.as_launch_error().is_some_and(LaunchError::port_was_taken) => {
                attempt += 1;
            }
            done => return done,
        }
    }
}

/// An error that may be a [`LaunchError`].
pub(super) trait AsLaunchError {
    fn as_launch_error(&self) -> Option<&LaunchError>;
}

impl AsLaunchError for super::ControlPlaneError {
    fn as_launch_error(&self) -> Option<&LaunchError> {
        match self {
            Self::Launch(error) => Some(error),
            _ => None,
        }
    }
}

/// Starts `program` and returns when `serves` says yes; it is asked every 50 ms.
pub(crate) async fn launch(program: Program<'_>, serves: impl AsyncFn() -> bool) -> Result<Running, LaunchError> {
    let mut running = start(program).await?;
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let ask_again = Instant::now() + ASK_EVERY;
        if matches!(timeout(READY_TIMEOUT, serves()).await, Ok(true)) {
            return Ok(running);
        }
        if Instant::now() > deadline {
            let Running { name, log, .. } = running;
            return Err(LaunchError::NotReady { name, tail: tail::of_file(&log), log });
        }
        tokio::select! {
            () = sleep_until(ask_again) => {}
            status = running.ended() => {
                let Running { name, log, .. } = running;
                return Err(LaunchError::Ended { name, status, tail: tail::of_file(&log), log });
            }
        }
    }
}

async fn start(program: Program<'_>) -> Result<Running, LaunchError> {
    let Program { name, version, path, arguments, path_variable, log } = program;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| LaunchError::Start { name, path, source }
    };
    let mut command = Command::new(path);
    command.args(arguments).envs([GARBAGE_COLLECTION]).envs(path_variable.map(|value| ("PATH", value)));
    process::log_to(&mut command, &log).map_err(failed(&log))?;
    let child = process::spawn(command).await.map_err(failed(path))?;
    let identity = child.id().and_then(Identity::of).ok_or_else(|| io::Error::other("it ended at once"));
    Ok(Running { name, version, identity: identity.map_err(failed(path))?, child, log })
}

impl Running {
    /// Waits for the end of the program; says how it ended. May be dropped and called again.
    pub async fn ended(&mut self) -> String {
        describe(self.child.wait().await)
    }

    /// Asks the program to end, and ends it if it does not within 5 s. If it had ended by itself before, says how.
    ///
    /// # Errors
    /// When the system refuses to signal or to wait; the kernel then ends the program together with this process.
    pub async fn stop(&mut self) -> io::Result<Option<String>> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(Some(status.to_string()));
        }
        if let Some(pid) = self.child.id() {
            process::signal_group(pid, Signal::TERM)?;
        }
        match timeout(STOP_GRACE, self.child.wait()).await {
            Ok(ended) => ended.map(|_| None),
            Err(_) => self.child.kill().await.map(|()| None),
        }
    }
}

fn describe(end: io::Result<ExitStatus>) -> String {
    end.map_or_else(|error| format!("unknown: {error}"), |status| status.to_string())
}
