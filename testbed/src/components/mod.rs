//! The programs of a cluster, built once from their Go modules and kept in the user's cache directory.
//!
//! The modules lie in `testbed/components/NAME` and are compiled into this crate, so that versions and checksums have one
//! source. A binary is built when its entry in the cache is missing or broken; two builders of the same entry wait for
//! each other. Files: `table` what there is, `cache` entries and their soundness, `go` the compiler.

mod cache;
mod go;
mod progress;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cache::{Entry, Flaw};
pub use progress::Progress;
pub use table::{CLUSTER, Component, REAL_NODE};

/// Where to find the programs that [`ensure`] was asked for.
#[derive(Debug, Clone, Default)]
pub struct Binaries(BTreeMap<Component, PathBuf>);

impl Binaries {
    /// The path of one program; `None` if it was not asked for.
    #[must_use]
    pub fn get(&self, component: Component) -> Option<&Path> {
        self.0.get(&component).map(PathBuf::as_path)
    }

    /// All programs with their paths.
    pub fn iter(&self) -> impl Iterator<Item = (Component, &Path)> {
        self.0.iter().map(|(component, path)| (*component, path.as_path()))
    }
}

impl FromIterator<(Component, PathBuf)> for Binaries {
    fn from_iter<I: IntoIterator<Item = (Component, PathBuf)>>(programs: I) -> Self {
        Self(programs.into_iter().collect())
    }
}

/// Why a program could not be supplied.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("no place for built components: set HOME or XDG_CACHE_HOME")]
    NoCacheDirectory,
    /// The file system refused something.
    #[error("{component}: cannot {what} {}: {source}", path.display())]
    Io {
        /// The program concerned.
        component: &'static str,
        /// What was tried, as a verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no Go compiler.
    #[error(
        "`go` is not installed (or not in PATH); it builds {component} once. Install Go {wanted} or newer: https://go.dev/dl"
    )]
    GoMissing {
        /// The program that would have been built.
        component: &'static str,
        /// The Go version that its module asks for.
        wanted: String,
    },
    /// The Go compiler cannot build this module.
    #[error("this Go cannot build {component}, which asks for Go {wanted} or newer (https://go.dev/dl): {said}")]
    GoTooOld {
        /// The program that would have been built.
        component: &'static str,
        /// The Go version that its module asks for.
        wanted: String,
        /// What `go` said.
        said: String,
    },
    /// The build failed.
    #[error("building {component} {version} failed:\n{output}")]
    Build {
        /// The program concerned.
        component: &'static str,
        /// Its version.
        version: String,
        /// The last lines of `go build`.
        output: String,
    },
    /// The build succeeded, but what came out does not work.
    #[error("{component} was built, but {flaw}")]
    Unsound {
        /// The program concerned.
        component: &'static str,
        /// What is wrong with it.
        flaw: Flaw,
    },
}

/// The test bed's directory in the user's cache: what takes long to make and is the same for all clusters.
///
/// # Errors
/// When neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache_dir() -> Result<PathBuf, ComponentError> {
    cache::root()
}

/// Makes sure that all of `wanted` exist and work, and builds what does not. Blocks, possibly for minutes.
///
/// `etcd`, `kube-apiserver` and `kubectl` are taken from the directory `KUBEBUILDER_ASSETS` if that is set and has them.
///
/// # Errors
/// See [`ComponentError`]; each says which program and what helps.
pub fn ensure(wanted: &[Component], progress: &dyn Fn(Progress<'_>)) -> Result<Binaries, ComponentError> {
    let root = cache::root()?;
    progress(Progress::Checking { count: wanted.len() });
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    for &component in wanted {
        if let Some(path) = supplied(component) {
            found.insert(component, path);
            continue;
        }
        let entry = Entry::of(component, &root);
        match entry.inspect() {
            Ok(()) => drop(found.insert(component, entry.path())),
            Err(flaw) => missing.push((component, entry, flaw)),
        }
    }
    let names: Vec<_> = missing.iter().map(|(component, ..)| component.name()).collect();
    for (position, (component, entry, flaw)) in missing.iter().enumerate() {
        let started = Instant::now();
        let step = progress::Step { component: *component, position: position + 1, of: &names, started };
        if !matches!(flaw, Flaw::Missing) {
            progress(Progress::Broken { component: *component, flaw });
        }
        build(&step, entry, progress)?;
        found.insert(*component, entry.path());
    }
    Ok(Binaries(found))
}

/// Whether a component was built and works, so that [`ensure`] returns at once.
///
/// # Errors
/// When there is no place for built components.
pub fn is_built(component: Component) -> Result<bool, ComponentError> {
    Ok(Entry::of(component, &cache::root()?).inspect().is_ok())
}

/// Where the sources lie that a component is built from: those of the module whose version is its version.
///
/// # Errors
/// As [`ensure`], which must have been called for it.
pub fn sources(component: Component) -> Result<PathBuf, ComponentError> {
    go::sources(component, &Entry::of(component, &cache::root()?).module_dir())
}

/// Builds one entry, unless somebody else has done so while we waited for the lock.
fn build(step: &progress::Step<'_>, entry: &Entry, progress: &dyn Fn(Progress<'_>)) -> Result<(), ComponentError> {
    let component = step.component;
    let _lock = entry.lock(|| progress(Progress::Waiting { component }))?;
    if entry.inspect().is_ok() {
        return Ok(());
    }
    entry.fill(|target| go::build(component, &entry.module_dir(), target, || progress(step.building())))?;
    progress(Progress::Built { component, took: step.started.elapsed() });
    Ok(())
}

/// A program that the developer supplies, as other Kubernetes test tools take it.
fn supplied(component: Component) -> Option<PathBuf> {
    if !matches!(component, Component::Etcd | Component::KubeApiserver | Component::Kubectl) {
        return None;
    }
    let path = Path::new(&std::env::var_os("KUBEBUILDER_ASSETS")?).join(component.name());
    path.is_file().then_some(path)
}
