//! The status of a pod, computed from its containers as a kubelet computes it.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::state::{Activity, ContainerState, Exit, RestartPolicy};

/// All that decides over a pod's status.
#[derive(Debug, Clone)]
pub struct PodView {
    /// The pod's address, once it has one.
    pub address: Option<Ipv4Addr>,
    /// The node's address.
    pub host: Ipv4Addr,
    /// When the node took the pod.
    pub started: Timestamp,
    /// Its volumes are there.
    pub mounted: bool,
    /// Init containers in their order.
    pub init: Vec<ContainerState>,
    /// Containers in their order.
    pub main: Vec<ContainerState>,
    /// It is being stopped for good.
    pub stopping: bool,
    /// Why it failed as a whole, if it did: reason and message.
    pub verdict: Option<(String, String)>,
}

/// Whether an init container goes on beside the others (a sidecar).
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The status of `pod` at `now`. Conditions keep their transition time as long as their status stays.
#[must_use]
pub fn compute(pod: &Pod, view: &PodView, now: Timestamp) -> PodStatus {
    let spec = pod.spec.clone().unwrap_or_default();
    let init_spec = spec.init_containers.unwrap_or_default();
    let phase = phase(&init_spec, view, RestartPolicy::parse(spec.restart_policy.as_deref()));
    let over = matches!(phase, "Succeeded" | "Failed");
    let initialized = is_initialized(&init_spec, view);
    // As in GenerateContainersReadyCondition of the kubelet: sidecars count, ahead of the containers.
    let counted = view.init.iter().filter(|state| is_sidecar_of(&init_spec, state)).chain(&view.main);
    let unready: Vec<&str> = counted.filter(|state| !is_ready(state)).map(|state| state.name.as_str()).collect();
    let unready_reason = match phase {
        "Succeeded" => Some(("PodCompleted", None)),
        "Failed" => Some(("PodFailed", None)),
        _ if !unready.is_empty() => {
            Some(("ContainersNotReady", Some(format!("containers with unready status: [{}]", unready.join(" ")))))
        }
        _ => None,
    };
    let not_initialized = || {
        let waiting: Vec<&str> =
            view.init.iter().filter(|state| !state.has_succeeded()).map(|s| s.name.as_str()).collect();
        ("ContainersNotInitialized", Some(format!("containers with incomplete status: [{}]", waiting.join(" "))))
    };
    let conditions = [
        ("PodReadyToStartContainers", view.mounted && !over, None),
        ("Initialized", initialized, (!initialized).then(not_initialized)),
        ("Ready", unready_reason.is_none(), unready_reason.clone()),
        ("ContainersReady", unready_reason.is_none(), unready_reason),
        ("PodScheduled", true, None),
    ];
    let known = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let (reason, message) = view.verdict.clone().filter(|_| over).unzip();
    PodStatus {
        phase: Some(phase.to_owned()),
        reason,
        message,
        observed_generation: pod.metadata.generation,
        host_ip: Some(view.host.to_string()),
        host_ips: Some(vec![HostIP { ip: view.host.to_string() }]),
        pod_ip: view.address.map(|address| address.to_string()),
        pod_ips: view.address.map(|address| vec![PodIP { ip: address.to_string() }]),
        start_time: Some(Time(view.started)),
        conditions: Some(
            conditions.into_iter().map(|(type_, status, why)| condition(pod, known, type_, status, why, now)).collect(),
        ),
        init_container_statuses: (!view.init.is_empty()).then(|| init_statuses(pod, &init_spec, &view.init)),
        container_statuses: Some(statuses(pod, &spec.containers, &view.main)),
        ..PodStatus::default()
    }
}

fn phase(init_spec: &[Container], view: &PodView, policy: RestartPolicy) -> &'static str {
    // A phase that says "over" while a process still works would mislead everybody who waits for its end.
    if view.main.iter().chain(&view.init).any(ContainerState::is_running) {
        return if is_initialized(init_spec, view) && !view.main.iter().any(never_ran) { "Running" } else { "Pending" };
    }
    if view.verdict.is_some() {
        return "Failed";
    }
    let failed_init = view.init.iter().any(|state| state.end().is_some_and(|exit| exit.code != 0));
    if failed_init && (policy == RestartPolicy::Never || view.stopping) {
        return "Failed";
    }
    if !is_initialized(init_spec, view) && !view.stopping {
        return "Pending";
    }
    let ends: Vec<&Exit> = view.main.iter().filter_map(ContainerState::end).collect();
    if ends.len() == view.main.len() {
        return if ends.iter().all(|exit| exit.code == 0) { "Succeeded" } else { "Failed" };
    }
    if view.main.iter().any(never_ran) { "Pending" } else { "Running" }
}

