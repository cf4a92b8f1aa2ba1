//! The process of a container and everything it starts.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::launch::{CONTAINER_MARK, Launch, NotStarted};
use crate::node::images::Program;
use crate::node::logs;
use crate::node::pod::PodRuntime;
use crate::process::{self, Signal, signal_group};

/// How long the log of a dead container is waited for: a process that took its output along into another session may
/// hold it open.
const LOG_END: Duration = Duration::from_secs(2);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessEnd {
    /// Exit code; 128 + signal if a signal ended it.
    pub code: i32,
    /// The signal.
    pub signal: Option<i32>,
}

impl ProcessEnd {
    fn of_signal(signal: Signal) -> Self {
        Self { code: 128 + signal.as_raw(), signal: Some(signal.as_raw()) }
    }
}

impl From<ExitStatus> for ProcessEnd {
    fn from(status: ExitStatus) -> Self {
        let signal = status.signal();
        Self { code: status.code().unwrap_or(128 + signal.unwrap_or_default()), signal }
    }
}

/// A started container.
pub struct Process {
    kind: Kind,
    /// The file with its output.
    pub log: PathBuf,
}

enum Kind {
    /// A local process. Dropping it kills everything it started.
    Local { child: Box<Child>, id: u32, mark: String, output: Option<JoinHandle<()>> },
    /// No process at all; it ends when it is told to.
    Pause(watch::Sender<Option<ProcessEnd>>),
}

impl Process {
    /// Starts the container's program; its output goes to the container's log.
    pub async fn start(launch: &Launch, pod: &PodRuntime, name: &str, restarts: i32) -> Result<Self, NotStarted> {
        let log = logs::new_file(&pod.log_dir(name), restarts)?;
        let Program::Command(words) = &launch.program else {
            return Ok(Self { kind: Kind::Pause(watch::Sender::new(None)), log });
        };
        let (program, arguments) = words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let not_started = |source: io::Error| NotStarted::Start { program: program.to_owned(), source };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&launch.variables).current_dir(&launch.directory);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = process::spawn(command).await.map_err(not_started)?;
        let captured = logs::capture(&log, child.stdout.take(), child.stderr.take()).map_err(not_started)?;
        pod.publish_log(name, captured.size);
        let mark = format!("{CONTAINER_MARK}={}", launch.variables.get(CONTAINER_MARK).map_or("", String::as_str));
        let id = child.id().unwrap_or_default();
        Ok(Self { kind: Kind::Local { child: Box::new(child), id, mark, output: Some(captured.task) }, log })
    }

    /// Waits for the end of the first process. May be called again, also after the end.
    pub async fn wait(&mut self) -> ProcessEnd {
        match &mut self.kind {
            Kind::Local { child, .. } => match child.wait().await {
                Ok(status) => status.into(),
                Err(error) => {
                    tracing::error!(%error, "the end of a container's process cannot be learnt");
                    ProcessEnd { code: crate::node::state::UNKNOWN_EXIT_CODE, signal: None }
                }
            },
            Kind::Pause(end) => {
                let mut end = end.subscribe();
                let ended = end.wait_for(Option::is_some).await;
                // The sender lives as long as this process, so waiting cannot fail.
                ended.ok().and_then(|end| *end).unwrap_or(ProcessEnd::of_signal(Signal::KILL))
            }
        }
    }

    /// Sends a signal to the first process only: it is what a container engine does, and what lies below it must be told
    /// by it.
    pub fn signal(&self, signal: Signal) {
        match &self.kind {
            Kind::Local { child, .. } => {
                // No id: it has ended and was collected.
                if let Some(pid) =
                    child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
                {
                    log_refusal(rustix::process::kill_process(pid, signal).map_err(io::Error::from));
                }
            }
            Kind::Pause(end) => {
                let ended = if signal == Signal::TERM {
                    ProcessEnd { code: 0, signal: None }
                } else {
                    ProcessEnd::of_signal(signal)
                };
                end.send_if_modified(|end| end.replace(ended).is_none());
            }
        }
    }

    /// Kills the container's processes, all of them.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        if let Kind::Local { id, mark, .. } = &self.kind {
            kill_rest(*id, mark);
        }
    }

    /// Kills what the first process left behind when it ended, and waits until its log is complete.
    pub async fn clean_up(&mut self) {
        if let Kind::Local { id, mark, output, .. } = &mut self.kind {
            kill_rest(*id, mark);
            if let Some(mut output) = output.take()
                && timeout(LOG_END, &mut output).await.is_err()
            {
                output.abort();
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // With `output` taken it was cleaned up before.
        if let Kind::Local { id, mark, output: Some(_), .. } = &self.kind {
            kill_rest(*id, mark);
        }
    }
}

/// Kills the process group of a container and whatever else has its mark in the environment: what a process namespace
/// would have taken along. Repeated as long as there is something, because processes may fork meanwhile.
fn kill_rest(leader: u32, mark: &str) {
    log_refusal(signal_group(leader, Signal::KILL));
    for _ in 0..10 {
        let rest = marked(mark);
        if rest.is_empty() {
            return;
        }
        for pid in rest {
            log_refusal(rustix::process::kill_process(pid, Signal::KILL).map_err(io::Error::from));
        }
    }
}

/// The live processes with the mark in their environment. Processes that end meanwhile are not counted.
fn marked(mark: &str) -> Vec<rustix::process::Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pid = |name: &std::ffi::OsStr| rustix::process::Pid::from_raw(name.to_str()?.parse().ok()?);
    let has_mark =
        |environment: &[u8]| environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes());
    processes
        .filter_map(Result::ok)
        .filter_map(|entry| pid(&entry.file_name()).map(|pid| (pid, entry.path())))
        .filter(|(_, path)| fs::read(path.join("environ")).is_ok_and(|environment| has_mark(&environment)))
        .map(|(pid, _)| pid)
        .collect()
}

/// A process that is gone already is what was wanted.
fn log_refusal(result: io::Result<()>) {
    if let Err(error) = result
        && error.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error())
    {
        tracing::error!(%error, "a container's process was not signalled");
    }
}
