//! One pod on the node: what is known of it, shared by its task, its containers, the log server and the control server.

mod report;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStatus, Pod, ServiceAccountTokenProjection,
};
use kube::ResourceExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use self::worker::run;
use super::context::{HOST, Node, lock};
use super::events::Events;
use super::sources::Unmet;
use super::state::{Activity, ContainerState, Exit, RestartPolicy};
use super::status::PodView;
use super::token::{self, HeldToken};

/// Grace period of a pod that names none.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// A kubelet gives at least as much, even to a pod that is deleted by force: SIGTERM comes first.
pub(super) const SHORTEST_GRACE: Duration = Duration::from_secs(2);

/// What the watch says of the pod.
#[derive(Debug, Clone)]
pub enum Feed {
    /// The newest version of the object.
    Present(Arc<Pod>),
    /// The object is gone: it was deleted by force.
    Gone(Arc<Pod>),
}

impl Feed {
    fn object(&self) -> &Arc<Pod> {
        match self {
            Self::Present(pod) | Self::Gone(pod) => pod,
        }
    }
}

/// The order to stop all containers; a later one may only be stricter.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// When whatever still runs is killed.
    pub deadline: Instant,
}

/// Returns when the pod is ordered to stop.
pub async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) {
    // An error says that the pod itself is gone, which is no less a reason to stop.
    drop(stop.wait_for(Option::is_some).await);
}

/// An order to kill one container, which may then be started again.
#[derive(Debug, Clone)]
pub struct Kill {
    /// The reason its status is to show, such as `OOMKilled`.
    pub reason: Option<String>,
}

/// The grace period that so many seconds stand for, where they are given.
fn grace(seconds: Option<i64>) -> Option<Duration> {
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map(|seconds| Duration::from_secs(seconds).max(SHORTEST_GRACE))
}

/// A pod on the node.
pub struct PodRuntime {
    pub node: Arc<Node>,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The pod's directory.
    pub dir: PathBuf,
    pub address: Ipv4Addr,
    /// When the node took it.
    pub started: Timestamp,
    pub feed: watch::Receiver<Feed>,
    pub stop: watch::Sender<Option<Stop>>,
    /// Something that the status shows has changed.
    pub changed: watch::Sender<()>,
    state: Mutex<State>,
    events: Events,
}

#[derive(Default)]
struct State {
    mounted: bool,
    init: Vec<ContainerState>,
    main: Vec<ContainerState>,
    verdict: Option<(String, String)>,
    kills: BTreeMap<String, mpsc::Sender<Kill>>,
    logs: BTreeMap<String, watch::Receiver<u64>>,
    tokens: BTreeMap<String, HeldToken>,
    told: BTreeSet<String>,
}

impl PodRuntime {
    /// Takes the pod. Containers that its status shows as running belong to an earlier life of the node and count as dead.
    pub fn new(node: Arc<Node>, address: Ipv4Addr, feed: watch::Receiver<Feed>) -> Self {
        let object = feed.borrow().object().clone();
        let spec = object.spec.clone().unwrap_or_default();
        let status = object.status.clone().unwrap_or_default();
        let uid = object.uid().unwrap_or_default();
        let policy = RestartPolicy::parse(spec.restart_policy.as_deref());
        let now = Timestamp::now();
        let waiting = if spec.init_containers.is_some() { "PodInitializing" } else { "ContainerCreating" };
        let recover =
            |containers: &[Container], known: Option<&Vec<ContainerStatus>>, waiting, policy: RestartPolicy| {
                let known = |name: &str| known.into_iter().flatten().find(|status| status.name == name);
                let one =
                    |container: &Container| recover(&container.name, known(&container.name), waiting, policy, now);
                containers.iter().map(one).collect::<Vec<_>>()
            };
        let init = spec.init_containers.as_deref().unwrap_or_default();
        let state = State {
            init: recover(init, status.init_container_statuses.as_ref(), "PodInitializing", policy.of_init()),
            main: recover(&spec.containers, status.container_statuses.as_ref(), waiting, policy),
            ..State::default()
        };
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        Self {
            dir: node.dir.join("pods").join(&uid),
            events: Events::new(node.client.clone(), node.name.clone(), [&namespace, &name, &uid]),
            namespace,
            name,
            uid,
            address,
            started: status.start_time.map_or(now, |time| time.0),
            feed,
            stop: watch::Sender::new(None),
            changed: watch::Sender::new(()),
            state: Mutex::new(state),
            node,
        }
    }

    /// The newest version of the object.
    pub fn object(&self) -> Arc<Pod> {
        self.feed.borrow().object().clone()
    }

    /// All that decides over the status.
    pub fn view(&self) -> PodView {
        let state = lock(&self.state);
        PodView {
            address: Some(self.address),
            host: HOST,
            started: self.started,
            mounted: state.mounted,
            init: state.init.clone(),
            main: state.main.clone(),
            stopping: self.stop.borrow().is_some(),
            verdict: state.verdict.clone(),
        }
    }

    /// The state of a container.
    pub fn container(&self, name: &str) -> Option<ContainerState> {
        let state = lock(&self.state);
        state.init.iter().chain(&state.main).find(|state| state.name == name).cloned()
    }

    /// Changes the state of a container, and thereby the pod's status.
    pub fn update(&self, name: &str, change: impl FnOnce(&mut ContainerState)) {
        let state = &mut *lock(&self.state);
        if let Some(found) = state.init.iter_mut().chain(&mut state.main).find(|state| state.name == name) {
            change(found);
        }
        self.changed.send_replace(());
    }

