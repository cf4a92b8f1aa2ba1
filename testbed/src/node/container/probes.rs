//! Startup, readiness and liveness of a running container.

use std::fmt::Display;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::time::{Instant, sleep, timeout};

use super::action::Target;
use crate::node::pod::PodRuntime;

/// In its first moments a process does not listen yet. Until its first success, within this time, a failure of a startup
/// or readiness probe is not counted and asked again soon, instead of a whole period later.
const FIRST_MOMENTS: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Why a container is to be killed.
pub(super) struct Complaint {
    /// Says which probe failed, and how.
    pub(super) message: String,
    /// How long the container may take to end, if the probe says so.
    pub(super) grace: Option<Duration>,
}

/// A probe's numbers with the defaults of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rhythm {
    initial_delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: i32,
    failures: i32,
}

impl Rhythm {
    fn of(probe: &Probe) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
        };
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: probe.success_threshold.unwrap_or(1),
            failures: probe.failure_threshold.unwrap_or(3),
        }
    }
}

/// Keeps the container's `started` and `ready` up to date, and returns when it must be killed.
pub(super) async fn watch_over(pod: &PodRuntime, container: &Container, target: &Target) -> Complaint {
    let asked = |probe: &Option<Probe>| probe.clone().filter(|_| target.can_be_asked());
    let watch = Watch { pod, container, target };
    if let Some(startup) = asked(&container.startup_probe)
        && let Err(complaint) = watch.until_started(&startup).await
    {
        return complaint;
    }
    let readiness = asked(&container.readiness_probe);
    pod.update(&container.name, |state| {
        state.started = true;
        state.ready = readiness.is_none();
    });
    tokio::select! {
        never = watch.readiness(readiness) => match never {},
        complaint = watch.liveness(asked(&container.liveness_probe)) => complaint,
    }
}

struct Watch<'a> {
    pod: &'a PodRuntime,
    container: &'a Container,
    target: &'a Target,
}

impl Watch<'_> {
    /// Asks the startup probe until it succeeds, or has failed too often.
    async fn until_started(&self, probe: &Probe) -> Result<(), Complaint> {
        let rhythm = Rhythm::of(probe);
        sleep(rhythm.initial_delay).await;
        let began = Instant::now();
        let mut failures = 0;
        loop {
            match self.ask(probe, rhythm).await {
                Ok(()) => return Ok(()),
                Err(_) if began.elapsed() < FIRST_MOMENTS => sleep(ASK_AGAIN).await,
                Err(message) => {
                    failures += 1;
                    self.unhealthy("Startup", &message).await;
                    if failures >= rhythm.failures {
                        return Err(complaint("startup", probe));
                    }
                    sleep(rhythm.period).await;
                }
            }
        }
    }

    /// Asks the readiness probe as long as the container runs.
    async fn readiness(&self, probe: Option<Probe>) -> std::convert::Infallible {
        let Some(probe) = probe else { return std::future::pending().await };
        let rhythm = Rhythm::of(&probe);
        sleep(rhythm.initial_delay).await;
        let began = Instant::now();
        let (mut successes, mut failures) = (0, 0);
        let mut ready = None;
        loop {
            match self.ask(&probe, rhythm).await {
                Ok(()) => {
                    failures = 0;
                    successes += 1;
                    if successes >= rhythm.successes && ready != Some(true) {
                        ready = Some(true);
                        self.pod.update(&self.container.name, |state| state.ready = true);
                    }
                }
                Err(_) if ready.is_none() && began.elapsed() < FIRST_MOMENTS => {
                    sleep(ASK_AGAIN).await;
                    continue;
                }
                Err(message) => {
                    successes = 0;
                    failures += 1;
                    self.unhealthy("Readiness", &message).await;
                    if failures >= rhythm.failures && ready != Some(false) {
                        ready = Some(false);
                        self.pod.update(&self.container.name, |state| state.ready = false);
                    }
                }
            }
            sleep(rhythm.period).await;
        }
    }

    /// Asks the liveness probe until it has failed too often.
    async fn liveness(&self, probe: Option<Probe>) -> Complaint {
        let Some(probe) = probe else { return std::future::pending().await };
        let rhythm = Rhythm::of(&probe);
        sleep(rhythm.initial_delay).await;
        let mut failures = 0;
        loop {
            match self.ask(&probe, rhythm).await {
                Ok(()) => failures = 0,
                Err(message) => {
                    failures += 1;
                    self.unhealthy("Liveness", &message).await;
                    if failures >= rhythm.failures {
                        return complaint("liveness", &probe);
                    }
                }
            }
            sleep(rhythm.period).await;
        }
    }

    async fn ask(&self, probe: &Probe, rhythm: Rhythm) -> Result<(), String> {
        let too_late = |_| Err(format!("no answer within {:?}", rhythm.timeout));
        timeout(rhythm.timeout, self.target.ask(probe)).await.unwrap_or_else(too_late)
    }

    async fn unhealthy(&self, which: &str, message: &impl Display) {
        self.pod.warn("Unhealthy", &format!("{which} probe failed: {message}")).await;
    }
}

fn complaint(which: &str, probe: &Probe) -> Complaint {
    let grace = probe.termination_grace_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Complaint { message: format!("failed {which} probe"), grace: grace.map(Duration::from_secs) }
}
