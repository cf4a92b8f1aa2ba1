//! Whether a container of the new version starts. Watches tell of pods that exist for a moment only as well, which no look
//! at what is there now does: hooks are often deleted as soon as they have ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{join_all, ready};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::core::helm::hooks::{HelmAction, Hook};
use crate::core::plan::Plan;
use crate::core::rollout::started::{Versions, is_new, is_started, runs};
use crate::core::rollout::workload::PodFacts;
use crate::runner::cluster::highest_version;
use crate::runner::cluster::lease::Held;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::rollout::observer::{Observer, PodNews};

/// How long the first lists may take, together.
const FIRST_LISTS: Duration = Duration::from_secs(30);
/// Pods are listed in pages of this size: a namespace may hold thousands of workspaces.
const PAGE: u32 = 500;

/// Records in the Job, and for those who come later in the Lease, that a pod of the new version may have started.
pub async fn started_now(ctx: &Context, lease: &Held, plan: &Plan) {
    if !ctx.reporter.has_started() {
        ctx.reporter.started();
        highest_version::raise(lease, plan.coder_version()).await.unwrap_or_else(|also| tracing::warn!("{also}"));
    }
}

/// What the watches have told so far.
#[derive(Clone)]
struct StartsSeen {
    versions: Arc<Versions>,
    /// Cancelled once a container of the new version was seen to have started.
    started: CancellationToken,
    /// A watch was interrupted: what happened meanwhile is unknown.
    broken: Arc<AtomicBool>,
    changed: Arc<Notify>,
}

impl StartsSeen {
    fn note(&self, news: &PodNews) {
        match news {
            PodNews::Pod(pod) if is_started(pod, &self.versions) => self.started.cancel(),
            PodNews::Pod(_) | PodNews::Listed => {}
            PodNews::Interrupted => self.broken.store(true, Ordering::Release),
        }
        self.changed.notify_waiters();
    }
}

/// Watches the pods of a plan's workloads and hooks until it is dropped.
pub struct Starts {
    /// Hooks with such an image that run in the change.
    hooks: Vec<Hook>,
    noted: StartsSeen,
    pods: Vec<Store<Pod>>,
    tasks: JoinSet<()>,
}

impl Starts {
    /// Begins to watch, and returns when what is there has been seen. `observer` watches the workloads of the plan.
    pub async fn watch(ctx: &Context, plan: &Plan, old_images: &BTreeSet<String>, observer: &Observer) -> Self {
        let is_new = |image: &&String| !old_images.contains(*image);
        let hooks =
            plan.hooks.iter().filter(|hook| hook.runs_in(HelmAction::Change) && hook.images.iter().any(|i| is_new(&i)));
        let hooks: Vec<Hook> = hooks.cloned().collect();
        let noted = StartsSeen {
            versions: Arc::new(Versions::between(old_images, &plan.images, &plan.containers)),
            started: CancellationToken::new(),
            broken: Arc::default(),
            changed: Arc::default(),
        };
        let mut starts = Self { hooks, noted, pods: observer.pods().collect(), tasks: JoinSet::new() };
        starts.hear(observer.news());
        let mut listed = vec![];
        let selections = starts.hooks.iter().filter_map(selection).collect::<Vec<_>>();
        for selection in selections {
            listed.push(starts.follow(ctx.api(), selection));
        }
        let all = timeout(FIRST_LISTS, join_all(listed.iter().map(Store::wait_until_ready)));
        if !observer.ready().await || all.await.is_err() {
            tracing::warn!("the pods of the release cannot be watched: nobody knows whether one has started");
            starts.noted.broken.store(true, Ordering::Release);
        }
        starts
    }

    /// Takes over what an observer tells.
    fn hear(&mut self, mut news: broadcast::Receiver<PodNews>) {
        let noted = self.noted.clone();
        self.tasks.spawn(async move {
            loop {
                match news.recv().await {
                    Ok(news) => noted.note(&news),
                    Err(RecvError::Lagged(_)) => noted.note(&PodNews::Interrupted),
                    Err(RecvError::Closed) => break,
                }
            }
        });
    }

