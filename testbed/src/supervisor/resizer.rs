//! Enlarges the volumes of the class [`EXPANDABLE`], as the resizer of a CSI driver would.
//!
//! The controller-manager leaves this to the driver. A directory has no size, so only what the API tells is changed: the
//! volume's capacity first, then the claim's.

use std::collections::BTreeMap;
use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::storage_class::EXPANDABLE;

/// Enlarges each bound claim that asks for another size than it has, until `stop`. That it never becomes smaller is seen to
/// by the API server.
pub(super) async fn run(client: Client, stop: CancellationToken) {
    let claims = Api::<PersistentVolumeClaim>::all(client.clone());
    let mut changed = pin!(watcher(claims, watcher::Config::default()).default_backoff().applied_objects());
    while let Some(Some(claim)) = stop.run_until_cancelled(changed.next()).await {
        // After an error the watcher starts again by itself.
        let Ok(claim) = claim.inspect_err(|error| tracing::warn!(%error, "watching PersistentVolumeClaims")) else {
            continue;
        };
        let Some((volume, size)) = wanted(&claim) else { continue };
        match resize(&client, &claim, &volume, &size).await {
            Ok(()) => tracing::info!(claim = claim.name_any(), size = size.0, "enlarged"),
            Err(error) => tracing::warn!(claim = claim.name_any(), %error, "cannot enlarge"),
        }
    }
}

/// The volume of the claim and the size that it should have, if that is not the size that it has.
fn wanted(claim: &PersistentVolumeClaim) -> Option<(String, Quantity)> {
    let (spec, status) = (claim.spec.as_ref()?, claim.status.as_ref()?);
    let is_ours = spec.storage_class_name.as_deref() == Some(EXPANDABLE) && status.phase.as_deref() == Some("Bound");
    let storage = |sizes: Option<&BTreeMap<String, Quantity>>| sizes?.get("storage").cloned();
    let asked = storage(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()))?;
    let has = storage(status.capacity.as_ref());
    (is_ours && has.is_some_and(|has| has != asked)).then_some((spec.volume_name.clone()?, asked))
}

async fn resize(
    client: &Client,
    claim: &PersistentVolumeClaim,
    volume: &str,
    size: &Quantity,
) -> Result<(), kube::Error> {
    let capacity = json!({"storage": size});
    let volumes = Api::<PersistentVolume>::all(client.clone());
    let patch = json!({"spec": {"capacity": capacity}});
    volumes.patch(volume, &PatchParams::default(), &Patch::Merge(patch)).await?;
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &claim.namespace().unwrap_or_default());
    let patch = Patch::Merge(json!({"status": {"capacity": capacity, "conditions": null}}));
    claims.patch_status(&claim.name_any(), &PatchParams::default(), &patch).await.map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn claim(class: &str, asked: &str, phase: &str) -> Option<(String, Quantity)> {
        let resources: Value = json!({"requests": {"storage": asked}});
        let spec = json!({"storageClassName": class, "volumeName": "pv", "resources": resources});
        let status = json!({"phase": phase, "capacity": {"storage": "64Mi"}});
        wanted(&serde_json::from_value(json!({"spec": spec, "status": status})).unwrap())
    }

    #[test]
    fn a_bound_claim_of_the_class_that_asks_for_more_is_enlarged() {
        assert_eq!(claim(EXPANDABLE, "128Mi", "Bound"), Some(("pv".into(), Quantity("128Mi".into()))));
        assert_eq!(claim(EXPANDABLE, "64Mi", "Bound"), None);
        assert_eq!(claim(EXPANDABLE, "128Mi", "Pending"), None);
        assert_eq!(claim("hostpath", "128Mi", "Bound"), None);
    }
}
