//! Entries of the cache: `ROOT/NAME-VERSION-DIGEST/NAME`, with the size it must have beside it.
//!
//! A binary comes into its place by one rename, after it has proved that it runs. It is looked at again before each use,
//! because a full disk, a killed copy or a cleaner of caches can break it later.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Component, ComponentError};

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// It was never built.
    Missing,
    /// It is shorter or longer than what was built.
    Size {
        /// Bytes that were built, if that was written down.
        built: Option<u64>,
        /// Bytes that are there.
        found: u64,
    },
    /// It cannot be started, or ends with an error.
    DoesNotRun(String),
    /// It runs, but says another version.
    Version {
        /// What it should say.
        wanted: String,
        /// What it says.
        said: String,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is not there"),
            Self::Size { built: Some(built), found } => write!(f, "it has {found} bytes instead of {built}"),
            Self::Size { built: None, found } => write!(f, "it ({found} bytes) was never finished"),
            Self::DoesNotRun(why) => write!(f, "it does not run: {why}"),
            Self::Version { wanted, said } => write!(f, "it should be version {wanted} and says: {said}"),
        }
    }
}

/// The directory of all entries.
pub(super) fn root() -> Result<PathBuf, ComponentError> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    base.map(|base| base.join("coder-upgrade-testbed")).ok_or(ComponentError::NoCacheDirectory)
}

/// One binary in the cache.
#[derive(Debug)]
pub(super) struct Entry {
    dir: PathBuf,
    name: &'static str,
    version: &'static str,
    version_arguments: &'static [&'static str],
    tells_its_version: bool,
}

