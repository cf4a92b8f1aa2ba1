//! One container: started, watched over, and started again as its pod's policy says.

mod action;
mod launch;
mod message;
mod probes;
mod process;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Lifecycle};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use self::action::Target;
use self::launch::NotStarted;
use self::process::{Process, ProcessEnd};
use super::context::Node;
use super::pod::{Kill, PodRuntime, Stop, stopped};
use super::state::{Activity, ContainerState, Exit, RestartPolicy};
use super::volumes::Volumes;
use crate::process::Signal;

/// What a container is in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that goes on beside the others.
    Sidecar,
    /// An ordinary one.
    Main,
}

/// The task that runs one container until it has ended for good.
pub(super) struct ContainerTask {
    pod: Arc<PodRuntime>,
    container: Container,
    policy: RestartPolicy,
    role: Role,
    volumes: Arc<Volumes>,
    stop: watch::Receiver<Option<Stop>>,
}

/// A container that was started.
struct Run {
    process: Process,
    target: Target,
    since: Timestamp,
    began: Instant,
}

impl ContainerTask {
    /// The task of `container` in `pod`, which ends when `stop` says so.
    pub(super) fn new(
        pod: &Arc<PodRuntime>,
        container: Container,
        role: Role,
        volumes: &Arc<Volumes>,
        stop: watch::Receiver<Option<Stop>>,
    ) -> Self {
        let object = pod.object();
        let policy = RestartPolicy::parse(object.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()));
        let policy = match role {
            Role::Init => policy.of_init(),
            Role::Sidecar => RestartPolicy::Always,
            Role::Main => policy,
        };
        Self { pod: pod.clone(), container, policy, role, volumes: volumes.clone(), stop }
    }

    /// Runs the container until it has ended for good or the pod is stopped.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        let mut unmet = 0;
        loop {
            let state = self.state();
            if state.finished {
                return;
            }
            if self.stop.borrow().is_some() {
                self.update(ContainerState::end_unstarted);
                return;
            }
            let mut stop = self.stop.clone();
            let started = tokio::select! {
                started = self.start(state.restarts) => started,
                () = stopped(&mut stop) => continue,
            };
            match started {
                Err(reason) => {
                    unmet += 1;
                    self.report_not_started(&reason, unmet == 1).await;
                    self.pause(reason.back_off(self.node().backoff).pause(unmet)).await;
                }
                Ok(run) => {
                    unmet = 0;
                    let began = run.began;
                    let exit = self.attend(run).await;
                    if self.stop.borrow().is_some() || !self.policy.restarts(exit.code) {
                        self.end(exit);
                        return;
                    }
                    failures = if self.node().backoff.forgives(began.elapsed()) { 1 } else { failures + 1 };
                    self.back_off(exit, failures).await;
                }
            }
        }
    }

    /// Makes everything ready and starts the process.
    async fn start(&self, restarts: i32) -> Result<Run, NotStarted> {
        let launch = launch::prepare(&self.pod, &self.container, &self.volumes, restarts).await?;
        sleep(launch.start_delay).await;
        let process = Process::start(&launch, &self.pod, &self.container.name, restarts).await?;
        let since = Timestamp::now();
        let target = Target::new(&self.pod, &self.container, &launch);
        Ok(Run { process, target, since, began: Instant::now() })
    }

    /// Watches over the running process until it has ended.
    async fn attend(&mut self, run: Run) -> Exit {
        let Run { mut process, target, since, .. } = run;
        let mut kills = self.pod.accept_kills(&self.container.name);
        self.update(|state| {
            state.activity = Activity::Running { since };
            state.ready = false;
            state.started = false;
        });
        let mut stop = self.stop.clone();
        let mut reason = None;
        let end = tokio::select! {
            end = process.wait() => end,
            complaint = probes::watch_over(&self.pod, &self.container, &target) => {
                self.pod.warn("Killing", &format!("Container {} {}, will be restarted", self.container.name, complaint.message)).await;
                let grace = complaint.grace.unwrap_or_else(|| self.pod.grace());
                self.stop_process(&mut process, Instant::now() + grace).await
            }
            Some(Kill { reason: wanted }) = kills.recv() => {
                reason = wanted;
                process.kill();
                process.wait().await
            }
            () = stopped(&mut stop) => {
                let deadline = self.stop.borrow().map_or_else(Instant::now, |stop| stop.deadline);
                self.stop_process(&mut process, deadline).await
            }
        };
        process.clean_up().await;
        let ProcessEnd { code, signal } = end;
        let reason = reason.unwrap_or_else(|| if code == 0 { "Completed" } else { "Error" }.to_owned());
        let message = message::read(&self.container, &process, code);
        Exit { code, signal, reason, message, started: Some(since), finished: Timestamp::now() }
    }

    /// Sleeps as long as the `preStop` hook says, asks the process to end, and kills it at the deadline, or at an earlier one that comes in
    /// meanwhile.
    async fn stop_process(&self, process: &mut Process, deadline: Instant) -> ProcessEnd {
        let hook = self.container.lifecycle.as_ref().and_then(|Lifecycle { pre_stop, .. }| pre_stop.as_ref());
        let pause = hook.and_then(|hook| u64::try_from(hook.sleep.as_ref()?.seconds).ok()).unwrap_or_default();
        let polite = async {
            sleep(Duration::from_secs(pause)).await;
            process.signal(Signal::TERM);
            process.wait().await
        };
        let end = tokio::select! {
            end = polite => Some(end),
            () = self.killing_time(deadline) => None,
        };
        if let Some(end) = end {
            return end;
        }
        process.kill();
        process.wait().await
    }

    /// Returns at the deadline, or at that of a stop order if it is earlier.
    async fn killing_time(&self, deadline: Instant) {
        let mut stop = self.stop.clone();
        loop {
            let ordered = stop.borrow_and_update().map(|stop| stop.deadline);
            tokio::select! {
                () = sleep_until(ordered.map_or(deadline, |ordered| ordered.min(deadline))) => return,
                // An error cannot be: the sender lives as long as the pod.
                _ = stop.changed() => {}
            }
        }
    }

    fn end(&self, exit: Exit) {
        let ready = self.role == Role::Init && exit.code == 0;
        self.update(|state| {
            state.activity = Activity::Terminated(exit);
            state.finished = true;
            state.started = false;
            state.ready = ready;
        });
    }

    /// Waits for the next start.
    async fn back_off(&mut self, exit: Exit, failures: u32) {
        let delay = self.node().backoff.delay(failures);
        let message = format!(
            "back-off {delay:?} restarting failed container={} pod={}_{}({})",
            self.container.name, self.pod.name, self.pod.namespace, self.pod.uid
        );
        if !delay.is_zero() {
            let note = format!("Back-off restarting failed container {} in pod {}", self.container.name, self.pod.name);
            self.pod.warn("BackOff", &note).await;
        }
        self.update(|state| {
            state.last = Some(exit);
            state.restarts += 1;
            state.ready = false;
            state.started = false;
            state.activity = Activity::Waiting { reason: "CrashLoopBackOff".to_owned(), message: Some(message) };
        });
        self.pause(delay).await;
    }

    async fn report_not_started(&self, reason: &NotStarted, first: bool) {
        let (word, message) = (reason.reason(first), reason.message());
        self.pod.warn("Failed", &reason.to_string()).await;
        self.update(|state| state.activity = Activity::Waiting { reason: word.to_owned(), message: Some(message) });
    }

    /// Waits, but not if the pod is stopped.
    async fn pause(&mut self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            () = stopped(&mut self.stop) => {}
        }
    }

    fn state(&self) -> ContainerState {
        let unknown = || ContainerState::waiting(&self.container.name, "ContainerCreating");
        self.pod.container(&self.container.name).unwrap_or_else(unknown)
    }

    fn update(&self, change: impl FnOnce(&mut ContainerState)) {
        self.pod.update(&self.container.name, change);
    }

    fn node(&self) -> &Node {
        &self.pod.node
    }
}
