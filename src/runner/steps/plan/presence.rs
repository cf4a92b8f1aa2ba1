//! Looks for what there is of a release beside helm's records in Secrets: records in `ConfigMaps`, and Coder as it runs.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::api::ListParams;
use kube::core::{NamespaceResourceScope, Selector, SelectorExt};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::release::Release;
use super::secret;
use super::surroundings::{all, known};
use crate::api::{CoderUpgrade, label};
use crate::core::helm::ownership::Owner;
use crate::core::object::ObjectRef;
use crate::core::plan::presence::{ConfigMapRecords, LiveWorkload, Relation, Traces, relation};
use crate::runner::cluster::pod_secrets;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::helm::storage::{Storage, in_config_maps, raw_in_config_map};

/// Selectors of pods of Coder: its charts of both product lines label them so.
const PODS: [&str; 2] = ["app.kubernetes.io/name in (coder,coder-provisioner)", "coder.deployment"];

/// What there is of the release. Whatever runs is only looked for if nothing is installed by helm's records.
pub async fn look(ctx: &Context, upgrade: &CoderUpgrade, installed: &Release) -> Result<Traces, Error> {
    let mut traces = Traces {
        recorded: installed.recorded(),
        config_maps: config_maps(ctx, upgrade, installed).await?,
        ..Traces::default()
    };
    if installed.from().is_some() {
        return Ok(traces);
    }
    let looking = PresenceSearch { ctx, upgrade, recorded: traces.recorded };
    for object in looking.candidates().await? {
        looking.sort(object, &mut traces).await?;
    }
    traces.plan_secret = last_plan(ctx).await?;
    pod_secrets::of_objects(ctx, traces.live.iter().map(|live| &live.object)).await;
    Ok(traces)
}

/// The newest record in a `ConfigMap`.
async fn config_maps(
    ctx: &Context,
    upgrade: &CoderUpgrade,
    installed: &Release,
) -> Result<Option<ConfigMapRecords>, Error> {
    let maps = ctx.api();
    let found = in_config_maps(&maps, &upgrade.spec.release).await;
    let newest = known("list helm's records in ConfigMaps", found)?.and_then(|found| found.into_iter().next());
    let Some(newest) = newest else { return Ok(None) };
    let in_secret = installed.newest();
    let newer = match newest.written.cmp(&in_secret.and_then(|record| record.revision.written)) {
        // Times of records are in whole seconds, and helm may write both within one: only a copy is not newer for certain.
        Ordering::Equal => {
            raw_in_config_map(&maps, &newest).await?.as_ref() != in_secret.map(|record| &record.stored.raw)
        }
        order => order.is_gt(),
    };
    Ok(Some(ConfigMapRecords { newer, name: newest.secret, revision: newest.number, status: newest.status }))
}

/// Looks for workloads and pods of their own that belong to the release, or run what its chart runs.
struct PresenceSearch<'a> {
    ctx: &'a Context,
    upgrade: &'a CoderUpgrade,
    recorded: bool,
}