/// Held while an entry is being built; other builders wait.
#[derive(Debug)]
pub(super) struct BuildLock(#[expect(dead_code, reason = "unlocks when dropped")] File);

impl Entry {
    pub(super) fn of(component: Component, root: &Path) -> Self {
        let (name, version) = (component.name(), component.version());
        let dir = root.join(format!("{name}-{version}-{}", component.digest()));
        let (version_arguments, tells_its_version) = (component.version_arguments(), component.tells_its_version());
        Self { dir, name, version, version_arguments, tells_its_version }
    }

    /// Where the binary is, once it is sound.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.join(self.name)
    }

    /// Where the module lies while the binary is built.
    pub(super) fn module_dir(&self) -> PathBuf {
        self.dir.join("module")
    }

    /// Whether the binary is whole, runs, and is the right version.
    pub(super) fn inspect(&self) -> Result<(), Flaw> {
        let path = self.path();
        let found = fs::metadata(&path).map_err(|_| Flaw::Missing)?.len();
        let built = fs::read_to_string(self.size_file()).ok().and_then(|text| text.trim().parse().ok());
        if built != Some(found) {
            return Err(Flaw::Size { built, found });
        }
        self.says_its_version(&path)
    }

    /// Waits until no other process builds this entry; calls `waiting` first if one does.
    pub(super) fn lock(&self, waiting: impl FnOnce()) -> Result<BuildLock, ComponentError> {
        let path = self.dir.join("lock");
        fs::create_dir_all(&self.dir).map_err(self.failed("create", &self.dir))?;
        let file = File::create(&path).map_err(self.failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(BuildLock(file)),
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(self.failed("lock", &path))?;
                Ok(BuildLock(file))
            }
            Err(TryLockError::Error(source)) => Err(self.failed("lock", &path)(source)),
        }
    }

    /// Lets `make` write a new binary to a path beside the old one, tries it, and puts it in place. Needs the lock.
    pub(super) fn fill(&self, make: impl FnOnce(&Path) -> Result<(), ComponentError>) -> Result<(), ComponentError> {
        let (target, candidate) = (self.path(), self.dir.join(format!("{}.new", self.name)));
        match fs::remove_file(&candidate) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.failed("remove", &candidate)(error));
            }
            _ => make(&candidate)?,
        }
        self.says_its_version(&candidate).map_err(|flaw| ComponentError::Unsound { component: self.name, flaw })?;
        let size = fs::metadata(&candidate).map_err(self.failed("read", &candidate))?.len();
        let size_file = self.size_file();
        fs::write(&size_file, size.to_string()).map_err(self.failed("write", &size_file))?;
        fs::rename(&candidate, &target).map_err(self.failed("put in place", &target))
    }

    fn size_file(&self) -> PathBuf {
        self.dir.join("size")
    }

    fn says_its_version(&self, path: &Path) -> Result<(), Flaw> {
        let mut command = Command::new(path);
        command.args(self.version_arguments).env_clear().stdin(Stdio::null());
        let output = command.output().map_err(|error| Flaw::DoesNotRun(error.to_string()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(Flaw::DoesNotRun(format!("{}: {}", output.status, first_line(&why))));
        }
        if !self.tells_its_version || said.contains(self.version.trim_start_matches('v')) {
            return Ok(());
        }
        Err(Flaw::Version { wanted: self.version.to_owned(), said: first_line(&said).to_owned() })
    }

    fn failed(&self, what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ComponentError + use<> {
        let (component, path) = (self.name, path.to_owned());
        move |source| ComponentError::Io { component, what, path, source }
    }
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or("nothing")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn entry(root: &Path) -> Entry {
        let dir = root.join("tiny-v1.2.3");
        Entry { dir, name: "tiny", version: "v1.2.3", version_arguments: &["--version"], tells_its_version: true }
    }

    /// Writes a program that says `text`. A child process does it, as in earnest: a program that is still open for
    /// writing anywhere (in a process forked meanwhile, too) cannot be started.
    fn make(text: &'static str) -> impl FnOnce(&Path) -> Result<(), ComponentError> {
        move |path| {
            let script = format!("printf '#!/bin/sh\\necho {text}\\n' >\"$0\"; chmod +x \"$0\"");
            assert!(Command::new("sh").arg("-c").arg(script).arg(path).status().unwrap().success());
            Ok(())
        }
    }

    fn fill(entry: &Entry, text: &'static str) -> Result<(), ComponentError> {
        // A program that another test forks at this moment holds the lock as well, until it is executed.
        let _lock = entry.lock(|| {}).unwrap();
        entry.fill(make(text))
    }

    #[test]
    fn an_entry_is_missing_until_it_is_built() {
        let root = tempfile::tempdir().unwrap();
        let entry = entry(root.path());
        assert_eq!(entry.inspect(), Err(Flaw::Missing));
        fill(&entry, "tiny 1.2.3").unwrap();
        assert_eq!(entry.inspect(), Ok(()));
    }

    #[test]
    fn a_truncated_entry_is_noticed_and_healed() {
        let root = tempfile::tempdir().unwrap();
        let entry = entry(root.path());
        fill(&entry, "tiny 1.2.3").unwrap();
        let file = File::options().write(true).open(entry.path()).unwrap();
        file.set_len(5).unwrap();
        drop(file);
        assert!(matches!(entry.inspect(), Err(Flaw::Size { built: Some(_), found: 5 })));
        fill(&entry, "tiny 1.2.3").unwrap();
        assert_eq!(entry.inspect(), Ok(()));
    }

    #[test]
    fn an_entry_that_is_not_executable_is_noticed_and_healed() {
        let root = tempfile::tempdir().unwrap();
        let entry = entry(root.path());
        fill(&entry, "tiny 1.2.3").unwrap();
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(entry.inspect(), Err(Flaw::DoesNotRun(_))));
        fill(&entry, "tiny 1.2.3").unwrap();
        assert_eq!(entry.inspect(), Ok(()));
    }

    #[test]
    fn a_build_that_does_not_work_never_replaces_one_that_does() {
        let root = tempfile::tempdir().unwrap();
        let entry = entry(root.path());
        fill(&entry, "tiny 1.2.3").unwrap();
        let error = fill(&entry, "tiny 1.2.2").unwrap_err().to_string();
        assert!(error.contains("should be version v1.2.3 and says: tiny 1.2.2"), "{error}");
        assert_eq!(entry.inspect(), Ok(()));
    }

    #[test]
    fn a_second_builder_waits_for_the_first() {
        let root = tempfile::tempdir().unwrap();
        let first = entry(root.path());
        let lock = Cell::new(Some(first.lock(|| {}).unwrap()));
        let waited = Cell::new(false);
        let _second = entry(root.path())
            .lock(|| {
                waited.set(true);
                drop(lock.take()); // the first one is done
            })
            .unwrap();
        assert!(waited.get());
    }
}
