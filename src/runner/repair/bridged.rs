//! What a bridge leaves for the time being, and its end.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, ListParams, PartialObjectMeta, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::api::label;
use crate::core::helm::workload::Workload;
use crate::core::object::{KindName, ObjectRef};
use crate::core::repair::bridge::{Labels, is_made_by, selects};
use crate::runner::cluster::lease::Held;
use crate::runner::cluster::objects::delete;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::repair::risk::none_owned_by;

/// Kubernetes puts it on a `ReplicaSet` and on its pods.
const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// How long the nodes may take to hear that a pod serves no more: kube-proxy writes its rules once a second by default. Coder
/// closes its port as soon as it is told to end, so connections that still reach it would be refused.
const UNROUTED: Duration = Duration::from_secs(3);

/// The kinds that a bridge is made of.
pub(super) trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
}
impl Kind for ReplicaSet {}
impl Kind for Pod {}

/// The new workloads are ready: what was only left for the time being goes, that of earlier attempts which did not get so
/// far as well. What a workload has taken over stays, without the label of the bridge.
///
/// Pods leave the Services before they are told to end, so that nobody is led to one that has closed its port.
pub async fn finish(ctx: &Context, lease: &Held, workloads: &[Workload]) -> Result<(), Error> {
    let names = names(workloads);
    for set in marked::<ReplicaSet>(ctx, &names).await? {
        if controller(&set).is_some() {
            unmark(ctx, lease, &set).await?;
        } else {
            free(ctx, lease, &set).await?;
        }
    }
    let (taken_over, left): (Vec<_>, Vec<_>) =
        marked::<Pod>(ctx, &names).await?.into_iter().partition(|pod| controller(pod).is_some());
    for pod in &taken_over {
        unmark(ctx, lease, pod).await?;
    }
    if withdraw(ctx, lease, &left).await? {
        ctx.reporter.progress("the new pods are ready: the Services are taking the old ones out");
        let unrouted = async {
            sleep(UNROUTED).await;
            Ok(())
        };
        lease.while_held(unrouted).await?;
    }
    for pod in &left {
        dismiss(ctx, lease, pod).await?;
    }
    Ok(())
}

/// Whether a bridge was begun for these workloads, or their namesakes, and not ended.
pub async fn begun(ctx: &Context, workloads: &[Workload]) -> Result<bool, Error> {
    let names = names(workloads);
    Ok(!marked::<ReplicaSet>(ctx, &names).await?.is_empty() || !marked::<Pod>(ctx, &names).await?.is_empty())
}

fn names(workloads: &[Workload]) -> Vec<&str> {
    workloads.iter().map(|workload| workload.name.as_str()).collect()
}

async fn unmark<K: Kind>(ctx: &Context, lease: &Held, object: &PartialObjectMeta<K>) -> Result<(), Error> {
    relabel::<K>(ctx, lease, &object.name_any(), &json!({label::BRIDGE: Value::Null})).await
}

/// Deletes a `ReplicaSet` without its pods, which are found by the label of the bridge from then on.
async fn free(ctx: &Context, lease: &Held, set: &PartialObjectMeta<ReplicaSet>) -> Result<(), Error> {
    let (name, uid) = (set.name_any(), set.uid().unwrap_or_default());
    let mark = set.labels().get(label::BRIDGE);
    if let (Some(hash), Some(mark)) = (set.labels().get(POD_TEMPLATE_HASH), mark) {
        // One that was started after the bridge was begun does not have it yet.
        let pods = list::<Pod>(ctx, &format!("{POD_TEMPLATE_HASH}={hash}")).await?;
        for pod in pods.iter().filter(|pod| controller(pod) == Some(&uid)) {
            relabel::<Pod>(ctx, lease, &pod.name_any(), &json!({label::BRIDGE: mark})).await?;
        }
    }
    delete(ctx, lease, &ctx.api::<ReplicaSet>(), &KindName::new("ReplicaSet", name), &uid, PropagationPolicy::Orphan)
        .await
}

/// Takes from free pods the labels by which Services find them. Whether there was one that a Service had found.
async fn withdraw(ctx: &Context, lease: &Held, pods: &[PartialObjectMeta<Pod>]) -> Result<bool, Error> {
    if pods.is_empty() {
        return Ok(false);
    }
    let (api, all): (Api<Service>, _) = (ctx.api(), ListParams::default());
    let services = request("list Services", || api.list(&all)).await?;
    let selectors: Vec<Labels> = services.items.into_iter().filter_map(|service| service.spec?.selector).collect();
    let mut served = false;
    for pod in pods {
        let keys = selectors.iter().filter(|selector| selects(selector, pod.labels())).flat_map(|found| found.keys());
        let labels: Map<String, Value> =
            keys.filter(|key| *key != label::BRIDGE).map(|key| (key.clone(), Value::Null)).collect();
        if !labels.is_empty() {
            served = true;
            relabel::<Pod>(ctx, lease, &pod.name_any(), &labels).await?;
        }
    }
    Ok(served)
}

async fn dismiss(ctx: &Context, lease: &Held, pod: &PartialObjectMeta<Pod>) -> Result<(), Error> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let (api, name): (Api<Pod>, String) = (ctx.api(), pod.name_any());
    let reference = ObjectRef {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: Some(ctx.namespace.clone()),
        name: name.clone(),
    };
    none_owned_by(ctx, &[reference]).await?;
    ctx.reporter.progress(&format!("the new pods are ready: Pod/{name} goes"));
    let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: None });
    let parameters = DeleteParams { preconditions, ..DeleteParams::background() };
    match lease.write(&format!("delete Pod/{name}"), || api.delete(&name, &parameters)).await {
        // Gone, or another one by now.
        Err(error) if error.has_code(404) || error.has_code(409) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// What is only left for the time being of these workloads: it has the label of the bridge, and nothing controls it.
pub(super) async fn bridged<K: Kind>(ctx: &Context, workloads: &[&str]) -> Result<Vec<PartialObjectMeta<K>>, Error> {
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

pub(super) async fn list<K: Kind>(ctx: &Context, selector: &str) -> Result<Vec<PartialObjectMeta<K>>, Error> {
    let api: Api<K> = ctx.api();
    let parameters = ListParams::default().labels(selector);
    let doing = format!("list {}s", K::kind(&()));
    Ok(request(&doing, || api.list_metadata(&parameters)).await?.items)
}

/// UID of what controls an object.
pub(super) fn controller<K: Kind>(object: &PartialObjectMeta<K>) -> Option<&String> {
    object.owner_references().iter().find(|owner| owner.controller == Some(true)).map(|owner| &owner.uid)
}

/// Changes labels (null takes one away). An object that is gone by now needs none.
pub(super) async fn relabel<K: Kind>(
    ctx: &Context,
    lease: &Held,
    name: &str,
    labels: &impl Serialize,
) -> Result<(), Error> {
    let api: Api<K> = ctx.api();
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    let parameters = PatchParams::default();
    match lease.write(&format!("label {}/{name}", K::kind(&())), || api.patch_metadata(name, &parameters, &patch)).await
    {
        Err(error) if error.has_code(404) => Ok(()),
        other => other.map(|_| ()),
    }
}
