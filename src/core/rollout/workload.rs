//! What the controllers of Kubernetes say about a workload and its pods, in one form for all three kinds.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Names that the containers of Coder's API server have in the charts of both product lines.
pub const SERVERS: [&str; 3] = ["coder", "coderd", "cemanager"];

/// The update strategy with which a pod is made from the new template only after somebody has deleted the old one.
const ON_DELETE: &str = "OnDelete";

/// A Deployment, `StatefulSet` or `DaemonSet` as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadFacts {
    /// Kind and name, as Kind/name.
    pub object: String,
    /// Its controller has seen the newest generation: what follows speaks of it.
    pub observed: bool,
    /// Pods that it shall have.
    pub desired: i32,
    /// Pods that it has, without those that are ending.
    pub total: i32,
    /// Pods made from the present template.
    pub updated: i32,
    /// Pods that its update strategy leaves on an older template until somebody deletes them: all with `OnDelete`, those below
    /// the partition of a `StatefulSet`. helm does not wait for them.
    pub held_back: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods that have been ready for long enough (minReadySeconds) to count.
    pub available: i32,
    /// Containers of the template, as (name, image).
    pub images: Vec<(String, String)>,
}

/// A pod as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Name of the pod.
    pub name: String,
    /// UID of the pod.
    pub uid: String,
    /// Address of the pod, once it has one.
    pub ip: Option<String>,
    /// The pod is being deleted, or has ended: it serves nobody any more.
    pub leaving: bool,
    /// The pod is ready.
    pub ready: bool,
    /// Why the scheduler found no node for it.
    pub unschedulable: Option<String>,
    /// Containers as (name, image).
    pub images: Vec<(String, String)>,
    /// Init containers as (name, image).
    pub init_images: Vec<(String, String)>,
    /// Init containers and containers, as the kubelet sees them.
    pub containers: Vec<ContainerFacts>,
}

/// A container as the kubelet sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// Name of the container.
    pub name: String,
    /// The container is ready (or, for an init container, has succeeded).
    pub ready: bool,
    /// It runs, or has run: something in it may have been done.
    pub started: bool,
    /// Since when it runs, if it does.
    pub since: Option<Timestamp>,
    /// How often it was started again.
    pub restarts: i32,
    /// Why it is not running: reason and message.
    pub waiting: Option<(String, String)>,
    /// How it ended the last time: exit code, if it ever ended.
    pub last_exit: Option<i32>,
}

impl PodFacts {
    /// How often containers of the pod were started again.
    pub fn restarts(&self) -> i32 {
        self.containers.iter().map(|container| container.restarts).sum()
    }

    /// The first container like this, one that runs a server of Coder before all others: those may have been injected.
    pub fn foremost(&self, like: impl Fn(&ContainerFacts) -> bool) -> Option<&ContainerFacts> {
        let is_server = |container: &&ContainerFacts| SERVERS.contains(&container.name.as_str());
        let all = || self.containers.iter().filter(|container| like(container));
        all().find(is_server).or_else(|| all().next())
    }

    /// What keeps the pod from being ready, in a few words, if it says.
    pub fn trouble(&self) -> Option<String> {
        if let Some(message) = &self.unschedulable {
            return Some(format!("cannot be scheduled ({message})"));
        }
        let container = self.foremost(|c| c.waiting.as_ref().is_some_and(|(reason, _)| is_trouble(reason)))?;
        let (reason, message) = container.waiting.as_ref()?;
        Some(match reason.as_str() {
            "CrashLoopBackOff" => format!(
                "container {} keeps ending{} and was started {} times",
                container.name,
                container.last_exit.map(|code| format!(" with exit code {code}")).unwrap_or_default(),
                container.restarts + 1
            ),
            "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" => {
                format!("image of container {} cannot be pulled ({message})", container.name)
            }
            _ => format!("container {} cannot start: {reason} {message}", container.name).trim_end().to_owned(),
        })
    }

    /// That the pod is not ready, and which of its containers keeps it from that. A native sidecar is one of them once the
    /// containers run; an init container that still works is not.
    pub fn unready(&self) -> String {
        let is_main = |container: &ContainerFacts| self.images.iter().any(|(name, _)| *name == container.name);
        let running = || self.containers.iter().filter(|container| container.since.is_some());
        let initialized = running().any(is_main);
        match running().find(|container| initialized && !container.ready) {
            Some(container) if self.containers.len() > 1 => format!("container {} is not ready", container.name),
            _ => "is not ready".to_owned(),
        }
    }
}

/// Reasons of a waiting container that are no part of an ordinary start.
fn is_trouble(reason: &str) -> bool {
    !matches!(reason, "" | "ContainerCreating" | "PodInitializing")
}

