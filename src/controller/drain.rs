//! What is left of an uninstalled release: watched while it is waited for, and read when something moved.
//!
//! A watch for each kind that is waited for, in one namespace and for metadata only, lives as long as the Drain step. So
//! nothing is polled, and a controller that drains nothing holds no watch for it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use futures::{StreamExt, channel::mpsc::UnboundedSender, stream};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Pod, Service},
    networking::v1::Ingress,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio::task::JoinHandle;
use tracing::{Instrument, info_span, warn};

use super::request::{ReconcileError, bounded};
use crate::api::{ClaimStatus, CoderUpgrade, CoderUpgradeStatus, WaitingFor};
use crate::core::decide::observed::Remaining;

/// Kind of the claims, which are watched, too: one that goes must stop everything.
const CLAIM: &str = "PersistentVolumeClaim";

/// The watches of all objects that are drained, by the UID of the `CoderUpgrade`.
pub struct Watches {
    waking: UnboundedSender<ObjectRef<CoderUpgrade>>,
    running: Mutex<HashMap<String, JoinHandle<()>>>,
}

impl Watches {
    /// Sends to `waking` whatever is to be looked at again.
    pub fn new(waking: UnboundedSender<ObjectRef<CoderUpgrade>>) -> Self {
        Self { waking, running: Mutex::default() }
    }

    /// Sees to it that the watches run while the object is drained, and only then.
    fn keep(
        &self,
        client: &Client,
        upgrades: &Store<CoderUpgrade>,
        upgrade: &CoderUpgrade,
        draining: Option<&CoderUpgradeStatus>,
    ) {
        let Some(uid) = upgrade.uid() else { return };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was taken away by force in the middle is never looked at again.
        running.retain(|known, watch| {
            let there = *known == uid || upgrades.find(|upgrade| upgrade.uid().as_ref() == Some(known)).is_some();
            if !there {
                watch.abort();
            }
            there
        });
        match draining {
            None => {
                if let Some(watch) = running.remove(&uid) {
                    watch.abort();
                }
            }
            Some(status) => {
                running.entry(uid).or_insert_with(|| tokio::spawn(watch(client, upgrade, status, self.waking.clone())));
            }
        }
    }
}

/// What is left, if the release is being drained.
pub async fn look(
    watches: &Watches,
    client: &Client,
    upgrades: &Store<CoderUpgrade>,
    upgrade: &CoderUpgrade,
) -> Result<Option<Remaining>, ReconcileError> {
    let status = upgrade.status.as_ref().filter(|status| status.draining());
    // Before the reads, so that nothing that happens in between is missed.
    watches.keep(client, upgrades, upgrade, status);
    let Some(status) = status else { return Ok(None) };
    let mut left = Remaining::default();
    for object in &status.waiting_for {
        left.objects.extend(still_there(client, upgrade, object).await?);
    }
    for claim in &status.persistent_volume_claims {
        left.claims.extend(present(client, upgrade, claim).await?.map(|now| (claim.name.clone(), now)));
    }
    Ok(Some(left))
}

/// The object, if it is the one that is waited for.
async fn still_there(
    client: &Client,
    upgrade: &CoderUpgrade,
    object: &WaitingFor,
) -> Result<Option<WaitingFor>, ReconcileError> {
    let Some(resource) = resource(&object.kind) else { return Ok(None) };
    let what = format!("read {}/{}", object.kind, object.name);
    let found = bounded(what, api(client, upgrade, &resource).get_opt(&object.name)).await?;
    Ok(found.filter(|found| found.uid().as_deref() == Some(&object.uid)).map(|found| WaitingFor {
        since: found.metadata.deletion_timestamp.unwrap_or_else(|| object.since.clone()),
        finalizers: found.metadata.finalizers.unwrap_or_default(),
        ..object.clone()
    }))
}

/// The claim as it is now.
async fn present(
    client: &Client,
    upgrade: &CoderUpgrade,
    claim: &ClaimStatus,
) -> Result<Option<ClaimStatus>, ReconcileError> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &upgrade.namespace().unwrap_or_default());
    let found = bounded(format!("read {CLAIM}/{}", claim.name), claims.get_opt(&claim.name)).await?;
    Ok(found.as_ref().map(ClaimStatus::from))
}

/// Wakes the object whenever one that it waits for changes.
fn watch(
    client: &Client,
    upgrade: &CoderUpgrade,
    status: &CoderUpgradeStatus,
    waking: UnboundedSender<ObjectRef<CoderUpgrade>>,
) -> impl Future<Output = ()> + use<> {
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let claims = status.persistent_volume_claims.iter().map(|claim| (CLAIM, &claim.name));
    for (kind, name) in status.waiting_for.iter().map(|object| (object.kind.as_str(), &object.name)).chain(claims) {
        names.entry(kind.to_owned()).or_default().insert(name.clone());
    }
    let watches: Vec<_> = names
        .into_iter()
        .filter_map(|(kind, names)| {
            let api = api(client, upgrade, &resource(&kind)?);
            let moved = watcher(api, watcher::Config::default()).default_backoff().touched_objects();
            Some(moved.map(move |object| (kind.clone(), names.clone(), object)).boxed())
        })
        .collect();
    let upgrade = ObjectRef::from_obj(upgrade);
    let span = info_span!("draining", "object.ref" = %upgrade);
    let watching = async move {
        let mut moved = stream::select_all(watches);
        while let Some((kind, names, object)) = moved.next().await {
            match object {
                // Fails only when nobody reconciles any more.
                Ok(object) if names.contains(&object.name_any()) => drop(waking.unbounded_send(upgrade.clone())),
                Ok(_) => {}
                Err(error) => warn!("cannot watch {kind} objects while they are waited for: {error}"),
            }
        }
    };
    watching.instrument(span)
}

fn api(client: &Client, upgrade: &CoderUpgrade, resource: &ApiResource) -> Api<PartialObjectMeta<DynamicObject>> {
    Api::namespaced_with(client.clone(), &upgrade.namespace().unwrap_or_default(), resource)
}

/// The kinds that the controller may look at: the slow ones. Whatever else lingers holds up the install itself.
fn resource(kind: &str) -> Option<ApiResource> {
    Some(match kind {
        "Service" => ApiResource::erase::<Service>(&()),
        "Ingress" => ApiResource::erase::<Ingress>(&()),
        "Pod" => ApiResource::erase::<Pod>(&()),
        "Deployment" => ApiResource::erase::<Deployment>(&()),
        "StatefulSet" => ApiResource::erase::<StatefulSet>(&()),
        "DaemonSet" => ApiResource::erase::<DaemonSet>(&()),
        "Job" => ApiResource::erase::<Job>(&()),
        CLAIM => ApiResource::erase::<PersistentVolumeClaim>(&()),
        _ => return None,
    })
}
