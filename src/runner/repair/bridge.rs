//! Recreates a workload while its pods serve on.
//!
//! Everything that the pods need is given to them while the workload is still there, so that a runner that is killed in
//! the middle finds the workload again and does the same once more. The label of the bridge says which `ReplicaSets` and
//! pods are only left for the time being.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DynamicObject, PartialObjectMeta, Patch, PatchParams, PropagationPolicy};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::RepairContext;
use super::bridged::{Kind, bridged, controller, list, relabel};
use super::refused::RefusedObject;
use crate::api::label;
use crate::core::helm::manifest;
use crate::core::helm::ownership::FIELD_MANAGER;
use crate::core::object::KindName;
use crate::core::repair::bridge::{Bridge, Labels, labels, selects};
use crate::runner::cluster::lease::Held;
use crate::runner::cluster::objects::{delete, wait_gone};
use crate::runner::cluster::watch;
use crate::runner::context::request;
use crate::runner::error::Error;

/// Longest value of a label, in characters.
const LABEL_LENGTH: usize = 63;

/// Deletes a Deployment and leaves its pods, found by the selectors of old and new.
pub async fn deployment(repairing: &mut RepairContext<'_>, refused: &RefusedObject<'_>) -> Result<(), Error> {
    let services = services(repairing).await?;
    let bridge = Bridge::between(&refused.live, &refused.new, &services.iter().collect::<Vec<_>>());
    let mut sets = owned::<ReplicaSet>(repairing, refused, std::slice::from_ref(&refused.uid)).await?;
    // Those of an earlier attempt whose new pods never became ready, and pods that an earlier try has freed.
    sets.extend(bridged::<ReplicaSet>(repairing.ctx, &[refused.object.name.as_str()]).await?);
    let owners: Vec<String> = sets.iter().filter_map(ResourceExt::uid).collect();
    let mut pods = owned::<Pod>(repairing, refused, &owners).await?;
    pods.extend(bridged::<Pod>(repairing.ctx, &[refused.object.name.as_str()]).await?);
    let mark = mark(&refused.object.name);
    for set in &sets {
        relabel::<ReplicaSet>(repairing.ctx, repairing.lease(), &set.name_any(), &mark).await?;
    }
    for pod in &pods {
        relabel::<Pod>(repairing.ctx, repairing.lease(), &pod.name_any(), &mark).await?;
    }
    if bridge.release {
        free(repairing, refused, &sets).await?;
        cross(repairing, &services, &pods, &bridge, &mark).await?;
    } else {
        for pod in &pods {
            relabel::<Pod>(repairing.ctx, repairing.lease(), &pod.name_any(), &bridge.labels).await?;
        }
    }
    delete(repairing.ctx, repairing.lease(), &refused.api, refused.object, &refused.uid, PropagationPolicy::Orphan)
        .await
}

/// Deletes a `StatefulSet` or `DaemonSet` and leaves its pods for the new one, which takes over those that its selector
/// matches.
pub async fn set(repairing: &mut RepairContext<'_>, refused: &RefusedObject<'_>) -> Result<(), Error> {
    let services = services(repairing).await?;
    let bridge = Bridge::between(&refused.live, &refused.new, &services.iter().collect::<Vec<_>>());
    let pods = owned::<Pod>(repairing, refused, std::slice::from_ref(&refused.uid)).await?;
    let mark = mark(&refused.object.name);
    let mut early = mark.clone();
    if !bridge.release {
        early.extend(bridge.labels.clone());
    }
    for pod in &pods {
        relabel::<Pod>(repairing.ctx, repairing.lease(), &pod.name_any(), &early).await?;
    }
    delete(repairing.ctx, repairing.lease(), &refused.api, refused.object, &refused.uid, PropagationPolicy::Orphan)
        .await?;
    if bridge.release {
        cross(repairing, &services, &pods, &bridge, &mark).await?;
    }
    Ok(())
}

/// Ends what an earlier try began with a workload that it deleted: its pods get the labels by which the chart that is
/// wanted now finds them. A pod of a `StatefulSet` that kept its name without them would stand in the new one's way for
/// ever, and those of a Deployment would be lost to the Service.
pub async fn resume(repairing: &mut RepairContext<'_>, object: &KindName) -> Result<(), Error> {
    if bridged::<Pod>(repairing.ctx, &[object.name.as_str()]).await?.is_empty() {
        return Ok(());
    }
    join(repairing, object).await
}

/// Gives a workload its pods back that an earlier try had begun to replace for a selector that is not wanted any more. One
/// that is being deleted already is waited for: what helm writes into it would go with it.
pub async fn give_back(
    repairing: &mut RepairContext<'_>,
    api: &Api<DynamicObject>,
    object: &KindName,
    live: &DynamicObject,
) -> Result<(), Error> {
    let uid = live.uid().unwrap_or_default();
    if live.metadata.deletion_timestamp.is_some() {
        wait_gone(repairing.ctx, repairing.lease(), api, object, &uid).await?;
        return resume(repairing, object).await;
    }
    if !live.annotations().contains_key(label::BRIDGE) {
        return Ok(());
    }
    join(repairing, object).await?;
    let annotations = json!({label::BRIDGE: Value::Null});
    let patch = json!({"metadata": {"uid": uid, "annotations": annotations}, "spec": {"paused": Value::Null}});
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
    repairing.lease().write(&format!("resume {object}"), || api.patch(&object.name, &parameters, &patch)).await?;
    Ok(())
}