impl From<&Deployment> for WorkloadFacts {
    fn from(object: &Deployment) -> Self {
        let (spec, status) = (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
        Self {
            object: named("Deployment", &object.metadata),
            observed: seen(&object.metadata, status.observed_generation),
            desired: spec.replicas.unwrap_or(1),
            total: status.replicas.unwrap_or_default(),
            updated: status.updated_replicas.unwrap_or_default(),
            held_back: 0,
            ready: status.ready_replicas.unwrap_or_default(),
            available: status.available_replicas.unwrap_or_default(),
            images: images(&spec.template),
        }
    }
}

impl From<&StatefulSet> for WorkloadFacts {
    fn from(object: &StatefulSet) -> Self {
        let (spec, status) = (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
        let desired = spec.replicas.unwrap_or(1);
        let strategy = spec.update_strategy.as_ref();
        let partition = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition).unwrap_or_default();
        let on_delete = strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some(ON_DELETE));
        Self {
            object: named("StatefulSet", &object.metadata),
            observed: seen(&object.metadata, status.observed_generation),
            desired,
            total: status.replicas,
            updated: status.updated_replicas.unwrap_or_default(),
            held_back: if on_delete { desired } else { partition.clamp(0, desired) },
            ready: status.ready_replicas.unwrap_or_default(),
            available: status.available_replicas.unwrap_or_default(),
            images: images(&spec.template),
        }
    }
}

impl From<&DaemonSet> for WorkloadFacts {
    fn from(object: &DaemonSet) -> Self {
        let (spec, status) = (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
        let on_delete = spec.update_strategy.and_then(|strategy| strategy.type_).as_deref() == Some(ON_DELETE);
        Self {
            object: named("DaemonSet", &object.metadata),
            observed: seen(&object.metadata, status.observed_generation),
            desired: status.desired_number_scheduled,
            total: status.current_number_scheduled,
            updated: status.updated_number_scheduled.unwrap_or_default(),
            held_back: if on_delete { status.desired_number_scheduled } else { 0 },
            ready: status.number_ready,
            available: status.number_available.unwrap_or_default(),
            images: images(&spec.template),
        }
    }
}

impl From<&Pod> for PodFacts {
    fn from(pod: &Pod) -> Self {
        let (spec, status) = (pod.spec.clone().unwrap_or_default(), pod.status.clone().unwrap_or_default());
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let conditions = status.conditions.unwrap_or_default();
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            ip: status.pod_ip,
            leaving: pod.metadata.deletion_timestamp.is_some() || ended,
            ready: conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
            unschedulable: conditions
                .iter()
                .find(|c| c.type_ == "PodScheduled" && c.status == "False")
                .map(|c| c.message.clone().unwrap_or_default()),
            images: spec.containers.into_iter().map(named_image).collect(),
            init_images: spec.init_containers.into_iter().flatten().map(named_image).collect(),
            containers: status
                .init_container_statuses
                .unwrap_or_default()
                .iter()
                .chain(&status.container_statuses.unwrap_or_default())
                .map(ContainerFacts::from)
                .collect(),
        }
    }
}

impl From<&ContainerStatus> for ContainerFacts {
    fn from(status: &ContainerStatus) -> Self {
        let state = status.state.clone().unwrap_or_default();
        let running = state.running.is_some();
        let since = state.running.as_ref().and_then(|running| running.started_at.as_ref()).map(|time| time.0);
        let before = status.last_state.clone().unwrap_or_default().terminated;
        // A kubelet ends a container that never ran as well, when its pod is deleted: it says no time of a start then.
        let ran = state.terminated.as_ref().is_some_and(|ended| ended.started_at.is_some())
            || status.container_id.as_ref().is_some_and(|id| !id.is_empty());
        let has_run = before.is_some() || ran || status.restart_count > 0;
        let ended = state.terminated.or(before);
        Self {
            name: status.name.clone(),
            ready: status.ready,
            started: running || has_run,
            since,
            restarts: status.restart_count,
            waiting: state.waiting.map(|w| (w.reason.unwrap_or_default(), w.message.unwrap_or_default())),
            last_exit: ended.map(|t| t.exit_code),
        }
    }
}

fn named(kind: &str, metadata: &ObjectMeta) -> String {
    format!("{kind}/{}", metadata.name.as_deref().unwrap_or_default())
}

fn seen(metadata: &ObjectMeta, observed: Option<i64>) -> bool {
    metadata.generation.unwrap_or_default() <= observed.unwrap_or_default()
}

fn named_image(container: Container) -> (String, String) {
    (container.name, container.image.unwrap_or_default())
}

