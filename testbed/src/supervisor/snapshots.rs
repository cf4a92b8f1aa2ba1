//! Snapshots of volumes: the API, which a cluster need not have, and the work of a snapshot controller with its driver.
//!
//! A snapshot is a copy of the volume's directory in `DIR/snapshots/UID`; [`crate::Cluster::snapshot`] looks into it.
//! Annotations of a class ask for faults: [`ERROR`] and [`DELAY`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, Duration, GroupVersionKind};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// The definitions.
const DEFINITIONS: &str = include_str!("snapshots.yaml");
/// The group of the snapshots' kinds.
const GROUP: &str = "snapshot.storage.k8s.io";
/// The class that is there from the start; tests make others.
const CLASS: &str = "hostpath";
/// Annotation of a class: each snapshot of it gets this error, and never becomes ready.
const ERROR: &str = "testbed.coderupgrade.dev/snapshot-error";
/// Annotation of a class: how long a snapshot of it takes, or `never`.
const DELAY: &str = "testbed.coderupgrade.dev/snapshot-delay";

/// Why a snapshot was not made.
#[derive(Debug, thiserror::Error)]
enum SnapshotError {
    /// The API server refused something.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The definitions were not accepted in time.
    #[error("the definitions were not established: {0}")]
    Definitions(String),
    /// The directory cannot be copied.
    #[error("cannot copy {}: {source}", directory.display())]
    Copy { directory: PathBuf, source: io::Error },
    /// Whoever asked for it did not say it right.
    #[error("{0}")]
    Asked(String),
}

/// Applies the definitions and makes the snapshots that are asked for, until `stop`.
pub(super) async fn run(client: Client, dir: PathBuf, stop: CancellationToken) {
    let work = async {
        if let Err(error) = define(&client).await {
            tracing::error!(%error, "there are no volume snapshots");
            return;
        }
        make(client, dir.join("snapshots")).await;
    };
    // None: it was stopped.
    let _ = stop.run_until_cancelled(work).await;
    stop.cancelled().await;
}

async fn define(client: &Client) -> Result<(), SnapshotError> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply("testbed").force();
    for definition in serde_saphyr::from_multiple::<Value>(DEFINITIONS)
        .map_err(|error| SnapshotError::Definitions(error.to_string()))?
    {
        let name = definition["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        definitions.patch(&name, &apply, &Patch::Apply(&definition)).await?;
        let established = await_condition(definitions.clone(), &name, conditions::is_crd_established()).await;
        established.map_err(|error| SnapshotError::Definitions(error.to_string()))?;
    }
    let class = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshotClass", "metadata": {"name": CLASS},
        "driver": "kubernetes.io/host-path", "deletionPolicy": "Delete",
    });
    let classes: Api<DynamicObject> =
        Api::all_with(client.clone(), &kind("VolumeSnapshotClass", "volumesnapshotclasses"));
    classes.patch(CLASS, &apply, &Patch::Apply(&class)).await?;
    Ok(())
}

fn kind(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, "v1", kind), plural)
}

fn snapshots() -> ApiResource {
    kind("VolumeSnapshot", "volumesnapshots")
}

async fn make(client: Client, directory: PathBuf) {
    let all: Api<DynamicObject> = Api::all_with(client.clone(), &snapshots());
    let mut asked = pin!(watcher(all, watcher::Config::default()).default_backoff().applied_objects());
    while let Some(snapshot) = asked.next().await {
        // After an error the watcher starts again by itself.
        let Ok(snapshot) = snapshot.inspect_err(|error| tracing::warn!(%error, "watching VolumeSnapshots")) else {
            continue;
        };
        if snapshot.data.get("status").is_some() {
            continue;
        }
        let (client, directory) = (client.clone(), directory.clone());
        // A slow one does not hold up the others.
        tokio::spawn(async move {
            let name = format!("{}/{}", snapshot.namespace().unwrap_or_default(), snapshot.name_any());
            match take(&client, &directory, &snapshot).await {
                Ok(()) => tracing::info!(snapshot = name, "took a snapshot"),
                Err(error) => tracing::warn!(snapshot = name, %error, "took no snapshot"),
            }
        });
    }
}

