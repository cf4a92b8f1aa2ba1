//! Changes from outside: the workloads of releases are watched, and read only when one may not be what was verified.
//!
//! One watch for each kind, for metadata only and of what helm manages, sees UID, generation and labels of a workload: enough
//! to know that nothing has happened. What is kept of it is a cache that wakes objects; the marks to compare with are in their
//! status. So a change made while no controller ran is noticed as soon as the first lists are here.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
    pin::pin,
    sync::{Mutex, PoisonError},
};

use futures::{StreamExt, channel::mpsc::UnboundedSender};
use k8s_openapi::{
    NamespaceResourceScope,
    api::apps::v1::{DaemonSet, Deployment, StatefulSet},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tracing::{Instrument, info_span, warn};

use super::owned::{NamespacedName, key};
use super::request::{ReconcileError, bounded};
use crate::api::{CoderUpgrade, WorkloadMark};
use crate::core::helm::workload::WorkloadKind;
use crate::core::rollout::drift::{
    Drift, WorkloadMeta, WorkloadState, compare, found, is_watched, labels_digest, may_differ,
};

/// helm puts this label on everything that it makes.
const MADE_BY_HELM: &str = "app.kubernetes.io/managed-by=Helm";
/// How many objects are listed at a time: the first list of a large cluster must not be the most that is ever in memory.
const PAGE: u32 = 100;

/// What the watches see of the workloads that helm manages.
pub struct Workloads {
    waking: UnboundedSender<ObjectRef<CoderUpgrade>>,
    kinds: Mutex<HashMap<WorkloadKind, SeenWorkloads>>,
}

/// What a watch sees of a workload; nothing if it does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
struct WatchedState(Option<WorkloadMeta>);

/// The workloads of one kind.
#[derive(Default)]
struct SeenWorkloads {
    /// All have been listed once: what is not here does not exist.
    listed: bool,
    objects: HashMap<NamespacedName, WorkloadMeta>,
    /// What was read at this sight, and was what this fingerprint says: it is not read again.
    harmless: HashMap<NamespacedName, (WatchedState, String)>,
    /// The objects of a list that is not complete yet.
    listing: HashMap<NamespacedName, WorkloadMeta>,
}

impl SeenWorkloads {
    /// Takes over what the watch says. Returns the workloads that are not what they were, or none if that may be any.
    fn take<K: Resource>(&mut self, event: watcher::Event<PartialObjectMeta<K>>) -> Option<HashSet<NamespacedName>> {
        let changed = match event {
            watcher::Event::Apply(object) => {
                let (key, meta) = (key(&object), meta(&object));
                let same = self.objects.get(&key) == Some(&meta);
                self.objects.insert(key.clone(), meta);
                (!same).then_some(key)
            }
            watcher::Event::Delete(object) => {
                let key = key(&object);
                self.harmless.remove(&key);
                self.objects.remove(&key).map(|_| key)
            }
            watcher::Event::Init => {
                self.listing.clear();
                None
            }
            watcher::Event::InitApply(object) => {
                self.listing.insert(key(&object), meta(&object));
                None
            }
            watcher::Event::InitDone => {
                self.objects = std::mem::take(&mut self.listing);
                self.harmless.retain(|key, _| self.objects.contains_key(key));
                self.listed = true;
                return None;
            }
        };
        Some(changed.into_iter().collect())
    }

    /// Whether a workload must be read, and what is seen of it.
    fn suspect(&self, key: &NamespacedName, mark: &WorkloadMark) -> Option<WatchedState> {
        let seen = self.objects.get(key);
        let known = self.harmless.get(key);
        let harmless = known
            .is_some_and(|(WatchedState(snapshot), print)| snapshot.as_ref() == seen && *print == mark.fingerprint);
        (self.listed && may_differ(mark, seen) && !harmless).then(|| WatchedState(seen.cloned()))
    }
}

impl Workloads {
    /// Sends to `waking` whatever is to be looked at again.
    pub fn new(waking: UnboundedSender<ObjectRef<CoderUpgrade>>) -> Self {
        Self { waking, kinds: Mutex::default() }
    }

    /// Watches a kind for ever, and wakes the objects whose workloads may not be what was verified.
    pub async fn watch<K>(&self, kind: WorkloadKind, api: Api<PartialObjectMeta<K>>, upgrades: &Store<CoderUpgrade>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let config = watcher::Config::default().labels(MADE_BY_HELM).page_size(PAGE);
        let mut events = pin!(watcher(api, config).default_backoff());
        let watching = async {
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => self.take(kind, event, upgrades),
                    Err(error) => warn!("cannot watch for changes from outside: {error}"),
                }
            }
        };
        watching.instrument(info_span!("watching", %kind)).await;
    }

    fn take<K: Resource>(
        &self,
        kind: WorkloadKind,
        event: watcher::Event<PartialObjectMeta<K>>,
        upgrades: &Store<CoderUpgrade>,
    ) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = kinds.entry(kind).or_default();
        let changed = seen.take(event);
        if !seen.listed || changed.as_ref().is_some_and(HashSet::is_empty) {
            return;
        }
        for upgrade in upgrades.state() {
            let namespace = upgrade.namespace().unwrap_or_default();
            let suspicious = |mark: &WorkloadMark| {
                let key = (namespace.clone(), mark.name.clone());
                changed.as_ref().is_none_or(|changed| changed.contains(&key)) && seen.suspect(&key, mark).is_some()
            };
            let status = upgrade.status.as_ref().filter(|status| is_watched(status));
            let mut marks = status.into_iter().flat_map(|status| &status.workloads);
            if marks.any(|mark| mark.kind == kind.to_string() && suspicious(mark)) {
                // Fails only when nobody reconciles any more.
                let _ = self.waking.unbounded_send(ObjectRef::from_obj(&*upgrade));
            }
        }
    }

    fn suspect(&self, kind: WorkloadKind, key: &NamespacedName, mark: &WorkloadMark) -> Option<WatchedState> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.get(&kind)?.suspect(key, mark)
    }

    fn clear(&self, kind: WorkloadKind, key: NamespacedName, snapshot: WatchedState, mark: &WorkloadMark) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.entry(kind).or_default().harmless.insert(key, (snapshot, mark.fingerprint.clone()));
    }
}