fn images(template: &PodTemplateSpec) -> Vec<(String, String)> {
    let containers = template.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    containers.iter().map(|c| (c.name.clone(), c.image.clone().unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> PodFacts {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "coder-1", "uid": "u"},
            "spec": {"containers": [{"name": "coder", "image": "i:v1"}]},
            "status": status,
        }))
        .unwrap();
        PodFacts::from(&pod)
    }

    #[test]
    fn a_pod_says_what_its_trouble_is() {
        let waiting = |reason: &str, message: &str| {
            pod(&json!({"containerStatuses": [{
                "name": "coder", "ready": false, "restartCount": 4, "image": "", "imageID": "",
                "state": {"waiting": {"reason": reason, "message": message}},
                "lastState": {"terminated": {"exitCode": 3}},
            }]}))
            .trouble()
        };
        assert_eq!(waiting("ContainerCreating", ""), None);
        assert_eq!(
            waiting("CrashLoopBackOff", "back-off").as_deref(),
            Some("container coder keeps ending with exit code 3 and was started 5 times")
        );
        assert_eq!(
            waiting("ImagePullBackOff", "no such tag").as_deref(),
            Some("image of container coder cannot be pulled (no such tag)")
        );
        let unschedulable =
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]});
        assert_eq!(pod(&unschedulable).trouble().as_deref(), Some("cannot be scheduled (0/1 nodes)"));
    }

    #[test]
    fn the_container_that_is_not_ready_is_named_if_there_are_several() {
        let status = |name: &str, ready: bool| {
            let state = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
            json!({"name": name, "ready": ready, "restartCount": 0, "image": "", "imageID": "", "state": state})
        };
        let coder = |ready| json!([status("coder", ready)]);
        assert_eq!(pod(&json!({"containerStatuses": coder(false)})).unready(), "is not ready");
        let beside = |name: &str, ready| json!({"initContainerStatuses": [status(name, false)], "containerStatuses": coder(ready)});
        assert_eq!(pod(&beside("proxy", true)).unready(), "container proxy is not ready");
        let mut working = beside("migrations", false);
        working["containerStatuses"][0]["state"] = json!({"waiting": {"reason": "PodInitializing"}});
        assert_eq!(pod(&working).unready(), "is not ready");
    }

    #[rstest]
    #[case::waiting(json!({"waiting": {"reason": "ImagePullBackOff"}}), "", false)]
    #[case::running(json!({"running": {}}), "containerd://1", true)]
    #[case::ended(json!({"terminated": {"exitCode": 1, "startedAt": "2026-01-01T00:00:00Z"}}), "", true)]
    #[case::lost_after_it_ran(json!({"terminated": {"exitCode": 137}}), "containerd://1", true)]
    #[case::deleted_before_it_ran(
        json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": null}}), "", false)]
    fn a_container_has_started_once_it_ran(#[case] state: Value, #[case] id: &str, #[case] started: bool) {
        let pod = pod(&json!({"containerStatuses": [{
            "name": "coder", "ready": false, "restartCount": 0, "image": "", "imageID": "", "containerID": id,
            "state": state,
        }]}));
        assert_eq!(pod.containers[0].started, started);
    }

    #[test]
    fn a_stale_status_is_not_believed() {
        let deployment = |generation: i64| {
            let object: Deployment = serde_json::from_value(json!({
                "metadata": {"name": "coder", "generation": generation},
                "spec": {"replicas": 2, "selector": {}, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
                "status": {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1},
            }))
            .unwrap();
            WorkloadFacts::from(&object)
        };
        assert!(deployment(3).observed && !deployment(4).observed);
        assert_eq!((deployment(3).desired, deployment(3).ready), (2, 1));
    }

    #[rstest]
    #[case::rolling(json!({"type": "RollingUpdate"}), 0)]
    #[case::partition(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}), 1)]
    #[case::beyond(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 9}}), 3)]
    #[case::on_delete(json!({"type": "OnDelete"}), 3)]
    fn an_update_strategy_holds_pods_back(#[case] strategy: Value, #[case] expected: i32) {
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": {"name": "cache"},
            "spec": {"replicas": 3, "selector": {}, "template": {}, "updateStrategy": strategy},
        }))
        .unwrap();
        assert_eq!(WorkloadFacts::from(&set).held_back, expected);
        let set: DaemonSet = serde_json::from_value(json!({
            "metadata": {"name": "agent"}, "spec": {"selector": {}, "template": {}, "updateStrategy": strategy},
            "status": {"desiredNumberScheduled": 3, "currentNumberScheduled": 3, "numberMisscheduled": 0, "numberReady": 3},
        }))
        .unwrap();
        assert_eq!(WorkloadFacts::from(&set).held_back, if strategy["type"] == "OnDelete" { 3 } else { 0 });
    }

    #[test]
    fn a_pod_that_has_ended_serves_nobody() {
        assert!(pod(&json!({"phase": "Failed"})).leaving && !pod(&json!({"phase": "Running"})).leaving);
    }
}
