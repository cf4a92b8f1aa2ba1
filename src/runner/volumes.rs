//! The volumes of a release: what would delete them.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;

use super::context::{Context, request};
use super::error::Error;
use crate::api::{ClaimStatus, FailureClass};
use crate::core::documents::Documents;
use crate::core::report::Problem;

/// Refuses if a claim would be deleted together with an object of the release: because that owns it, or because its
/// `StatefulSet` deletes its claims when it is deleted itself.
pub async fn none_at_risk(ctx: &Context, claims: &[ClaimStatus], documents: &Documents) -> Result<(), Error> {
    let api: Api<PersistentVolumeClaim> = ctx.api();
    for ClaimStatus { name, .. } in claims {
        let found = request(&format!("read PersistentVolumeClaim/{name}"), || api.get_metadata_opt(name)).await?;
        let owner = found.and_then(|claim| claim.metadata.owner_references?.into_iter().next());
        if let Some(owner) = owner {
            let owner = format!("{}/{}", owner.kind, owner.name);
            return Err(at_risk(
                &format!("PersistentVolumeClaim/{name}"),
                "metadata.ownerReferences",
                &format!("PersistentVolumeClaim/{name} belongs to {owner} and would be deleted with it"),
            ));
        }
    }
    let sets: Api<StatefulSet> = ctx.api();
    for (set, _) in documents.objects().filter(|(name, _)| name.kind == "StatefulSet" && name.is_in(&ctx.namespace)) {
        let spec = request(&format!("read {set}"), || sets.get_opt(&set.name)).await?.and_then(|set| set.spec);
        let policy = spec.and_then(|spec| spec.persistent_volume_claim_retention_policy?.when_deleted);
        if policy.as_deref() == Some("Delete") {
            return Err(at_risk(
                &set.to_string(),
                "spec.persistentVolumeClaimRetentionPolicy.whenDeleted",
                &format!("{set} deletes its PersistentVolumeClaims when it is deleted itself"),
            ));
        }
    }
    Ok(())
}

fn at_risk(object: &str, field: &str, message: &str) -> Error {
    Problem::new(FailureClass::DataAtRisk, format!("{message}; nothing was touched")).object(object).field(field).into()
}