    /// The pod has failed as a whole. The first reason stays.
    pub fn fail(&self, reason: &str, message: &str) {
        lock(&self.state).verdict.get_or_insert_with(|| (reason.to_owned(), message.to_owned()));
        self.changed.send_replace(());
    }

    fn set_mounted(&self) {
        lock(&self.state).mounted = true;
        self.changed.send_replace(());
    }

    /// Says, once, what the node cannot do for this pod.
    pub async fn not_supported(&self, note: &str) {
        if lock(&self.state).told.insert(note.to_owned()) {
            self.warn("NotSupported", note).await;
        }
    }

    /// Publishes a warning about the pod. A lost node publishes nothing.
    pub async fn warn(&self, reason: &str, note: &str) {
        if *self.node.online.borrow() {
            self.events.warn(reason, note).await;
        }
    }

    /// How long its containers may take to end when they are asked to.
    pub fn grace(&self) -> Duration {
        let object = self.object();
        let seconds = object.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        grace(seconds).unwrap_or(DEFAULT_GRACE)
    }

    /// Orders all containers to stop; of several orders the one with the earliest deadline counts.
    pub fn order_stop(&self, deadline: Instant) {
        self.stop.send_if_modified(|stop| {
            let stricter = stop.is_none_or(|stop| deadline < stop.deadline);
            if stricter {
                *stop = Some(Stop { deadline });
            }
            stricter
        });
        self.changed.send_replace(());
    }

    /// Where orders to kill the container go while it runs.
    pub fn accept_kills(&self, container: &str) -> mpsc::Receiver<Kill> {
        let (sender, receiver) = mpsc::channel(1);
        lock(&self.state).kills.insert(container.to_owned(), sender);
        receiver
    }

    /// Kills the process of a container; `false` if it does not run.
    pub fn kill(&self, container: &str, reason: Option<String>) -> bool {
        let sender = lock(&self.state).kills.get(container).cloned();
        sender.is_some_and(|sender| sender.try_send(Kill { reason }).is_ok())
    }

    /// Lets the log server follow the log that a container writes at the moment.
    pub fn publish_log(&self, container: &str, size: watch::Receiver<u64>) {
        lock(&self.state).logs.insert(container.to_owned(), size);
    }

    /// The growth of the log that a container writes at the moment.
    pub fn live_log(&self, container: &str) -> Option<watch::Receiver<u64>> {
        lock(&self.state).logs.get(container).cloned()
    }

    /// Directory of a container's logs.
    pub fn log_dir(&self, container: &str) -> PathBuf {
        self.dir.join("logs").join(container)
    }

    /// The token for a projected volume, renewed if it is due.
    pub async fn token(&self, volume: &str, source: &ServiceAccountTokenProjection) -> Result<String, Unmet> {
        let key = format!("{volume}/{}", source.path);
        let held = lock(&self.state).tokens.get(&key).cloned();
        if let Some(token) = held.and_then(HeldToken::good) {
            return Ok(token);
        }
        let new = token::request(&self.node.client, &self.object(), source).await?;
        lock(&self.state).tokens.insert(key, new.clone());
        Ok(new.token)
    }
}

/// The state of a container that an earlier life of the node may have left.
fn recover(
    name: &str,
    known: Option<&ContainerStatus>,
    waiting: &str,
    policy: RestartPolicy,
    now: Timestamp,
) -> ContainerState {
    let fresh = ContainerState::waiting(name, waiting);
    let Some(known) = known else { return fresh };
    let last = known.last_state.as_ref().and_then(|state| exit(state, now));
    let restarts = known.restart_count;
    match known.state.as_ref().and_then(|state| exit(state, now)) {
        None => ContainerState { last, restarts, ..fresh },
        Some(exit) if policy.restarts(exit.code) => {
            ContainerState { restarts: restarts + 1, last: Some(exit), ..fresh }
        }
        Some(exit) => {
            let ready = exit.code == 0 && known.ready;
            ContainerState { restarts, activity: Activity::Terminated(exit), finished: true, ready, ..fresh }
        }
    }
}

/// How a container ended, as its status tells; one that is said to run was not seen to end.
fn exit(state: &ApiState, now: Timestamp) -> Option<Exit> {
    if let Some(running) = &state.running {
        return Some(Exit::unseen(running.started_at.as_ref().map(|time| time.0), now));
    }
    state.terminated.as_ref().map(|terminated| Exit {
        code: terminated.exit_code,
        signal: terminated.signal,
        reason: terminated.reason.clone().unwrap_or_default(),
        message: terminated.message.clone(),
        started: terminated.started_at.as_ref().map(|time| time.0),
        finished: terminated.finished_at.as_ref().map_or(now, |time| time.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn recovered(state: &serde_json::Value, policy: RestartPolicy) -> ContainerState {
        let known = json!({"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 2, "state": state});
        let known: ContainerStatus = from_value(known).unwrap();
        recover("a", Some(&known), "ContainerCreating", policy, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_ran_when_the_node_went_down_is_dead_and_restarted_by_policy() {
        let restarted = recovered(&json!({"running": {}}), RestartPolicy::Always);
        assert_eq!(restarted.restarts, 3);
        assert_eq!(restarted.last.map(|exit| (exit.code, exit.reason)), Some((255, "Unknown".to_owned())));

        let dead = recovered(&json!({"running": {}}), RestartPolicy::Never);
        assert_eq!(dead.end().map(|exit| exit.code), Some(255));

        let done = recovered(&json!({"terminated": {"exitCode": 0}}), RestartPolicy::OnFailure);
        assert_eq!(done.end().map(|exit| exit.code), Some(0));

        let fresh = recovered(&json!({"waiting": {}}), RestartPolicy::Never);
        assert!(matches!(fresh.activity, Activity::Waiting { .. }));
    }
}
