//! Listens to the new servers of Coder while they start: what they do, and why they do not start.
//!
//! A pod's log is read when its container was started again or got into trouble, and every ten seconds as long as it is not
//! ready. A pod that is ready within its first seconds is never asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::{diagnosis, pod_log};
use crate::core::rollout::endpoint::Question;
use crate::core::rollout::image::may_be;
use crate::core::rollout::migration;
use crate::core::rollout::migration::StartupState;
use crate::core::rollout::refusal::StartRefusal;
use crate::core::rollout::verify::{PodAnswer, WorkloadPods};
use crate::core::rollout::workload::PodFacts;
use crate::runner::context::Context;

/// How long a new pod has time to become ready before anybody listens.
const FIRST: Duration = Duration::from_secs(3);
/// How often a pod that is not ready is listened to.
const EVERY: Duration = Duration::from_secs(10);
/// How many pods are listened to at once: more would say the same.
const PODS: usize = 3;
/// How often a refusal must be read, each time from another run of a container, before it is believed to stay.
const RUNS: usize = 2;

/// What is known of the pods that start.
#[derive(Default)]
pub struct StartupLogs {
    /// UIDs of the pods that were there before.
    old: BTreeSet<String>,
    pods: BTreeMap<String, PodLog>,
    /// The runs of containers that refused for good, as UID and number.
    refused: BTreeSet<(String, i32)>,
    verdict: Option<StartFailure>,
}

/// What is known of one pod.
struct PodLog {
    /// Its state when it was listened to last: how often it was started again, and its trouble.
    state: (i32, Option<String>),
    next: Instant,
    log: Option<String>,
    /// A probe has killed it in the middle of a migration.
    killed: bool,
}

/// Why a pod of the new version does not start, whatever is waited for.
#[derive(Clone, Debug)]
pub struct StartFailure {
    /// Name of the pod.
    pub pod: String,
    /// Why.
    pub refusal: StartRefusal,
    /// The end of its log.
    pub log: Option<String>,
}

impl StartupLogs {
    /// Listens to the pods that are not among these.
    pub fn ignoring(seen: &[WorkloadPods]) -> Self {
        let pods = seen.iter().flat_map(|observed| &observed.pods);
        Self { old: pods.map(|asked| asked.pod.uid.clone()).collect(), ..Self::default() }
    }

    /// Returns when somebody is to be listened to again; never, if nobody starts.
    pub async fn due(&self) {
        match self.pods.values().map(|entry| entry.next).min() {
            Some(next) => sleep_until(next).await,
            None => std::future::pending().await,
        }
    }

    /// Listens to whoever starts and has something to say.
    pub async fn listen(&mut self, ctx: &Context, seen: &[WorkloadPods]) {
        let starting: Vec<PodFacts> = self.starting(seen).take(PODS).cloned().collect();
        self.pods.retain(|uid, _| starting.iter().any(|pod| pod.uid == *uid));
        for pod in starting {
            let (now, state) = (Instant::now(), (pod.restarts(), pod.trouble()));
            let entry = self.pods.entry(pod.uid.clone()).or_insert_with(|| PodLog {
                state: (0, None),
                next: now + FIRST,
                log: None,
                killed: false,
            });
            if entry.next > now && entry.state == state {
                continue;
            }
            (entry.state, entry.next) = (state, now + EVERY);
            entry.log = diagnosis::of_pod(ctx, &pod).await;
            let Some(log) = &entry.log else { continue };
            entry.killed = entry.killed || pod_log::killed(ctx, &pod, log).await;
            if let Some(StartupState::Refuses(refusal)) = migration::said(log).filter(|_| ended(&pod))
                && refusal.is_final()
            {
                self.refused.insert((pod.uid.clone(), pod.restarts()));
                if self.refused.len() >= RUNS {
                    self.verdict = Some(StartFailure { pod: pod.name.clone(), refusal, log: entry.log.clone() });
                }
            }
        }
    }

    /// Servers of the new template that are not ready, but whose container was started.
    fn starting<'a>(&'a self, seen: &'a [WorkloadPods]) -> impl Iterator<Item = &'a PodFacts> {
        let servers = seen.iter().flat_map(|observed| observed.pods.iter().map(move |asked| (observed, asked)));
        servers.filter(|(observed, asked)| self.is_starting(observed, asked)).map(|(_, asked)| &asked.pod)
    }

    fn is_starting(&self, observed: &WorkloadPods, PodAnswer { pod, question, .. }: &PodAnswer) -> bool {
        let Some(workload) = observed.workload.as_ref().filter(|workload| workload.observed) else { return false };
        let runs = |(name, wanted): &(String, String)| {
            let named = |(found, image): &(String, String)| found == name && may_be(wanted, image);
            pod.images.iter().any(named)
        };
        let new = !self.old.contains(&pod.uid) && workload.images.iter().all(runs);
        let begun = pod.containers.iter().any(|container| container.started);
        new && begun && !pod.ready && !pod.leaving && question.is_some_and(Question::tells_version)
    }

    /// What the first of those who start does, as a line for people.
    pub fn line(&self, seen: &[WorkloadPods], now: Timestamp) -> Option<String> {
        self.starting(seen).find_map(|pod| {
            let entry = self.pods.get(&pod.uid);
            let does = match entry {
                Some(entry) if entry.killed => Some(StartRefusal::killed().message),
                entry => migration::activity(pod, entry.and_then(|entry| entry.log.as_deref()), now),
            };
            Some(format!("Pod/{} {}", pod.name, does?))
        })
    }

    /// Why the new version will not start, however long it is waited for.
    pub fn verdict(&self) -> Option<&StartFailure> {
        self.verdict.as_ref()
    }
}

/// Whether its container has ended after what its log says.
fn ended(pod: &PodFacts) -> bool {
    pod.containers.iter().any(|container| container.waiting.is_some() && container.last_exit.is_some())
}