/// Brings free pods, and the Services that find them, to the labels of the chart that is wanted now.
async fn join(repairing: &mut RepairContext<'_>, object: &KindName) -> Result<(), Error> {
    let pods = bridged::<Pod>(repairing.ctx, &[object.name.as_str()]).await?;
    let services = services(repairing).await?;
    let new = repairing.rendered().await?.objects().find(|(reference, _)| reference.kind_name() == *object);
    let Some(new) = new.map(|(_, new)| new.clone()) else { return Ok(()) };
    let bridge = Bridge::between(&Value::Null, &new, &services.iter().collect::<Vec<_>>());
    cross(repairing, &services, &pods, &bridge, &mark(&object.name)).await
}

/// Takes the pods out of the hands of a Deployment that still exists: it is paused, so that it starts no others, and its
/// `ReplicaSets` are deleted without them.
async fn free(
    repairing: &RepairContext<'_>,
    refused: &RefusedObject<'_>,
    sets: &[PartialObjectMeta<ReplicaSet>],
) -> Result<(), Error> {
    let deployments: Api<Deployment> = repairing.ctx.api();
    let name = refused.object.name.as_str();
    let doing = format!("pause {}", refused.object);
    // Marked as paused by this program, so that a later step knows that it may go on.
    let metadata = json!({"uid": refused.uid, "annotations": mark(name)});
    let patch = Patch::Merge(json!({"metadata": metadata, "spec": {"paused": true}}));
    let parameters = PatchParams::default();
    repairing.lease().write(&doing, || deployments.patch(name, &parameters, &patch)).await?;
    let paused = |object: Option<&Deployment>| {
        object.is_none_or(|object| {
            let seen = object.status.as_ref().and_then(|status| status.observed_generation);
            object.metadata.generation <= seen
        })
    };
    repairing.lease().while_held(Box::pin(watch::until(deployments, refused.object, paused))).await?;
    let api: Api<ReplicaSet> = repairing.ctx.api();
    for set in sets {
        let (object, uid) = (KindName::new("ReplicaSet", set.name_any()), set.uid().unwrap_or_default());
        delete(repairing.ctx, repairing.lease(), &api, &object, &uid, PropagationPolicy::Orphan).await?;
    }
    Ok(())
}

/// Changes labels of free pods by which Services find them. No pod can have the old and the new value at once, so a
/// Service finds them by the label of the bridge meanwhile.
async fn cross(
    repairing: &RepairContext<'_>,
    rendered: &[Value],
    pods: &[PartialObjectMeta<Pod>],
    bridge: &Bridge,
    mark: &Labels,
) -> Result<(), Error> {
    for pod in pods {
        relabel::<Pod>(repairing.ctx, repairing.lease(), &pod.name_any(), mark).await?;
    }
    let services: Api<Service> = repairing.ctx.api();
    let mut crossing = Vec::new();
    for new in rendered {
        let Some(name) = new["metadata"]["name"].as_str() else { continue };
        let live = request(&format!("read Service/{name}"), || services.get_opt(name)).await?;
        let Some(now) = live.and_then(|service| service.spec?.selector) else { continue };
        let target = labels(&new["spec"]["selector"]);
        let moves = pods.iter().any(|pod| {
            let before = pod.labels();
            let mut after = before.clone();
            after.extend(bridge.labels.clone());
            selects(&now, before) && !selects(&now, &after) && selects(&target, &after)
        });
        if moves || now == *mark {
            point(repairing.lease(), &services, name, mark).await?;
            crossing.push((name, target));
        }
    }
    for pod in pods {
        relabel::<Pod>(repairing.ctx, repairing.lease(), &pod.name_any(), &bridge.labels).await?;
    }
    for (name, target) in crossing {
        point(repairing.lease(), &services, name, &target).await?;
    }
    Ok(())
}

/// Gives a Service this selector, and no other.
async fn point(lease: &Held, services: &Api<Service>, name: &str, selector: &Labels) -> Result<(), Error> {
    let doing = format!("change the selector of Service/{name}");
    let find = request(&doing, || services.get(name)).await?;
    let old = find.spec.and_then(|spec| spec.selector).unwrap_or_default();
    let mut change: serde_json::Map<String, Value> = old.into_keys().map(|key| (key, Value::Null)).collect();
    change.extend(selector.iter().map(|(key, value)| (key.clone(), json!(value))));
    let patch = Patch::Merge(json!({"spec": {"selector": change}}));
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    lease.write(&doing, || services.patch(name, &parameters, &patch)).await?;
    Ok(())
}

/// The label of the bridge. It is the same in each attempt: a Service that an earlier one left pointing at it keeps its
/// pods.
fn mark(workload: &str) -> Labels {
    let value: String = workload.chars().take(LABEL_LENGTH).collect();
    Labels::from([(label::BRIDGE.to_owned(), value.trim_end_matches(['-', '.']).to_owned())])
}

/// The Services that the chart renders in the namespace of the release.
async fn services(repairing: &mut RepairContext<'_>) -> Result<Vec<Value>, Error> {
    let here = repairing.ctx.namespace.clone();
    let services =
        repairing.rendered().await?.objects().filter(|(name, _)| name.kind == "Service" && name.is_in(&here));
    Ok(services.map(|(_, service)| service.clone()).collect())
}

/// What these owners (by UID) control, found by the selector of the workload.
async fn owned<K: Kind>(
    repairing: &RepairContext<'_>,
    refused: &RefusedObject<'_>,
    owners: &[String],
) -> Result<Vec<PartialObjectMeta<K>>, Error> {
    let Some(workload) = manifest::workload(&refused.live) else { return Ok(Vec::new()) };
    let mut found = list::<K>(repairing.ctx, &workload.selector).await?;
    found.retain(|object| controller(object).is_some_and(|owner| owners.contains(owner)));
    Ok(found)
}
