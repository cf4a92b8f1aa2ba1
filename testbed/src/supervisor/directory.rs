//! The directory of a cluster: one supervisor at a time, and nothing left of the one before.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::volumes;
use crate::real_node;

/// The file that the supervisor keeps locked while it lives.
const LOCK: &str = "lock";
/// Logs of the cluster that ran last; kept at the end, so that one can read what happened.
const LOGS: &str = "logs";
/// The supervisor's own log, which whoever starts it opens before.
pub const SUPERVISOR_LOG: &str = "logs/supervisor.log";
/// What an orderly end leaves: what happened and what it was.
const KEPT_AT_END: [&str; 3] = [LOCK, LOGS, "cluster.json"];

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another supervisor has it.
    #[error("another cluster runs in {}; stop it first, or choose another directory", .0.display())]
    Taken(PathBuf),
    /// The file system refused something.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A directory that belongs to this process until it ends.
#[derive(Debug)]
pub(super) struct OwnDirectory {
    path: PathBuf,
    _lock: File,
}

impl OwnDirectory {
    /// Takes the directory `path`, creates it if need be, and removes what a cluster that died left in it.
    pub(super) fn take(path: &Path) -> Result<Self, DirectoryError> {
        fs::create_dir_all(path.join(LOGS)).map_err(failed("create", path))?;
        let lock_path = path.join(LOCK);
        let lock = File::create(&lock_path).map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DirectoryError::Taken(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        let directory = Self { path: path.to_owned(), _lock: lock };
        directory.remove_outside()?;
        directory.remove_all_but(&[LOCK, LOGS])?;
        directory.remove_old_logs()?;
        Ok(directory)
    }

    /// Removes what the cluster made elsewhere, and everything but the logs and the state.
    pub(super) fn clean_up(&self) -> Result<(), DirectoryError> {
        self.remove_outside()?;
        self.remove_all_but(&KEPT_AT_END)
    }

    /// Removes the directory with all that is in it.
    pub(super) fn remove(self) -> Result<(), DirectoryError> {
        self.remove_outside()?;
        fs::remove_dir_all(&self.path).map_err(failed("remove", &self.path))
    }

    /// Removes what the cluster made outside of its directory: volumes, and the cgroups and the cable of a real node.
    fn remove_outside(&self) -> Result<(), DirectoryError> {
        real_node::remove_remains(&self.path).map_err(failed("remove the cgroups and the cable of", &self.path))?;
        volumes::remove(&self.path).map_err(failed("remove the volumes of", &self.path))
    }

    fn remove_old_logs(&self) -> Result<(), DirectoryError> {
        let own = self.path.join(SUPERVISOR_LOG);
        remove_entries(&self.path.join(LOGS), |path| path == own)
    }

    fn remove_all_but(&self, kept: &[&str]) -> Result<(), DirectoryError> {
        remove_entries(&self.path, |path| kept.iter().any(|name| path.ends_with(name)))
    }
}

/// How long the lock of a supervisor that was killed may be held by a process that it had forked and not yet executed.
const UNLOCK: Duration = Duration::from_secs(10);

/// Removes what a supervisor that was killed could not: its volumes, keys and data, and what a real node leaves. Does nothing if another one has
/// taken over the directory, which `is_taken_over` tells.
///
/// # Errors
/// When something cannot be removed, or the lock is held though nobody has taken over.
pub(crate) fn clean_up_after_the_dead(path: &Path, is_taken_over: impl Fn() -> bool) -> Result<(), DirectoryError> {
    let lock_path = path.join(LOCK);
    let lock = File::create(&lock_path).map_err(failed("open", &lock_path))?;
    let begun = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return OwnDirectory { path: path.to_owned(), _lock: lock }.clean_up(),
            Err(TryLockError::WouldBlock) if is_taken_over() => return Ok(()),
            Err(TryLockError::WouldBlock) if begun.elapsed() > UNLOCK => {
                return Err(DirectoryError::Taken(path.to_owned()));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
    }
}

fn remove_entries(dir: &Path, keep: impl Fn(&Path) -> bool) -> Result<(), DirectoryError> {
    for entry in fs::read_dir(dir).map_err(failed("read", dir))? {
        let entry = entry.map_err(failed("read", dir))?;
        let path = entry.path();
        if keep(&path) {
            continue;
        }
        let is_dir = entry.file_type().map_err(failed("read", &path))?.is_dir();
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed("remove", &path))?;
    }
    Ok(())
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError + use<> {
    let path = path.to_owned();
    move |source| DirectoryError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_supervisor_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = OwnDirectory::take(dir.path()).unwrap();
        assert!(matches!(OwnDirectory::take(dir.path()), Err(DirectoryError::Taken(_))));
        drop(first);
        OwnDirectory::take(dir.path()).unwrap();
    }

    #[test]
    fn what_a_dead_cluster_left_is_removed_but_for_the_log_in_use() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etcd/member")).unwrap();
        fs::create_dir_all(dir.path().join("logs")).unwrap();
        for file in ["cluster.json", "kubeconfig", "logs/etcd.log", SUPERVISOR_LOG] {
            fs::write(dir.path().join(file), "old").unwrap();
        }
        let _directory = OwnDirectory::take(dir.path()).unwrap();
        let left = |name: &str| dir.path().join(name).exists();
        assert!(left(SUPERVISOR_LOG) && !left("logs/etcd.log"));
        assert!(!left("etcd") && !left("kubeconfig") && !left("cluster.json"));
    }

    #[test]
    fn the_logs_and_the_state_outlive_the_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let directory = OwnDirectory::take(dir.path()).unwrap();
        for file in ["cluster.json", "kubeconfig", "logs/etcd.log"] {
            fs::write(dir.path().join(file), "now").unwrap();
        }
        directory.clean_up().unwrap();
        let left = |name: &str| dir.path().join(name).exists();
        assert!(left("cluster.json") && left("logs/etcd.log") && !left("kubeconfig"));
    }
}
