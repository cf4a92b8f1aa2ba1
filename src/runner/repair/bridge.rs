//! Makes a workload anew while its pods serve on.
//!
//! Everything that the pods need is given to them while the workload is still there, so that a runner that is killed in
//! the middle finds the workload again and does the same once more. The label of the bridge says which `ReplicaSets` and
//! pods are only left for the time being.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, ListParams, PartialObjectMeta, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::runtime::wait::await_condition;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Scene;
use super::live::delete;
use super::replace::Refused;
use crate::api::label;
use crate::core::bridge::{Bridge, Labels, is_made_by, labels, selects};
use crate::core::manifest;
use crate::core::plan::Workload;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::fence::while_held;

/// Deletes a Deployment and leaves its pods, found by the selectors of old and new.
pub async fn deployment(scene: &mut Scene<'_>, refused: &Refused<'_>) -> Result<(), Error> {
    let services = services(scene).await?;
    let bridge = Bridge::between(&refused.live, &refused.new, &services.iter().collect::<Vec<_>>());
    let mut sets = owned::<ReplicaSet>(scene, refused, std::slice::from_ref(&refused.uid)).await?;
    // Those of an earlier attempt whose new pods never became ready, and pods that an earlier try has freed.
    sets.extend(bridged::<ReplicaSet>(scene.ctx, &[refused.name()]).await?);
    let owners: Vec<String> = sets.iter().filter_map(ResourceExt::uid).collect();
    let mut pods = owned::<Pod>(scene, refused, &owners).await?;
    pods.extend(bridged::<Pod>(scene.ctx, &[refused.name()]).await?);
    let mark = mark(scene);
    for set in &sets {
        relabel::<ReplicaSet>(scene.ctx, &set.name_any(), &mark).await?;
    }
    for pod in &pods {
        relabel::<Pod>(scene.ctx, &pod.name_any(), &mark).await?;
    }
    if bridge.release {
        free(scene, refused, &sets).await?;
        cross(scene, &services, &pods, &bridge).await?;
    } else {
        for pod in &pods {
            relabel::<Pod>(scene.ctx, &pod.name_any(), &bridge.labels).await?;
        }
    }
    delete(scene.ctx, scene.lease, &refused.api, refused.object, &refused.uid, PropagationPolicy::Orphan).await
}

/// Deletes a `StatefulSet` or `DaemonSet` and leaves its pods for the new one, which takes over those that its selector
/// matches.
pub async fn set(scene: &mut Scene<'_>, refused: &Refused<'_>) -> Result<(), Error> {
    let services = services(scene).await?;
    let bridge = Bridge::between(&refused.live, &refused.new, &services.iter().collect::<Vec<_>>());
    let pods = owned::<Pod>(scene, refused, std::slice::from_ref(&refused.uid)).await?;
    let mut early = mark(scene);
    if !bridge.release {
        early.extend(bridge.labels.clone());
    }
    for pod in &pods {
        relabel::<Pod>(scene.ctx, &pod.name_any(), &early).await?;
    }
    delete(scene.ctx, scene.lease, &refused.api, refused.object, &refused.uid, PropagationPolicy::Orphan).await?;
    if bridge.release {
        cross(scene, &services, &pods, &bridge).await?;
    }
    Ok(())
}

/// Ends what an earlier try began with a `StatefulSet` or `DaemonSet` that it deleted: its pods get the labels by which the
/// new one finds them. A pod that kept its name without them would stand in the new one's way for ever.
pub async fn resume(scene: &mut Scene<'_>, object: &str) -> Result<(), Error> {
    let name = object.rsplit('/').next().unwrap_or_default();
    let pods = bridged::<Pod>(scene.ctx, &[name]).await?;
    if pods.is_empty() {
        return Ok(());
    }
    let services = services(scene).await?;
    let new = scene.rendered().await?.objects().find(|(reference, _)| reference.is(object));
    let Some(new) = new.map(|(_, new)| new.clone()) else { return Ok(()) };
    let bridge = Bridge::between(&Value::Null, &new, &services.iter().collect::<Vec<_>>());
    cross(scene, &services, &pods, &bridge).await
}

/// Takes the pods out of the hands of a Deployment that still exists: it is paused, so that it starts no others, and its
/// `ReplicaSets` are deleted without them.
async fn free(scene: &Scene<'_>, refused: &Refused<'_>, sets: &[PartialObjectMeta<ReplicaSet>]) -> Result<(), Error> {
    let deployments: Api<Deployment> = scene.ctx.api();
    let name = refused.name();
    let doing = format!("pause {}", refused.object);
    let patch = Patch::Merge(json!({"metadata": {"uid": refused.uid}, "spec": {"paused": true}}));
    let parameters = PatchParams::default();
    request(&doing, || deployments.patch(name, &parameters, &patch)).await?;
    let paused = |object: Option<&Deployment>| {
        object.is_none_or(|object| {
            let seen = object.status.as_ref().and_then(|status| status.observed_generation);
            object.metadata.generation <= seen
        })
    };
    let seen = async {
        let seen = await_condition(deployments.clone(), name, paused).await;
        seen.map_err(|error| Error::Plan(format!("{} could not be watched: {error}", refused.object)))
    };
    while_held(scene.ctx, scene.lease, Box::pin(seen)).await?;
    let api: Api<ReplicaSet> = scene.ctx.api();
    for set in sets {
        let (object, uid) = (format!("ReplicaSet/{}", set.name_any()), set.uid().unwrap_or_default());
        delete(scene.ctx, scene.lease, &api, &object, &uid, PropagationPolicy::Orphan).await?;
    }
    Ok(())
}

