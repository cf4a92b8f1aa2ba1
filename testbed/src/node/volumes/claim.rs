//! Volumes that outlive their pods: claims bound to a volume that is a directory of this machine.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;

use super::super::NodeError;
use super::super::pod::PodRuntime;
use super::super::relation::once_known;
use super::super::sources::Unmet;
use super::files;

/// The directory behind the claim `name`, made if it is not there yet.
pub(super) async fn directory(pod: &PodRuntime, name: &str) -> Result<PathBuf, Unmet> {
    let client = &pod.node.client;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &pod.namespace);
    let claim = once_known(|| claims.get_opt(name)).await;
    let claim = claim.map_err(NodeError::api("read PersistentVolumeClaim", name))?;
    let claim = claim.ok_or_else(|| Unmet::new(format!("persistentvolumeclaim \"{name}\" not found")))?;
    let bound = claim.status.and_then(|status| status.phase).as_deref() == Some("Bound");
    let volume_name = claim.spec.and_then(|spec| spec.volume_name).filter(|_| bound);
    let volume_name =
        volume_name.ok_or_else(|| Unmet::new(format!("persistentvolumeclaim \"{name}\" is not bound")))?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let volume = once_known(|| volumes.get(&volume_name)).await;
    let volume = volume.map_err(NodeError::api("read PersistentVolume", &volume_name))?;
    let spec = volume.spec.unwrap_or_default();
    let path = spec.host_path.map(|host_path| host_path.path).or(spec.local.map(|local| local.path));
    let path = path.ok_or_else(|| {
        Unmet::new(format!("persistentvolume \"{volume_name}\" is neither hostPath nor local; this node has no other"))
    })?;
    let path = PathBuf::from(path);
    files::make_directory(&path)?;
    Ok(path)
}