    fn follow(&mut self, pods: Api<Pod>, selection: watcher::Config) -> Store<Pod> {
        let (store, writer) = reflector::store();
        self.pods.push(store.clone());
        let noted = self.noted.clone();
        let events = reflector::reflector(writer, watcher(pods, selection).default_backoff());
        self.tasks.spawn(async move {
            // The first event says that the list begins.
            let mut events = std::pin::pin!(events.skip_while(|event| ready(matches!(event, Ok(Event::Init)))));
            while let Some(event) = events.next().await {
                noted.note(&(&event).into());
            }
        });
        store
    }

    /// Cancelled once a container of the new version was seen to have started.
    pub fn seen(&self) -> &CancellationToken {
        &self.noted.started
    }

    /// Whether one was seen, or is seen now.
    pub fn have_begun(&self) -> bool {
        let mut pods = self.pods.iter().flat_map(Store::state);
        if pods.any(|pod| is_started(&PodFacts::from(pod.as_ref()), &self.noted.versions)) {
            self.noted.started.cancel();
        }
        self.noted.started.is_cancelled()
    }

    /// Whether a pod of the new version may have started since this was begun: one was seen, or there are hooks with new
    /// images, helm was run, and nothing proves that none of their pods started.
    pub async fn may_have_been(&self, ctx: &Context) -> Result<bool, Error> {
        let watched = |hook: &Hook| matches!(hook.object.kind.as_str(), "Job" | "Pod");
        let unproven = self.noted.broken.load(Ordering::Acquire) || !self.hooks.iter().all(watched);
        if self.have_begun() || (unproven && !self.hooks.is_empty()) {
            return Ok(true);
        }
        self.anywhere(ctx).await
    }

    /// Whether a pod of the namespace runs, or has run, an image that only the new version has: one of a `CronJob`, one
    /// without a workload, or one of a workload of a custom kind.
    pub async fn anywhere(&self, ctx: &Context) -> Result<bool, Error> {
        if !self.noted.versions.differ() {
            return Ok(false);
        }
        let pods: Api<Pod> = ctx.api();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = request("list the pods of the namespace", || pods.list(&page)).await?;
            if list.items.iter().map(PodFacts::from).any(|pod| runs(&pod, &self.noted.versions)) {
                return Ok(true);
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(false),
            }
        }
    }

    /// Waits until no pod of the new version is left that could start. The name of one that stays longer.
    pub async fn none_left(&self, patience: Duration) -> Option<String> {
        self.none(patience, |_| true).await
    }

    /// Waits until no pod of the new version is on its way out. One that was told to end goes on with what it has begun, and how
    /// far it came is known only when it is gone. The name of one that stays longer.
    pub async fn none_leaving(&self, patience: Duration) -> Option<String> {
        self.none(patience, |pod| pod.metadata.deletion_timestamp.is_some()).await
    }

    /// Waits until there is no such pod of the new version. The name of one that stays longer.
    async fn none(&self, patience: Duration, such: impl Fn(&Pod) -> bool) -> Option<String> {
        let gone = async {
            loop {
                let changed = self.noted.changed.notified();
                if self.left(&such).is_none() {
                    break;
                }
                changed.await;
            }
        };
        let _ = timeout(patience, gone).await;
        self.left(&such)
    }

    /// Such a pod of the new version that exists and has not ended; none if there is none.
    fn left(&self, such: impl Fn(&Pod) -> bool) -> Option<String> {
        let mut pods = self.pods.iter().flat_map(Store::state);
        let ended = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        let found =
            pods.find(|pod| !ended(pod) && such(pod) && is_new(&PodFacts::from(pod.as_ref()), &self.noted.versions));
        found.map(|pod| pod.name_any())
    }
}

/// The pods of a hook; none if its kind makes them in a way that is not known.
fn selection(hook: &Hook) -> Option<watcher::Config> {
    let all = watcher::Config::default();
    match hook.object.kind.as_str() {
        "Job" => Some(all.labels(&format!("batch.kubernetes.io/job-name={}", hook.object.name))),
        "Pod" => Some(all.fields(&format!("metadata.name={}", hook.object.name))),
        _ => None,
    }
}