impl PresenceSearch<'_> {
    /// Workloads, and pods of Coder that belong to none of them.
    async fn candidates(&self) -> Result<Vec<Value>, Error> {
        let mut found = self.listed::<Deployment>("apps/v1").await?;
        found.extend(self.listed::<StatefulSet>("apps/v1").await?);
        let pods = self.pods(&found).await?;
        found.extend(pods);
        Ok(found)
    }

    async fn listed<K>(&self, api_version: &str) -> Result<Vec<Value>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Serialize
            + std::fmt::Debug,
    {
        let kind = K::kind(&());
        let found = all(&format!("{kind}s"), self.ctx.api::<K>(), &ListParams::default(), |_| {}).await?;
        found.unwrap_or_default().iter().map(|object| plain(object, api_version, &kind)).collect()
    }

    /// Pods of Coder that none of these workloads selects: pods that somebody has made by hand, or workloads of kinds that
    /// are not known here.
    async fn pods(&self, workloads: &[Value]) -> Result<Vec<Value>, Error> {
        let selectors: Vec<Selector> = workloads.iter().filter_map(selector).collect();
        let mut found: Vec<Pod> = Vec::new();
        for labels in PODS {
            let parameters = ListParams::default().labels(labels);
            found.extend(all("Pods", self.ctx.api::<Pod>(), &parameters, |_| {}).await?.unwrap_or_default());
        }
        found.retain(|pod| !selectors.iter().any(|selector| selector.matches(pod.labels())));
        let alone = self.sets_of_their_own().await?;
        found.retain(|pod| match controller(pod.owner_references()) {
            None => true,
            Some(owner) if owner.kind == "ReplicaSet" => alone.contains(&owner.uid),
            // What was made by a workload that is gone, goes as well.
            Some(owner) => !matches!(owner.kind.as_str(), "StatefulSet" | "DaemonSet" | "Job"),
        });
        found.iter().map(|pod| plain(pod, "v1", "Pod")).collect()
    }

    /// UIDs of the `ReplicaSets` that belong to no Deployment, by whose template their pods would be judged.
    async fn sets_of_their_own(&self) -> Result<BTreeSet<String>, Error> {
        let sets: Api<ReplicaSet> = self.ctx.api();
        let everything = ListParams::default();
        let doing = "list ReplicaSets";
        let found = known(doing, request(doing, || sets.list_metadata(&everything)).await)?;
        let alone = found
            .into_iter()
            .flat_map(|list| list.items)
            .filter(|set| controller(set.owner_references()).is_none_or(|owner| owner.kind != "Deployment"));
        Ok(alone.filter_map(|set| set.uid()).collect())
    }

    /// Notes an object if it has to do with the release.
    async fn sort(&self, object: Value, traces: &mut Traces) -> Result<(), Error> {
        let (release, namespace) = (&self.upgrade.spec.release, &self.ctx.namespace);
        let owner = match relation(&object, release, namespace, &self.upgrade.spec.chart.name) {
            // What helm has left in place, or has yet to delete, of a release that it has uninstalled.
            Relation::Marked if self.recorded => return Ok(()),
            Relation::Marked => Owner::Release,
            Relation::Unmarked => Owner::of_object(&object, release, namespace),
            Relation::Another(other) if self.is_gone(&other).await? => Owner::of_object(&object, release, namespace),
            Relation::Another(other) => {
                let name = ObjectRef::of(&object).map(|object| object.to_string()).unwrap_or_default();
                traces.others.push((name, other));
                return Ok(());
            }
            Relation::None => return Ok(()),
        };
        traces.live.push(LiveWorkload { object, owner });
        Ok(())
    }

    /// Whether helm has no record of another release of this namespace.
    async fn is_gone(&self, release: &str) -> Result<bool, Error> {
        let maps = known("list helm's records in ConfigMaps", in_config_maps(&self.ctx.api(), release).await)?;
        let none = maps.unwrap_or_default().is_empty();
        Ok(none && Storage::new(self.ctx.api(), release).history().await?.is_empty())
    }
}

fn controller(owners: &[OwnerReference]) -> Option<&OwnerReference> {
    owners.iter().find(|owner| owner.controller == Some(true))
}

/// The object with its kind and without what changes by itself.
fn plain<K: Serialize>(object: &K, api_version: &str, kind: &str) -> Result<Value, Error> {
    let mut object = serde_json::to_value(object).map_err(|source| Error::Json { what: "an object", source })?;
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    Ok(object)
}

fn selector(workload: &Value) -> Option<Selector> {
    let selector: LabelSelector = serde_json::from_value(workload["spec"]["selector"].clone()).ok()?;
    Selector::try_from(selector).ok()
}

/// The newest plan Secret of this `CoderUpgrade`.
async fn last_plan(ctx: &Context) -> Result<Option<String>, Error> {
    let secrets: Api<Secret> = ctx.api();
    let plans = secret::of_upgrade(ctx);
    let found = request("list the plans", || secrets.list_metadata(&plans)).await?;
    let first = found.items.into_iter().filter(|secret| !secret.labels().contains_key(label::PLAN_PART));
    let newest = first.max_by_key(ResourceExt::creation_timestamp);
    Ok(newest.map(|secret| secret.name_any()))
}
