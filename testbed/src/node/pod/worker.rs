//! The life of one pod, from the moment the node takes it until its object is gone.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::report::{keep_reporting, remove, report};
use super::{Feed, PodRuntime, SHORTEST_GRACE, Stop, grace, stopped};
use crate::node::backoff;
use crate::node::container::{ContainerTask, Role};
use crate::node::state::ContainerState;
use crate::node::status::is_sidecar;
use crate::node::volumes::{self, Volumes};

/// How often volumes are brought up to date with the objects they are made from, tokens included.
const REFRESH_EVERY: Duration = Duration::from_secs(60);

/// Runs the pod, reports its status, and removes it when it was deleted.
pub async fn run(pod: Arc<PodRuntime>) {
    let over = pod.object().status.as_ref().and_then(|status| status.phase.as_deref()).is_some_and(is_over);
    if !over {
        let mut sent = None;
        tokio::select! {
            () = live(&pod) => {}
            () = take_orders(&pod) => {}
            () = keep_reporting(&pod, &mut sent) => {}
        }
        report(&pod, &mut sent).await;
    }
    if deleted(&pod).await {
        remove(&pod).await;
    }
    if let Err(error) = tokio::fs::remove_dir_all(&pod.dir).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(pod = pod.name, %error, "the pod's directory is not removed");
    }
}

