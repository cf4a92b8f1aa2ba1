//! The storage classes, which an installer of a cluster would add.

use std::collections::BTreeMap;

use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::SupervisorError;

/// The class whose volumes can be enlarged; see [`super::resizer`].
pub(super) const EXPANDABLE: &str = "expandable";

/// Makes two classes for the controller-manager's own hostPath provisioner: `hostpath`, the default one, whose volumes keep
/// their size, and [`EXPANDABLE`].
pub(super) async fn create(client: &Client) -> Result<(), SupervisorError> {
    let classes = Api::<StorageClass>::all(client.clone());
    for class in [class("hostpath", true, false), class(EXPANDABLE, false, true)] {
        let created = classes.create(&PostParams::default(), &class).await;
        created.map_err(|source| SupervisorError::Api { what: "a StorageClass", source })?;
    }
    Ok(())
}

fn class(name: &str, is_default: bool, expandable: bool) -> StorageClass {
    let default = ("storageclass.kubernetes.io/is-default-class".to_owned(), is_default.to_string());
    StorageClass {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some(BTreeMap::from([default])),
            ..ObjectMeta::default()
        },
        provisioner: "kubernetes.io/host-path".to_owned(),
        reclaim_policy: Some("Delete".to_owned()),
        allow_volume_expansion: Some(expandable),
        ..StorageClass::default()
    }
}