fn never_ran(state: &ContainerState) -> bool {
    matches!(state.activity, Activity::Waiting { .. }) && state.last.is_none()
}

fn is_initialized(init_spec: &[Container], view: &PodView) -> bool {
    let is_done = |state: &ContainerState| state.has_succeeded() || (state.started && is_sidecar_of(init_spec, state));
    view.mounted && view.init.iter().all(is_done)
}

fn is_sidecar_of(init_spec: &[Container], state: &ContainerState) -> bool {
    init_spec.iter().any(|spec| is_sidecar(spec) && spec.name == state.name)
}

fn is_ready(state: &ContainerState) -> bool {
    state.is_running() && state.started && state.ready
}

fn condition(
    pod: &Pod,
    known: &[PodCondition],
    type_: &str,
    status: bool,
    why: Option<(&str, Option<String>)>,
    now: Timestamp,
) -> PodCondition {
    let status = if status { "True" } else { "False" };
    let since = known.iter().find(|known| known.type_ == type_ && known.status == status);
    let since = since.and_then(|known| known.last_transition_time.clone()).unwrap_or(Time(now));
    let (reason, message) = why.unzip();
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.map(str::to_owned),
        message: message.flatten(),
        last_transition_time: Some(since),
        last_probe_time: None,
        observed_generation: pod.metadata.generation,
    }
}

/// An init container is ready once it has succeeded; one that goes on beside the others is ready as they are.
fn init_statuses(pod: &Pod, containers: &[Container], states: &[ContainerState]) -> Vec<ContainerStatus> {
    let mut statuses = statuses(pod, containers, states);
    for ((status, container), state) in statuses.iter_mut().zip(containers).zip(states) {
        if !is_sidecar(container) {
            status.ready = state.has_succeeded();
        }
    }
    statuses
}

fn statuses(pod: &Pod, containers: &[Container], states: &[ContainerState]) -> Vec<ContainerStatus> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    containers
        .iter()
        .zip(states)
        .map(|(container, state)| {
            let id = |restarts: i32| format!("process://{uid}/{}/{restarts}", container.name);
            let image = container.image.clone().unwrap_or_default();
            // As a kubelet does, a container that never ran is ended with its pod all the same: without an id.
            let ran = match &state.activity {
                Activity::Waiting { .. } => false,
                Activity::Running { .. } => true,
                Activity::Terminated(exit) => exit.started.is_some(),
            };
            let has_run = state.last.is_some() || ran;
            ContainerStatus {
                name: container.name.clone(),
                image_id: if has_run { format!("process://{image}") } else { String::new() },
                image,
                container_id: has_run.then(|| id(state.restarts)),
                restart_count: state.restarts,
                ready: is_ready(state),
                started: Some(state.is_running() && state.started),
                state: Some(api_state(&state.activity, &id(state.restarts))),
                last_state: Some(match &state.last {
                    None => ApiState::default(),
                    Some(exit) => terminated(exit, &id(state.restarts - 1)),
                }),
                ..ContainerStatus::default()
            }
        })
        .collect()
}

fn api_state(activity: &Activity, id: &str) -> ApiState {
    match activity {
        Activity::Waiting { reason, message } => {
            let waiting = ContainerStateWaiting { reason: Some(reason.clone()), message: message.clone() };
            ApiState { waiting: Some(waiting), ..ApiState::default() }
        }
        Activity::Running { since } => {
            let running = ContainerStateRunning { started_at: Some(Time(*since)) };
            ApiState { running: Some(running), ..ApiState::default() }
        }
        Activity::Terminated(exit) => terminated(exit, id),
    }
}

fn terminated(exit: &Exit, id: &str) -> ApiState {
    let terminated = ContainerStateTerminated {
        container_id: exit.started.map(|_| id.to_owned()),
        exit_code: exit.code,
        signal: exit.signal,
        reason: Some(exit.reason.clone()),
        message: exit.message.clone(),
        started_at: exit.started.map(Time),
        finished_at: Some(Time(exit.finished)),
    };
    ApiState { terminated: Some(terminated), ..ApiState::default() }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
