//! The namespaces of the node: mounts, network, processes, IPC and host name of its own.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::first_process::{Arguments, Prepared};
use super::{RealNodeError, host::Host};
use crate::control_plane::launch::{LaunchError, Program, Running, launch};
use crate::control_plane::log_file;

/// The component that holds the namespaces; its end is the node's.
pub(super) const NAME: &str = "node";

/// Namespaces that live as long as their first process.
#[derive(Debug, Clone)]
pub(super) struct Space {
    /// The first process, by its number on the machine.
    pid: u32,
    nsenter: PathBuf,
    path: OsString,
    pub(super) prepared: Prepared,
}

impl Space {
    /// Makes the namespaces and returns when everything is mounted in them. `program` is `testbed` itself.
    pub(super) async fn open(
        host: &Host,
        program: &Path,
        cluster: &Path,
        arguments: &Arguments,
    ) -> Result<(Self, Running), RealNodeError> {
        let Arguments { dir, hostname } = arguments;
        Prepared::forget(dir)?;
        let unshare = host.program("unshare");
        // When `unshare` is killed, so is the first process, and with it everything.
        let mut words: Vec<OsString> =
            ["--mount", "--net", "--pid", "--ipc", "--uts", "--propagation=private", "--fork", "--kill-child", "--"]
                .map(OsString::from)
                .into();
        words.extend([program.into(), "first-process".into(), "--dir".into(), dir.into(), "--hostname".into()]);
        words.push(hostname.into());
        let log = log_file(cluster, NAME);
        let first = Program { name: NAME, version: None, path: &unshare, arguments: words, path_variable: None, log };
        let running = launch(first, async || Prepared::read(dir).is_some()).await?;
        let unshare = running.identity.pid;
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap_or_default();
        let pid = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let (Some(pid), Some(prepared)) = (pid, Prepared::read(dir)) else {
            return Err(RealNodeError::Lost);
        };
        Ok((Self { pid, nsenter: host.program("nsenter"), path: host.path().to_owned(), prepared }, running))
    }

    /// The first process, by its number on the machine.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// What runs `program` inside.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(&self.nsenter);
        command.args(self.entry(program)).env("PATH", &self.path);
        command
    }

    /// Starts a program inside and returns when `serves` says yes.
    pub(super) async fn launch(
        &self,
        cluster: &Path,
        (name, version): (&'static str, Option<&'static str>),
        program: &Path,
        arguments: impl IntoIterator<Item = String>,
        serves: impl AsyncFn() -> bool,
    ) -> Result<Running, LaunchError> {
        let arguments = self.entry(program).into_iter().chain(arguments.into_iter().map(Into::into)).collect();
        let (path, path_variable) = (self.nsenter.as_path(), Some(self.path.as_os_str()));
        let log = log_file(cluster, name);
        launch(Program { name, version, path, arguments, path_variable, log }, serves).await
    }

    fn entry(&self, program: &Path) -> Vec<OsString> {
        let target = format!("--target={}", self.pid);
        let mut words: Vec<OsString> = [&target, "--mount", "--net", "--pid", "--ipc", "--uts", "--"]
            .map(|word: &str| OsStr::new(word).into())
            .into();
        words.push(program.into());
        words
    }
}
