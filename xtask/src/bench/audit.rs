//! Requests, counted in the API server's audit log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use testbed::Cluster;
use testbed::cluster::OPERATOR_NAMESPACE;

use crate::Result;

/// The audit log of a cluster.
pub struct AuditLog(Cluster);

/// A stage of a request, as far as it is of interest here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    #[serde(rename = "auditID")]
    id: String,
    verb: String,
    pub(super) user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    pub(super) request_received_timestamp: Timestamp,
}

#[derive(Deserialize)]
pub(super) struct User {
    pub(super) username: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    namespace: String,
}

impl AuditLog {
    /// Of this cluster.
    pub fn of(cluster: &Cluster) -> Self {
        Self(cluster.clone())
    }

    /// Everything that the controller has asked for, leases aside.
    pub fn controller_requests(&self) -> Result<f64> {
        self.count(|event| event.user.username == controller() && event.object_ref.resource != "leases")
    }

    /// What the controller has asked for about objects of one namespace.
    pub fn controller_requests_in(&self, namespace: &str) -> Result<f64> {
        self.count(|event| event.user.username == controller() && event.object_ref.namespace == namespace)
    }

    /// What the runner of one namespace has asked for, its helm included.
    pub fn runner_requests(&self, namespace: &str) -> Result<f64> {
        let runner = format!("system:serviceaccount:{namespace}:coder-upgrade-runner");
        self.count(|event| event.user.username == runner)
    }

    /// The requests of the runner of one namespace by what they ask for, for example `helm get secrets`, with their numbers.
    pub fn runner_requests_by_kind(&self, namespace: &str) -> Result<BTreeMap<String, usize>> {
        let runner = format!("system:serviceaccount:{namespace}:coder-upgrade-runner");
        let mut kinds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for event in self.events(|event| event.user.username == runner)? {
            let who = if event.is_helm() { "helm" } else { "runner" };
            let what = if event.object_ref.resource.is_empty() { "discovery" } else { &event.object_ref.resource };
            kinds.entry(format!("{who} {} {what}", event.verb)).or_default().insert(event.id);
        }
        Ok(kinds.into_iter().map(|(kind, ids)| (kind, ids.len())).collect())
    }

    /// What an administrator's helm has asked for in a span of time.
    pub fn helm_requests(&self, from: Timestamp, to: Timestamp) -> Result<f64> {
        let span = from..=to;
        self.count(|event| event.is_helm() && span.contains(&event.request_received_timestamp))
    }

    /// From the apply of the `CoderUpgrade` in a namespace to the creation of its first Job, as the API server saw them.
    pub fn apply_to_job(&self, namespace: &str) -> Result<Duration> {
        let events = self.events(|event| event.object_ref.namespace == namespace && is_write(event))?;
        let first = |resource: &str| {
            let events = events.iter().filter(|event| event.object_ref.resource == resource);
            let first = events.map(|event| event.request_received_timestamp).min();
            first.ok_or_else(|| format!("no {resource} in {namespace} in the audit log"))
        };
        Ok(first("jobs")?.duration_since(first("coderupgrades")?).try_into()?)
    }

    /// From the moment in which the upgrade step has the Lease of a release to the first change that it makes to repair what
    /// helm would be refused for, in a namespace in which a Deployment was replaced.
    pub fn lease_to_repair(&self, namespace: &str) -> Result<Duration> {
        let runner = format!("system:serviceaccount:{namespace}:coder-upgrade-runner");
        let events = self.events(|event| event.user.username == runner && !event.is_helm())?;
        let first = |wanted: &dyn Fn(&&Event) -> bool, what: &str| {
            let times = events.iter().filter(wanted).map(|event| event.request_received_timestamp);
            times.min().ok_or_else(|| format!("no {what} in {namespace} in the audit log"))
        };
        let lease = first(&|event| event.object_ref.resource == "leases" && is_write(event), "Lease")?;
        Ok(first(&|event| event.repairs(), "repair")?.duration_since(lease).try_into()?)
    }

    /// From the first to the last of some requests.
    pub(super) fn span(&self, wanted: impl Fn(&Event) -> bool) -> Result<Duration> {
        let times: Vec<Timestamp> = self.events(wanted)?.iter().map(|event| event.request_received_timestamp).collect();
        let (first, last) = times.iter().min().zip(times.iter().max()).ok_or("no such request in the audit log")?;
        Ok(last.duration_since(*first).try_into()?)
    }

    fn count(&self, wanted: impl Fn(&Event) -> bool) -> Result<f64> {
        let events = self.events(wanted)?;
        Ok(number(events.iter().map(|event| event.id.as_str()).collect::<BTreeSet<_>>().len()))
    }

    fn events(&self, wanted: impl Fn(&Event) -> bool) -> Result<Vec<Event>> {
        let lines = self.0.audit_lines("").map_err(|error| format!("cannot read the audit log: {error}"))?;
        let mut events = Vec::new();
        for line in lines {
            let event: Event = serde_json::from_str(&line)?;
            if wanted(&event) {
                events.push(event);
            }
        }
        Ok(events)
    }
}

impl Event {
    /// Whether helm asked, through the proxy of a rehearsal or not.
    pub(super) fn is_helm(&self) -> bool {
        self.user_agent.starts_with("Helm/")
    }

    /// Whether it changes a workload or what belongs to one.
    fn repairs(&self) -> bool {
        let resource = ["deployments", "replicasets", "pods"].contains(&self.object_ref.resource.as_str());
        resource && ["patch", "delete"].contains(&self.verb.as_str())
    }
}

fn controller() -> String {
    format!("system:serviceaccount:{OPERATOR_NAMESPACE}:coder-upgrade-operator")
}

fn is_write(event: &Event) -> bool {
    matches!(event.verb.as_str(), "create" | "update" | "patch")
}

#[allow(clippy::cast_precision_loss)] // counts of requests are far below 2^52
fn number(count: usize) -> f64 {
    count as f64
}