/// The workloads of the release that are not what was verified. Reads only those of which the watches have seen a change.
pub async fn look(
    workloads: &Workloads,
    client: &Client,
    upgrade: &CoderUpgrade,
) -> Result<Vec<Drift>, ReconcileError> {
    let mut drifts = Vec::new();
    let Some(status) = upgrade.status.as_ref().filter(|status| is_watched(status)) else { return Ok(drifts) };
    let namespace = upgrade.namespace().unwrap_or_default();
    for mark in &status.workloads {
        let Ok(kind) = mark.kind.parse() else { continue };
        let key = (namespace.clone(), mark.name.clone());
        let Some(snapshot) = workloads.suspect(kind, &key, mark) else { continue };
        let now = match kind {
            WorkloadKind::Deployment => read::<Deployment>(client, kind, &key).await?,
            WorkloadKind::StatefulSet => read::<StatefulSet>(client, kind, &key).await?,
            WorkloadKind::DaemonSet => read::<DaemonSet>(client, kind, &key).await?,
        };
        match compare(mark, now) {
            Some(drift) => drifts.push(drift),
            None => workloads.clear(kind, key, snapshot, mark),
        }
    }
    Ok(drifts)
}

async fn read<K>(
    client: &Client,
    kind: WorkloadKind,
    (namespace, name): &NamespacedName,
) -> Result<Option<WorkloadState>, ReconcileError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let object = bounded(format!("read {kind}/{name}"), api.get_opt(name)).await?;
    Ok(object.map(|object| found(kind, &object)))
}

fn meta<K: Resource>(object: &PartialObjectMeta<K>) -> WorkloadMeta {
    let none = BTreeMap::default();
    WorkloadMeta {
        uid: object.metadata.uid.clone().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        labels: labels_digest(object.metadata.labels.as_ref().unwrap_or(&none)),
    }
}
