//! Child processes that end when we end, and the identity of processes by more than a number.
//!
//! Everything the test bed starts (components of the control plane, containers of pods) goes through [`spawn`], so that a
//! killed supervisor leaves nothing behind: the kernel kills the children itself (`PR_SET_PDEATHSIG`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, kill_process_group, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::process::Child;
use tokio::sync::oneshot;

pub use rustix::process::Signal;

/// Starts `command` without an input, as [`child_process::spawn`] does.
///
/// # Errors
/// As [`child_process::spawn`].
pub async fn spawn(mut command: Command) -> io::Result<Child> {
    command.stdin(Stdio::null());
    child_process::spawn(command.into(), None).await
}

/// Sends what `command` prints, on both streams, to the end of the file at `path`.
///
/// # Errors
/// When the file cannot be opened for appending.
pub fn log_to(command: &mut Command, path: &Path) -> io::Result<()> {
    let log: File = OpenOptions::new().create(true).append(true).open(path)?;
    command.stdout(log.try_clone()?).stderr(log);
    Ok(())
}

/// Sends a signal to every process of the group that `leader` leads. A group that is gone already is no error.
///
/// # Errors
/// When the kernel refuses (not our process).
pub fn signal_group(leader: u32, signal: Signal) -> io::Result<()> {
    match to_pid(leader).map(|pid| kill_process_group(pid, signal)) {
        None | Some(Ok(()) | Err(Errno::SRCH)) => Ok(()),
        Some(Err(errno)) => Err(errno.into()),
    }
}

/// A process as others may find it again: numbers are used again by the kernel, a number with its start time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// When it started, in clock ticks since the machine booted (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
}

impl Identity {
    /// The process that has this number now, or `None` if there is none.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_ticks) = state_and_start(&stat)?;
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, start_ticks })
    }

    /// Whether exactly this process still runs. One that has ended but was not yet collected by its parent does not run.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// A handle to wait for its end and to signal it without ever hitting another process; `None` if it has ended.
    ///
    /// # Errors
    /// When the kernel gives no process file descriptors (Linux before 5.3, or too many open files).
    pub fn open(self) -> io::Result<Option<Handled>> {
        let Some(pid) = to_pid(self.pid) else { return Ok(None) };
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        // Asked after opening: if it is still the same process now, the descriptor belongs to it.
        if !self.is_alive() {
            return Ok(None);
        }
        Ok(Some(Handled { descriptor }))
    }
}

/// A process of somebody else that can be waited for; see [`Identity::open`].
#[derive(Debug)]
pub struct Handled {
    descriptor: OwnedFd,
}

impl Handled {
    /// Waits for the process to end, at most this long; whether it has.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn ends_within(&self, time: Duration) -> io::Result<bool> {
        let time = time.try_into().map_err(io::Error::other)?;
        Ok(poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], Some(&time))? > 0)
    }

    /// Returns when the process has ended. A thread waits in the kernel for it, also if the future is dropped before.
    ///
    /// # Errors
    /// When there are too many open files.
    pub async fn ended(&self) -> io::Result<()> {
        let descriptor = self.descriptor.try_clone()?;
        let (tell, told) = oneshot::channel();
        thread::spawn(move || {
            let end = loop {
                match poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None) {
                    Err(Errno::INTR) => {}
                    Err(errno) => break Err(errno.into()),
                    Ok(_) => break Ok(()),
                }
            };
            drop(tell.send(end)); // an error only says that the waiting future was dropped
        });
        told.await.map_err(io::Error::other)?
    }

    /// Sends it a signal. A process that has ended already is no error.
    ///
    /// # Errors
    /// When the kernel refuses (a process of another user).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.descriptor, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// State letter and start time of a `/proc/PID/stat` line. The second field, the name, may hold blanks and brackets.
fn state_and_start(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 2";
        assert_eq!(state_and_start(stat), Some(('S', 4711)));
    }

    #[tokio::test]
    async fn a_process_is_found_again_until_it_ends() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut child = spawn(command).await.unwrap();
        let identity = Identity::of(child.id().unwrap()).unwrap();
        assert!(identity.is_alive());
        let handled = identity.open().unwrap().unwrap();
        handled.signal(Signal::TERM).unwrap();
        handled.ended().await.unwrap();
        child.wait().await.unwrap();
        assert!(!identity.is_alive());
        assert!(identity.open().unwrap().is_none());
    }
}
