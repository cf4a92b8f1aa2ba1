//! The volumes of a pod, as directories below the pod's own.

mod claim;
mod files;
mod payload;
mod projected;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Volume};

use super::paths::MountTable;
use super::pod::PodRuntime;
use super::sources::Unmet;

/// The directories of a pod's volumes by the volumes' names.
pub type Volumes = BTreeMap<String, PathBuf>;

/// Makes all volumes of the pod, or brings them up to date with the objects they are made from.
pub(super) async fn materialise(pod: &PodRuntime) -> Result<Volumes, Unmet> {
    let object = pod.object();
    let mut volumes = Volumes::new();
    for volume in object.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let directory = one(pod, volume).await.map_err(|unmet| {
            Unmet::new(format!("MountVolume.SetUp failed for volume \"{}\" : {}", volume.name, unmet.message))
        })?;
        volumes.insert(volume.name.clone(), directory);
    }
    Ok(volumes)
}

async fn one(pod: &PodRuntime, volume: &Volume) -> Result<PathBuf, Unmet> {
    let directory = pod.dir.join("volumes").join(&volume.name);
    files::make_directory(&directory)?;
    if let Some(claim) = &volume.persistent_volume_claim {
        return claim::directory(pod, &claim.claim_name).await;
    }
    if let Some(content) = payload::content(pod, volume).await? {
        files::write_all(&directory, &content)?;
    } else if let Some(projected) = &volume.projected {
        files::write_all(&directory, &projected::content(pod, &volume.name, projected).await?)?;
    } else if volume.empty_dir.is_none() {
        let note = format!("volume {}: its type is not supported; it is an empty directory", volume.name);
        pod.not_supported(&note).await;
    }
    Ok(directory)
}

/// Where the mounts of `container` really lie. Directories of `subPath`s are made.
pub(super) fn mounts(container: &Container, volumes: &Volumes) -> Result<MountTable, Unmet> {
    let mut table = MountTable::default();
    for mount in container.volume_mounts.iter().flatten() {
        let Some(directory) = volumes.get(&mount.name) else { continue };
        let real = match mount.sub_path.as_ref().filter(|path| !path.is_empty()) {
            None => directory.clone(),
            Some(sub_path) => {
                let real = files::below(directory, sub_path)?;
                if !real.exists() {
                    files::make_directory(&real)?;
                }
                real
            }
        };
        table.insert(&mount.mount_path, real);
    }
    Ok(table)
}

/// The directory of the first mounted claim, where a database keeps its data.
pub(super) fn claim_directory(pod: &PodRuntime, container: &Container, table: &MountTable) -> Option<PathBuf> {
    let object = pod.object();
    let volumes: Vec<&Volume> = object.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).collect();
    let mut mounts = container.volume_mounts.iter().flatten();
    let mount = mounts.find(|mount| {
        volumes.iter().any(|volume| volume.name == mount.name && volume.persistent_volume_claim.is_some())
    })?;
    let path = mount.mount_path.trim_end_matches('/');
    table.iter().find(|(known, _)| *known == path).map(|(_, real)| real.to_owned())
}

/// Lays the mounts out as a tree of links, so that `$POD_ROOT/etc/coder` is what a container sees as `/etc/coder`. A mount
/// inside another one is not linked: the outer directory may be shared or read-only.
pub(super) fn link_root(root: &Path, table: &MountTable) -> Result<(), Unmet> {
    files::make_directory(root)?;
    let paths: Vec<&str> = table.iter().map(|(path, _)| path).collect();
    for (path, real) in table.iter() {
        let is_inside = |outer: &&str| path.strip_prefix(*outer).is_some_and(|rest| rest.starts_with('/'));
        if !paths.iter().any(is_inside) {
            files::link(&root.join(path.trim_start_matches('/')), real)?;
        }
    }
    Ok(())
}