/// Changes labels of free pods by which Services find them. No pod can have the old and the new value at once, so a
/// Service finds them by the label of the bridge meanwhile.
async fn cross(
    scene: &Scene<'_>,
    rendered: &[Value],
    pods: &[PartialObjectMeta<Pod>],
    bridge: &Bridge,
) -> Result<(), Error> {
    let mark = mark(scene);
    for pod in pods {
        relabel::<Pod>(scene.ctx, &pod.name_any(), &mark).await?;
    }
    let services: Api<Service> = scene.ctx.api();
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
        if moves || now == mark {
            point(&services, name, &mark).await?;
            crossing.push((name, target));
        }
    }
    for pod in pods {
        relabel::<Pod>(scene.ctx, &pod.name_any(), &bridge.labels).await?;
    }
    for (name, target) in crossing {
        point(&services, name, &target).await?;
    }
    Ok(())
}

/// Gives a Service this selector, and no other.
async fn point(services: &Api<Service>, name: &str, selector: &Labels) -> Result<(), Error> {
    let doing = format!("change the selector of Service/{name}");
    let find = request(&doing, || services.get(name)).await?;
    let old = find.spec.and_then(|spec| spec.selector).unwrap_or_default();
    let mut change: serde_json::Map<String, Value> = old.into_keys().map(|key| (key, Value::Null)).collect();
    change.extend(selector.iter().map(|(key, value)| (key.clone(), json!(value))));
    let patch = Patch::Merge(json!({"spec": {"selector": change}}));
    let parameters = PatchParams::default();
    request(&doing, || services.patch(name, &parameters, &patch)).await?;
    Ok(())
}

/// The new workloads are ready: what was only left for the time being goes, unless a new workload has taken it over. That
/// of earlier attempts, which did not get so far, goes as well.
pub async fn finish(ctx: &Context, workloads: &[Workload]) -> Result<(), Error> {
    let names: Vec<&str> = workloads.iter().map(|workload| workload.name.as_str()).collect();
    for set in bridged::<ReplicaSet>(ctx, &names).await? {
        dismiss(ctx, "ReplicaSet", &set).await?;
    }
    for pod in bridged::<Pod>(ctx, &names).await? {
        dismiss(ctx, "Pod", &pod).await?;
    }
    Ok(())
}

async fn dismiss<K>(ctx: &Context, kind: &str, object: &PartialObjectMeta<K>) -> Result<(), Error>
where
    K: Kind,
{
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let (api, name): (Api<K>, String) = (ctx.api(), object.name_any());
    ctx.reporter.progress(&format!("the new pods are ready: {kind}/{name} goes"));
    let preconditions = Some(Preconditions { uid: object.uid(), resource_version: None });
    let parameters = DeleteParams { preconditions, ..DeleteParams::background() };
    match request(&format!("delete {kind}/{name}"), || api.delete(&name, &parameters)).await {
        // Gone, or another one by now.
        Err(error) if error.has_code(404) || error.has_code(409) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// The label of the bridge.
fn mark(scene: &Scene<'_>) -> Labels {
    Labels::from([(label::BRIDGE.to_owned(), scene.plan.id.clone())])
}

/// The kinds that a bridge is made of.
trait Kind:
    Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
}
impl Kind for ReplicaSet {}
impl Kind for Pod {}

/// The Services that the chart renders in the namespace of the release.
async fn services(scene: &mut Scene<'_>) -> Result<Vec<Value>, Error> {
    let here = scene.ctx.namespace.clone();
    let services = scene.rendered().await?.objects().filter(|(name, _)| name.kind == "Service" && name.is_in(&here));
    Ok(services.map(|(_, service)| service.clone()).collect())
}

/// What these owners (by UID) control, found by the selector of the workload.
async fn owned<K: Kind>(
    scene: &Scene<'_>,
    refused: &Refused<'_>,
    owners: &[String],
) -> Result<Vec<PartialObjectMeta<K>>, Error> {
    let Some(workload) = manifest::workload(&refused.live) else { return Ok(Vec::new()) };
    let mut found = list::<K>(scene.ctx, &workload.selector).await?;
    found.retain(|object| controller(object).is_some_and(|owner| owners.contains(owner)));
    Ok(found)
}

/// What is only left for the time being of these workloads: it has the label of the bridge, and nothing controls it.
async fn bridged<K: Kind>(ctx: &Context, workloads: &[&str]) -> Result<Vec<PartialObjectMeta<K>>, Error> {
    let mut found = list::<K>(ctx, label::BRIDGE).await?;
    found.retain(|object| {
        controller(object).is_none() && workloads.iter().any(|workload| is_made_by(&object.name_any(), workload))
    });
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

/// Adds labels. An object that is gone by now needs none.
async fn relabel<K: Kind>(ctx: &Context, name: &str, labels: &Labels) -> Result<(), Error> {
    if labels.is_empty() {
        return Ok(());
    }
    let api: Api<K> = ctx.api();
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    let parameters = PatchParams::default();
    match request(&format!("label {}/{name}", K::kind(&())), || api.patch_metadata(name, &parameters, &patch)).await {
        Err(error) if error.has_code(404) => Ok(()),
        other => other.map(|_| ()),
    }
}
