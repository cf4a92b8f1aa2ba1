//! Looks for what there is of a release beside helm's records in Secrets: records in `ConfigMaps`, and Coder as it runs.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
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
use crate::api::CoderUpgrade;
use crate::core::presence::{ConfigMapRecords, Live, Relation, Traces, relation};
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::helm::storage::{Storage, revisions};
use crate::runner::learn;

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
    traces.live = Looking { ctx, upgrade, recorded: traces.recorded }.live().await?;
    traces.plan_secret = last_plan(ctx).await?;
    learn::of_objects(ctx, traces.live.iter().map(|live| &live.object)).await;
    Ok(traces)
}

/// The newest record in a `ConfigMap`.
async fn config_maps(
    ctx: &Context,
    upgrade: &CoderUpgrade,
    installed: &Release,
) -> Result<Option<ConfigMapRecords>, Error> {
    let maps: Api<ConfigMap> = ctx.api();
    let selector = ListParams::default().labels(&format!("owner=helm,name={}", upgrade.spec.release));
    let doing = "list helm's records in ConfigMaps";
    let found = known(doing, request(doing, || maps.list_metadata(&selector)).await)?;
    let found = found.map(|list| list.items.into_iter().map(|map| map.metadata).collect()).unwrap_or_default();
    let newest = revisions(found).into_iter().next();
    Ok(newest.map(|newest| ConfigMapRecords {
        newer: newest.written > installed.written(),
        name: newest.secret,
        revision: newest.number,
        status: newest.status,
    }))
}

/// Looks for workloads and pods of their own that belong to the release, or run what its chart runs.
struct Looking<'a> {
    ctx: &'a Context,
    upgrade: &'a CoderUpgrade,
    recorded: bool,
}

impl Looking<'_> {
    async fn live(&self) -> Result<Vec<Live>, Error> {
        let deployments = self.listed::<Deployment>("apps/v1").await?;
        let sets = self.listed::<StatefulSet>("apps/v1").await?;
        let workloads: Vec<Value> = deployments.into_iter().chain(sets).collect();
        let mut live = Vec::new();
        for object in &workloads {
            live.extend(self.relevant(object.clone()).await?);
        }
        for pod in self.pods(&workloads).await? {
            live.extend(self.relevant(pod).await?);
        }
        Ok(live)
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

    async fn relevant(&self, object: Value) -> Result<Option<Live>, Error> {
        let spec = &self.upgrade.spec;
        let marked = match relation(&object, &spec.release, &self.ctx.namespace, &spec.chart.name) {
            // What helm has left in place, or has yet to delete, of a release that it has uninstalled.
            Relation::Marked => (!self.recorded).then_some(true),
            Relation::Unmarked => Some(false),
            Relation::Another(other) => self.is_gone(&other).await?.then_some(false),
            Relation::None => None,
        };
        Ok(marked.map(|marked| Live { object, marked }))
    }

    /// Whether helm has no record of another release of this namespace.
    async fn is_gone(&self, release: &str) -> Result<bool, Error> {
        Ok(Storage::new(self.ctx.api(), release).history().await?.is_empty())
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
    let newest = found.items.into_iter().max_by_key(ResourceExt::creation_timestamp);
    Ok(newest.map(|secret| secret.name_any()))
}
