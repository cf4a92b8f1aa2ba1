//! The default storage class, which an installer of a cluster would add.

use std::collections::BTreeMap;

use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::SupervisorError;

/// Makes the controller-manager's own hostPath provisioner the default for `PersistentVolumeClaims`.
pub(super) async fn create(client: &Client) -> Result<(), SupervisorError> {
    let default = ("storageclass.kubernetes.io/is-default-class".to_owned(), "true".to_owned());
    let class = StorageClass {
        metadata: ObjectMeta {
            name: Some("hostpath".to_owned()),
            annotations: Some(BTreeMap::from([default])),
            ..ObjectMeta::default()
        },
        provisioner: "kubernetes.io/host-path".to_owned(),
        reclaim_policy: Some("Delete".to_owned()),
        ..StorageClass::default()
    };
    let classes = Api::<StorageClass>::all(client.clone());
    let created = classes.create(&PostParams::default(), &class).await;
    created.map(|_| ()).map_err(|source| SupervisorError::Api { what: "the StorageClass hostpath", source })
}
