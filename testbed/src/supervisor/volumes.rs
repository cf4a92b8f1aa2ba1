//! Directories of hostPath volumes that this cluster made outside of its own directory.
//!
//! The controller-manager's provisioner makes them in `/tmp/hostpath_pv`, which all clusters of a machine share and which
//! cannot be changed. So each cluster writes down its own as they appear, and removes exactly these at its end, or, if it
//! was killed, when the next cluster starts in the same directory.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component as Part, Path, PathBuf};
use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

/// Where the provisioner makes directories; fixed in kube-controller-manager.
const SHARED: &str = "/tmp/hostpath_pv";
/// The list of our directories, one a line.
const FILE: &str = "volumes";

/// Writes down each volume's directory as it appears, and opens it to every user, until `stop`, and then whatever the API server knows.
pub(super) async fn write_down(client: Client, dir: PathBuf, stop: CancellationToken) {
    let volumes = Api::<PersistentVolume>::all(client.clone());
    let appeared = watcher(volumes, watcher::Config::default()).default_backoff().applied_objects();
    let mut appeared = pin!(appeared);
    let mut seen = BTreeSet::new();
    while let Some(Some(volume)) = stop.run_until_cancelled(appeared.next()).await {
        // After an error the watcher starts again by itself.
        let Ok(volume) = volume.inspect_err(|error| tracing::warn!(%error, "watching PersistentVolumes")) else {
            continue;
        };
        let Some(directory) = directory_of(&volume).filter(|directory| !seen.contains(directory)) else { continue };
        // The provisioner makes it for root alone; those of kind and k3s let every user write, as Coder has to.
        let open = || fs::set_permissions(&directory, Permissions::from_mode(0o777));
        if let Err(error) = append(&dir, &directory).and_then(|()| open()) {
            tracing::error!(%error, directory = %directory.display(), "cannot write down or open a volume");
        }
        seen.insert(directory);
    }
    // A volume may have been made a moment before the end; its maker has been stopped by now.
    if let Err(error) = write_down_now(&client, &dir).await {
        tracing::error!(%error, "cannot look for the last volumes");
    }
}

async fn write_down_now(client: &Client, dir: &Path) -> io::Result<()> {
    let volumes = Api::<PersistentVolume>::all(client.clone());
    let volumes = volumes.list(&ListParams::default()).await.map_err(io::Error::other)?;
    volumes.iter().filter_map(directory_of).try_for_each(|directory| append(dir, &directory))
}

/// Removes the directories that the cluster in `dir` wrote down.
///
/// # Errors
/// When the list cannot be read, or a directory that exists cannot be removed.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    let list = dir.join(FILE);
    let text = match fs::read_to_string(&list) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for directory in text.lines().map(Path::new).filter(|directory| is_ours(directory)) {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::remove_file(&list)
}

fn directory_of(volume: &PersistentVolume) -> Option<PathBuf> {
    let path = PathBuf::from(&volume.spec.as_ref()?.host_path.as_ref()?.path);
    is_ours(&path).then_some(path)
}

/// A direct child of the shared directory: nothing else is ever removed, whatever a `PersistentVolume` says.
fn is_ours(path: &Path) -> bool {
    path.strip_prefix(SHARED).is_ok_and(|rest| {
        let mut parts = rest.components();
        matches!((parts.next(), parts.next()), (Some(Part::Normal(_)), None))
    })
}

fn append(dir: &Path, directory: &Path) -> io::Result<()> {
    let mut list = OpenOptions::new().create(true).append(true).open(dir.join(FILE))?;
    writeln!(list, "{}", directory.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_children_of_the_shared_directory_are_removed() {
        assert!(is_ours(Path::new("/tmp/hostpath_pv/5b9e")));
        for path in ["/tmp/hostpath_pv", "/tmp/hostpath_pv/..", "/tmp/hostpath_pv/a/b", "/home", "hostpath_pv/a"] {
            assert!(!is_ours(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_cluster_without_volumes_has_nothing_to_remove() {
        remove(tempfile::tempdir().unwrap().path()).unwrap();
    }
}
