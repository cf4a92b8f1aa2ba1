//! Recreates a workload while its pods serve on.
//!
//! Everything that the pods need is given to them while the workload is still there, so that a runner that is killed in
//! the middle finds the workload again and does the same once more. The label of the bridge says which `ReplicaSets` and
//! pods are only left for the time being.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{
    DeleteParams, DynamicObject, ListParams, PartialObjectMeta, Patch, PatchParams, Preconditions, PropagationPolicy,
};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::RepairContext;
use super::refused::RefusedObject;
use crate::api::label;
use crate::core::helm::manifest;
use crate::core::helm::ownership::FIELD_MANAGER;
use crate::core::helm::workload::Workload;
use crate::core::object::{KindName, ObjectRef};
use crate::core::repair::bridge::{Bridge, Labels, is_made_by, labels, selects};
use crate::runner::cluster::lease::Held;
use crate::runner::cluster::objects::{delete, wait_gone};
use crate::runner::cluster::watch;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::repair::risk::none_owned_by;

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

/// The new workloads are ready: what was only left for the time being goes, that of earlier attempts which did not get so
/// far as well. What a workload has taken over stays, without the label of the bridge.
pub async fn finish(ctx: &Context, lease: &Held, workloads: &[Workload]) -> Result<(), Error> {
    let names = names(workloads);
    clear::<ReplicaSet>(ctx, lease, &names).await?;
    clear::<Pod>(ctx, lease, &names).await
}

/// Whether a bridge was begun for these workloads, or their namesakes, and not ended.
pub async fn begun(ctx: &Context, workloads: &[Workload]) -> Result<bool, Error> {
    let names = names(workloads);
    Ok(!marked::<ReplicaSet>(ctx, &names).await?.is_empty() || !marked::<Pod>(ctx, &names).await?.is_empty())
}

fn names(workloads: &[Workload]) -> Vec<&str> {
    workloads.iter().map(|workload| workload.name.as_str()).collect()
}

async fn clear<K: Kind>(ctx: &Context, lease: &Held, workloads: &[&str]) -> Result<(), Error> {
    for object in marked::<K>(ctx, workloads).await? {
        lease.still_held()?;
        if controller(&object).is_none() {
            dismiss(ctx, lease, &K::kind(&()), &object).await?;
        } else {
            let none = json!({label::BRIDGE: Value::Null});
            relabel::<K>(ctx, lease, &object.name_any(), &none).await?;
        }
    }
    Ok(())
}

async fn dismiss<K>(ctx: &Context, lease: &Held, kind: &str, object: &PartialObjectMeta<K>) -> Result<(), Error>
where
    K: Kind,
{
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let (api, name): (Api<K>, String) = (ctx.api(), object.name_any());
    let reference = ObjectRef {
        api_version: K::api_version(&()).into_owned(),
        kind: kind.to_owned(),
        namespace: Some(ctx.namespace.clone()),
        name: name.clone(),
    };
    none_owned_by(ctx, &[reference]).await?;
    ctx.reporter.progress(&format!("the new pods are ready: {kind}/{name} goes"));
    let preconditions = Some(Preconditions { uid: object.uid(), resource_version: None });
    let parameters = DeleteParams { preconditions, ..DeleteParams::background() };
    match lease.write(&format!("delete {kind}/{name}"), || api.delete(&name, &parameters)).await {
        // Gone, or another one by now.
        Err(error) if error.has_code(404) || error.has_code(409) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// The label of the bridge. It is the same in each attempt: a Service that an earlier one left pointing at it keeps its
/// pods.
fn mark(workload: &str) -> Labels {
    let value: String = workload.chars().take(LABEL_LENGTH).collect();
    Labels::from([(label::BRIDGE.to_owned(), value.trim_end_matches(['-', '.']).to_owned())])
}

/// The kinds that a bridge is made of.
trait Kind:
    Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
}
impl Kind for ReplicaSet {}
impl Kind for Pod {}

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

/// What is only left for the time being of these workloads: it has the label of the bridge, and nothing controls it.
async fn bridged<K: Kind>(ctx: &Context, workloads: &[&str]) -> Result<Vec<PartialObjectMeta<K>>, Error> {
    let mut found = marked::<K>(ctx, workloads).await?;
    found.retain(|object| controller(object).is_none());
    Ok(found)
}

/// What has the label of the bridge of these workloads.
async fn marked<K: Kind>(ctx: &Context, workloads: &[&str]) -> Result<Vec<PartialObjectMeta<K>>, Error> {
    let mut found = list::<K>(ctx, label::BRIDGE).await?;
    found.retain(|object| workloads.iter().any(|workload| is_made_by(&object.name_any(), workload)));
    Ok(found)
}

async fn list<K: Kind>(ctx: &Context, selector: &str) -> Result<Vec<PartialObjectMeta<K>>, Error> {
    let api: Api<K> = ctx.api();
    let parameters = ListParams::default().labels(selector);
    let doing = format!("list {}s", K::kind(&()));
    Ok(request(&doing, || api.list_metadata(&parameters)).await?.items)
}

/// UID of what controls an object.
fn controller<K: Kind>(object: &PartialObjectMeta<K>) -> Option<&String> {
    object.owner_references().iter().find(|owner| owner.controller == Some(true)).map(|owner| &owner.uid)
}

/// Changes labels (null takes one away). An object that is gone by now needs none.
async fn relabel<K: Kind>(ctx: &Context, lease: &Held, name: &str, labels: &impl Serialize) -> Result<(), Error> {
    let api: Api<K> = ctx.api();
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    let parameters = PatchParams::default();
    match lease.write(&format!("label {}/{name}", K::kind(&())), || api.patch_metadata(name, &parameters, &patch)).await
    {
        Err(error) if error.has_code(404) => Ok(()),
        other => other.map(|_| ()),
    }
}
