//! What is still there of a release after helm has deleted it.

use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::ListParams;
use serde::de::DeserializeOwned;

use super::kinds;
use crate::api::{FailureClass, WaitingFor};
use crate::core::helm::documents::Documents;
use crate::core::object::ObjectRef;
use crate::core::plan::Plan;
use crate::core::report::Problem;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// The objects of the release that are being deleted, and the pods that still hold a volume of it.
///
/// Only what can be slow, or keeps the install from succeeding, is looked for: addresses, workloads and their volumes.
pub async fn find(ctx: &Context, plan: &Plan, documents: &Documents) -> Result<Vec<WaitingFor>, Error> {
    let mut found = Vec::new();
    for (name, _) in documents.objects().filter(|(name, _)| name.is_in(&ctx.namespace)) {
        let (kind, name) = (name.kind.as_str(), name.name.as_str());
        let metadata = match kind {
            "Service" => read::<Service>(ctx, kind, name).await?,
            "Ingress" => read::<Ingress>(ctx, kind, name).await?,
            "Deployment" => read::<Deployment>(ctx, kind, name).await?,
            "StatefulSet" => read::<StatefulSet>(ctx, kind, name).await?,
            "DaemonSet" => read::<DaemonSet>(ctx, kind, name).await?,
            _ => None,
        };
        let ending = metadata.and_then(|metadata| Some((metadata.deletion_timestamp.clone()?, metadata)));
        found.extend(ending.map(|(since, metadata)| waiting(kind, metadata, since)));
    }
    found.extend(holders(ctx, plan, documents).await?);
    Ok(found)
}

/// Refuses if one of these objects is still being deleted. The kinds that are slow by nature are waited for by the
/// controller; this looks at all others, and at what somebody deleted meanwhile.
pub async fn none_going(ctx: &Context, objects: &[ObjectRef]) -> Result<(), Error> {
    for object in objects {
        let Some(metadata) = kinds::live(ctx, object).await?.map(|found| found.metadata) else { continue };
        if let Some(Time(since)) = &metadata.deletion_timestamp {
            let held = match metadata.finalizers.unwrap_or_default().as_slice() {
                [] => "it has no finalizers and is about to go".to_owned(),
                finalizers => format!("held by {}", finalizers.join(", ")),
            };
            let message = format!("{object} is still being deleted, since {since}, {held}; helm was not run");
            return Err(Problem::new(FailureClass::StillDeleting, message).object(object.to_string()).into());
        }
    }
    Ok(())
}

async fn read<K>(ctx: &Context, kind: &str, name: &str) -> Result<Option<ObjectMeta>, Error>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = ctx.api();
    let found = request(&format!("read {kind}/{name}"), || api.get_metadata_opt(name)).await?;
    Ok(found.map(|object| object.metadata))
}

/// The pods of the release that hold one of its volumes. Those of a workload that was just deleted may not be marked for
/// deletion themselves yet.
async fn holders(ctx: &Context, plan: &Plan, documents: &Documents) -> Result<Vec<WaitingFor>, Error> {
    let pods: Api<Pod> = ctx.api();
    let mut found: Vec<WaitingFor> = Vec::new();
    for workload in documents.workloads() {
        let ours = ListParams::default().labels(&workload.selector);
        let doing = format!("list the pods of {}/{}", workload.kind, workload.name);
        for pod in request(&doing, || pods.list(&ours)).await?.items {
            let known = found.iter().any(|known| Some(&known.uid) == pod.metadata.uid.as_ref());
            if !known && holds_volume(plan, &pod) {
                let since = pod.metadata.deletion_timestamp.clone().unwrap_or_else(|| Time(Timestamp::now()));
                found.push(waiting("Pod", pod.metadata, since));
            }
        }
    }
    Ok(found)
}

/// A pod that has ended has given its volumes back.
fn holds_volume(plan: &Plan, pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
    !matches!(phase, Some("Succeeded" | "Failed"))
        && claims.any(|claim| plan.inventory.claims.iter().any(|known| known.name == claim.claim_name))
}

fn waiting(kind: &str, metadata: ObjectMeta, since: Time) -> WaitingFor {
    WaitingFor {
        kind: kind.into(),
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        since,
        finalizers: metadata.finalizers.unwrap_or_default(),
        explanation: None,
    }
}