/// Does what the class of the snapshot says, and writes it into the snapshot's status.
async fn take(client: &Client, directory: &Path, snapshot: &DynamicObject) -> Result<(), SnapshotError> {
    let taken = match copy_of(client, directory, snapshot).await {
        Ok(taken) => taken,
        Err(SnapshotError::Asked(message)) => Some(json!({"message": message, "time": Timestamp::now()}))
            .map(|error| json!({"readyToUse": false, "error": error})),
        Err(error) => return Err(error),
    };
    let Some(status) = taken else { return Ok(()) };
    let namespace = snapshot.namespace().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &snapshots());
    let patch = Patch::Merge(json!({"metadata": {"uid": snapshot.uid()}, "status": status}));
    api.patch_status(&snapshot.name_any(), &PatchParams::default(), &patch).await?;
    Ok(())
}

/// The status of a snapshot that was taken; none if its class wants none.
async fn copy_of(client: &Client, directory: &Path, snapshot: &DynamicObject) -> Result<Option<Value>, SnapshotError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        volume_snapshot_class_name: Option<String>,
        source: Source,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Source {
        persistent_volume_claim_name: Option<String>,
    }

    let spec: Spec = serde_json::from_value(snapshot.data["spec"].clone())
        .map_err(|error| SnapshotError::Asked(format!("the spec cannot be read: {error}")))?;
    let class = spec.volume_snapshot_class_name.unwrap_or_else(|| CLASS.to_owned());
    let classes: Api<DynamicObject> =
        Api::all_with(client.clone(), &kind("VolumeSnapshotClass", "volumesnapshotclasses"));
    let class = classes
        .get_opt(&class)
        .await?
        .ok_or_else(|| SnapshotError::Asked(format!("failed to get VolumeSnapshotClass {class}: it does not exist")))?;
    match class.annotations().get(DELAY).map(String::as_str) {
        Some("never") => return Ok(None),
        Some(delay) => {
            let delay = delay.parse::<Duration>().map_err(|error| SnapshotError::Asked(error.to_string()))?;
            tokio::time::sleep(delay.into()).await;
        }
        None => {}
    }
    if let Some(error) = class.annotations().get(ERROR) {
        return Err(SnapshotError::Asked(error.clone()));
    }
    let claim = spec.source.persistent_volume_claim_name.unwrap_or_default();
    let (volume, size) = volume(client, &snapshot.namespace().unwrap_or_default(), &claim).await?;
    let taken = Timestamp::now();
    let copy = directory.join(snapshot.uid().unwrap_or_default());
    let source = volume.clone();
    let copied = tokio::task::spawn_blocking(move || copy_directory(&source, &copy)).await.map_err(io::Error::from);
    copied.and_then(|copied| copied).map_err(|source| SnapshotError::Copy { directory: volume, source })?;
    Ok(Some(json!({"readyToUse": true, "creationTime": taken, "restoreSize": size, "error": null})))
}

/// Directory and size of the volume that a claim is bound to.
async fn volume(client: &Client, namespace: &str, claim: &str) -> Result<(PathBuf, Value), SnapshotError> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let missing =
        || SnapshotError::Asked(format!("PersistentVolumeClaim {claim} is not bound to a volume of this node"));
    let found = claims.get_opt(claim).await?.ok_or_else(missing)?;
    let size = json!(found.status.and_then(|status| status.capacity).and_then(|mut sizes| sizes.remove("storage")));
    let name = found.spec.and_then(|spec| spec.volume_name).ok_or_else(missing)?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let path = volumes.get_opt(&name).await?.and_then(|volume| volume.spec?.host_path).ok_or_else(missing)?.path;
    Ok((PathBuf::from(path), size))
}

/// Copies files and directories; there is nothing else in the volumes of the test bed.
fn copy_directory(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_everything() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to/there"));
        fs::create_dir_all(from.join("pgdata")).unwrap();
        fs::write(from.join("pgdata/record.json"), "{}").unwrap();
        copy_directory(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("pgdata/record.json")).unwrap(), "{}");
    }

    #[test]
    fn the_definitions_can_be_read() {
        let definitions: Vec<CustomResourceDefinition> = serde_saphyr::from_multiple(DEFINITIONS).unwrap();
        assert_eq!(definitions.len(), 2);
        assert!(definitions.iter().all(|definition| definition.spec.group == GROUP));
    }
}