fn is_over(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// Volumes, init containers, containers; returns when everything has ended for good.
async fn live(pod: &Arc<PodRuntime>) {
    let Some(volumes) = mount(pod).await else { return };
    let volumes = Arc::new(volumes);
    tokio::select! {
        () = refresh(pod) => {}
        () = run_containers(pod, &volumes) => {}
    }
}

async fn run_containers(pod: &Arc<PodRuntime>, volumes: &Arc<Volumes>) {
    let spec = pod.object().spec.clone().unwrap_or_default();
    let task =
        |container: &Container, role| ContainerTask::new(pod, container.clone(), role, volumes, pod.stop.subscribe());
    let mut sidecars = Vec::new();
    for container in spec.init_containers.iter().flatten() {
        if is_sidecar(container) {
            let (order, stop) = watch::channel(None);
            let task = ContainerTask::new(pod, container.clone(), Role::Sidecar, volumes, stop);
            sidecars.push((order, AbortOnDropHandle::new(tokio::spawn(task.run()))));
            if !started(pod, &container.name).await {
                break;
            }
        } else {
            Box::pin(task(container, Role::Init).run()).await;
            if !pod.container(&container.name).is_some_and(|state| state.has_succeeded()) {
                break;
            }
        }
    }
    let mut containers = JoinSet::new();
    if init_is_done(pod) {
        for container in &spec.containers {
            containers.spawn(task(container, Role::Main).run());
        }
    } else if pod.stop.borrow().is_some() {
        end_unstarted(pod);
    }
    while containers.join_next().await.is_some() {}
    // As the kubelet has it (kuberuntime_termination_order.go): sidecars end after the containers, the last one first, and
    // share their grace period.
    pod.order_stop(Instant::now() + pod.grace());
    for (order, task) in sidecars.into_iter().rev() {
        tokio::select! {
            ended = task => if let Err(error) = ended {
                tracing::error!(%error, "the task of a sidecar broke down");
            },
            never = pass_on(pod, &order) => match never {},
        }
    }
}

/// Gives the pod's order to stop, and each stricter one, to a sidecar.
async fn pass_on(pod: &PodRuntime, order: &watch::Sender<Option<Stop>>) -> Infallible {
    let mut stop = pod.stop.subscribe();
    loop {
        order.send_replace(*stop.borrow_and_update());
        // An error cannot be: the sender lives as long as the pod.
        let _ = stop.changed().await;
    }
}

fn init_is_done(pod: &PodRuntime) -> bool {
    pod.view().init.iter().all(|state| state.has_succeeded() || state.started)
}

/// Makes the volumes, again and again until all are there; `None` if the pod is stopped before.
async fn mount(pod: &Arc<PodRuntime>) -> Option<Volumes> {
    let mut stop = pod.stop.subscribe();
    let mut failures = 0;
    loop {
        let attempt = tokio::select! {
            attempt = volumes::materialise(pod) => attempt,
            () = stopped(&mut stop) => {
                end_unstarted(pod);
                return None;
            }
        };
        match attempt {
            Ok(volumes) => {
                pod.set_mounted();
                return Some(volumes);
            }
            Err(unmet) => pod.warn("FailedMount", &unmet.message).await,
        }
        failures += 1;
        // Nothing but an order to stop cuts the pause short. A change of the pod does not: its volumes cannot be changed, and
        // the status that the node itself reports is such a change.
        tokio::select! {
            () = sleep(backoff::OBJECTS.pause(failures)) => {}
            () = stopped(&mut stop) => {}
        }
    }
}

/// No container was started: they end as a kubelet reports containers it knows nothing of.
fn end_unstarted(pod: &PodRuntime) {
    let object = pod.object();
    for container in object.spec.iter().flat_map(|spec| &spec.containers) {
        pod.update(&container.name, ContainerState::end_unstarted);
    }
}

/// Keeps volumes up to date. What cannot be read now keeps its last content and is tried again later.
async fn refresh(pod: &PodRuntime) {
    loop {
        sleep(REFRESH_EVERY).await;
        if let Err(unmet) = volumes::materialise(pod).await {
            tracing::debug!(pod = pod.name, message = unmet.message, "volumes not refreshed");
        }
    }
}

/// Waits until a sidecar has started; `false` if the pod is stopped before.
async fn started(pod: &PodRuntime, container: &str) -> bool {
    let mut stop = pod.stop.subscribe();
    let mut changes = pod.changed.subscribe();
    loop {
        if pod.container(container).is_some_and(|state| state.started) {
            return true;
        }
        tokio::select! {
            // An error cannot be: the sender lives as long as the pod.
            _ = changes.changed() => {}
            () = stopped(&mut stop) => return false,
        }
    }
}

/// Turns deletion and deadline of the pod into orders to stop. Never ends.
async fn take_orders(pod: &PodRuntime) {
    let mut feed = pod.feed.clone();
    loop {
        let now = Instant::now();
        let object = match feed.borrow_and_update().clone() {
            Feed::Gone(object) => {
                pod.order_stop(now + SHORTEST_GRACE);
                object
            }
            Feed::Present(object) => object,
        };
        if object.metadata.deletion_timestamp.is_some() {
            let asked = grace(object.metadata.deletion_grace_period_seconds);
            pod.order_stop(now + asked.unwrap_or_else(|| pod.grace()));
        }
        let limit = object.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
        let deadline = limit.and_then(|seconds| u64::try_from(seconds).ok()).map(|seconds| {
            let elapsed = Duration::try_from(Timestamp::now().duration_since(pod.started)).unwrap_or_default();
            now + Duration::from_secs(seconds).saturating_sub(elapsed)
        });
        let stopping = pod.stop.borrow().is_some();
        tokio::select! {
            changed = feed.changed() => if changed.is_err() { return },
            () = sleep_until(deadline.unwrap_or(now)), if deadline.is_some() && !stopping => {
                pod.fail("DeadlineExceeded", "Pod was active on the node longer than the specified deadline");
                pod.order_stop(Instant::now() + pod.grace());
            }
        }
    }
}

/// Waits until the pod is deleted: `true` if its object is still there and waits for the node.
async fn deleted(pod: &PodRuntime) -> bool {
    let mut feed = pod.feed.clone();
    let is_deleted = |feed: &Feed| match feed {
        Feed::Gone(_) => true,
        Feed::Present(object) => object.metadata.deletion_timestamp.is_some(),
    };
    // When the node ends, the watch does too; the pod stays as it is.
    feed.wait_for(is_deleted).await.is_ok_and(|feed| matches!(*feed, Feed::Present(_)))
}
