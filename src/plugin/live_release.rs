//! The workloads of a release and their pods, read once.

use std::borrow::Borrow;

use futures::future::{try_join_all, try_join3};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::Selector;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::error::PluginError;
use super::session::Session;
use crate::api::CoderUpgrade;
use crate::core::helm::ownership::{HELM, MANAGED_BY, Owner};
use crate::core::overview::{Overview, OverviewInput};
use crate::core::rollout::workload::{PodFacts, WorkloadFacts};

/// The workloads of a release and their pods.
#[derive(Default)]
pub struct LiveRelease {
    /// The workloads.
    pub workloads: Vec<WorkloadFacts>,
    /// Their pods.
    pub pods: Vec<PodFacts>,
    /// Why they are not known.
    pub unseen: Option<String>,
}

/// The label that helm gives to every object of a release.
pub fn of_helm() -> String {
    format!("{MANAGED_BY}={HELM}")
}

/// Whether an object belongs to the release.
pub fn is_of<K: Resource>(object: &K, release: &str, namespace: &str) -> bool {
    Owner::of(object.labels(), object.annotations(), release, namespace) == Owner::Release
}

impl LiveRelease {
    /// Reads them. That they cannot be read is told, and keeps nothing from being shown.
    pub async fn read(session: &Session, upgrade: &CoderUpgrade) -> Self {
        let read = read(session, &upgrade.spec.release).await;
        read.unwrap_or_else(|error| Self { unseen: Some(error.to_string()), ..Self::default() })
    }

    /// What is told of the object in the middle of this.
    pub fn told(&self, session: &Session, upgrade: &CoderUpgrade) -> Overview {
        let Self { workloads, pods, unseen } = self;
        let (unseen, program, now) = (unseen.as_deref(), session.program, Timestamp::now());
        Overview::of(&OverviewInput { upgrade, workloads, pods, unseen, program, now })
    }
}

async fn read(session: &Session, release: &str) -> Result<LiveRelease, PluginError> {
    let (deployments, stateful_sets, daemon_sets) = try_join3(
        workloads::<Deployment>(session, release, "Deployments"),
        workloads::<StatefulSet>(session, release, "StatefulSets"),
        workloads::<DaemonSet>(session, release, "DaemonSets"),
    )
    .await?;
    let (workloads, selectors) = facts(&deployments, &stateful_sets, &daemon_sets);
    let pods = try_join_all(selectors.into_iter().map(|selector| pods(session, selector))).await?;
    Ok(LiveRelease { workloads, pods: pods.iter().flatten().map(PodFacts::from).collect(), unseen: None })
}

/// What workloads say, and what selects their pods.
pub fn facts<D, S, E>(deployments: &[D], stateful_sets: &[S], daemon_sets: &[E]) -> (Vec<WorkloadFacts>, Vec<Selector>)
where
    D: Borrow<Deployment>,
    S: Borrow<StatefulSet>,
    E: Borrow<DaemonSet>,
{
    let mut found = Vec::new();
    for object in deployments.iter().map(Borrow::borrow) {
        found.push((WorkloadFacts::from(object), object.spec.as_ref().map(|spec| &spec.selector)));
    }
    for object in stateful_sets.iter().map(Borrow::borrow) {
        found.push((WorkloadFacts::from(object), object.spec.as_ref().map(|spec| &spec.selector)));
    }
    for object in daemon_sets.iter().map(Borrow::borrow) {
        found.push((WorkloadFacts::from(object), object.spec.as_ref().map(|spec| &spec.selector)));
    }
    let selectors = found.iter().filter_map(|(_, selector)| Selector::try_from((*selector)?.clone()).ok()).collect();
    (found.into_iter().map(|(facts, _)| facts).collect(), selectors)
}

async fn workloads<K>(session: &Session, release: &str, kind: &str) -> Result<Vec<K>, PluginError>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let doing = format!("list the {kind} of namespace {}", session.namespace);
    let parameters = ListParams::default().labels(&of_helm());
    let mut found = session.ask(&doing, session.api::<K>().list(&parameters)).await?.items;
    found.retain(|object| is_of(object, release, &session.namespace));
    Ok(found)
}

async fn pods(session: &Session, selector: Selector) -> Result<Vec<Pod>, PluginError> {
    let doing = format!("list the pods of namespace {}", session.namespace);
    let parameters = ListParams::default().labels_from(&selector);
    Ok(session.ask(&doing, session.api::<Pod>().list(&parameters)).await?.items)
}
