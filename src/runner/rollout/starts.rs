//! Whether a container of the new version starts. Watches tell of pods that exist for a moment only as well, which no look
//! at what is there now does: hooks are often deleted as soon as they have ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::core::helm::hooks::{HelmAction, Hook};
use crate::core::plan::Plan;
use crate::core::rollout::started::{Versions, is_new, is_started, runs};
use crate::core::rollout::workload::PodFacts;
use crate::runner::cluster::highest_version;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// How long the first lists may take, together.
const FIRST_LISTS: Duration = Duration::from_secs(30);
/// Pods are listed in pages of this size: a namespace may hold thousands of workspaces.
const PAGE: u32 = 500;

/// Records in the Job, and for those who come later in the Lease, that a pod of the new version may have started.
pub async fn started_now(ctx: &Context, plan: &Plan) {
    if !ctx.reporter.has_started() {
        ctx.reporter.started();
        highest_version::raise(ctx, &plan.release, plan.coder_version())
            .await
            .unwrap_or_else(|also| tracing::warn!("{also}"));
    }
}

/// Watches the pods of a plan's workloads and hooks until it is dropped.
pub struct Starts {
    versions: Arc<Versions>,
    /// Hooks with such an image that run in the change.
    hooks: Vec<Hook>,
    seen: CancellationToken,
    /// A watch was interrupted: what happened meanwhile is unknown.
    broken: Arc<AtomicBool>,
    changed: Arc<Notify>,
    pods: Vec<Store<Pod>>,
    tasks: JoinSet<()>,
}

impl Starts {
    /// Begins to watch, and returns when what is there has been seen.
    pub async fn watch(ctx: &Context, plan: &Plan, old_images: &BTreeSet<String>) -> Self {
        let is_new = |image: &&String| !old_images.contains(*image);
        let hooks =
            plan.hooks.iter().filter(|hook| hook.runs_in(HelmAction::Change) && hook.images.iter().any(|i| is_new(&i)));
        let hooks: Vec<Hook> = hooks.cloned().collect();
        let mut starts = Self {
            versions: Arc::new(Versions::between(old_images, &plan.images, &plan.containers)),
            seen: CancellationToken::new(),
            broken: Arc::default(),
            changed: Arc::default(),
            pods: Vec::new(),
            tasks: JoinSet::new(),
            hooks,
        };
        let mut selections: Vec<watcher::Config> =
            plan.workloads.iter().map(|workload| watcher::Config::default().labels(&workload.selector)).collect();
        for Hook { object, .. } in &starts.hooks {
            selections.extend(match object.kind.as_str() {
                "Job" => {
                    Some(watcher::Config::default().labels(&format!("batch.kubernetes.io/job-name={}", object.name)))
                }
                "Pod" => Some(watcher::Config::default().fields(&format!("metadata.name={}", object.name))),
                _ => None,
            });
        }
        let listed = Arc::new(AtomicUsize::new(0));
        let count = selections.len();
        for selection in selections {
            starts.follow(ctx.api(), selection, &listed);
        }
        let all = async {
            loop {
                let changed = starts.changed.notified();
                if listed.load(Ordering::Acquire) >= count {
                    break;
                }
                changed.await;
            }
        };
        if timeout(FIRST_LISTS, all).await.is_err() {
            tracing::warn!("the pods of the release cannot be watched: nobody knows whether one has started");
            starts.broken.store(true, Ordering::Release);
        }
        starts
    }

    fn follow(&mut self, pods: Api<Pod>, selection: watcher::Config, listed: &Arc<AtomicUsize>) {
        let (store, writer) = reflector::store();
        self.pods.push(store);
        let (seen, broken, changed) = (self.seen.clone(), self.broken.clone(), self.changed.clone());
        let (versions, listed) = (self.versions.clone(), listed.clone());
        let events = reflector::reflector(writer, watcher(pods, selection).default_backoff());
        self.tasks.spawn(async move {
            let mut events = std::pin::pin!(events);
            let mut first = true;
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod) | Event::Delete(pod)) => {
                        if is_started(&PodFacts::from(&pod), &versions) {
                            seen.cancel();
                        }
                    }
                    Ok(Event::Init) if first => {}
                    Ok(Event::InitDone) if first => {
                        first = false;
                        listed.fetch_add(1, Ordering::AcqRel);
                    }
                    Ok(Event::InitDone) => {}
                    // Listed again: pods that came and went since are not told.
                    Ok(Event::Init) | Err(_) => broken.store(true, Ordering::Release),
                }
                changed.notify_waiters();
            }
        });
    }

    /// Cancelled once a container of the new version was seen to have started.
    pub fn seen(&self) -> &CancellationToken {
        &self.seen
    }

    /// Whether a pod of the new version may have started since this was begun: one was seen, or there are hooks with new
    /// images, helm was run, and nothing proves that none of their pods started.
    pub async fn may_have_been(&self, ctx: &Context) -> Result<bool, Error> {
        let watched = |hook: &Hook| matches!(hook.object.kind.as_str(), "Job" | "Pod");
        let unproven = self.broken.load(Ordering::Acquire) || !self.hooks.iter().all(watched);
        if self.seen.is_cancelled() || (unproven && !self.hooks.is_empty()) {
            return Ok(true);
        }
        self.anywhere(ctx).await
    }

    /// Whether a pod of the namespace runs, or has run, an image that only the new version has: one of a `CronJob`, one
    /// without a workload, or one of a workload of a custom kind.
    pub async fn anywhere(&self, ctx: &Context) -> Result<bool, Error> {
        if !self.versions.differ() {
            return Ok(false);
        }
        let pods: Api<Pod> = ctx.api();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = request("list the pods of the namespace", || pods.list(&page)).await?;
            if list.items.iter().map(PodFacts::from).any(|pod| runs(&pod, &self.versions)) {
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
                let changed = self.changed.notified();
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
        let found = pods.find(|pod| !ended(pod) && such(pod) && is_new(&PodFacts::from(pod.as_ref()), &self.versions));
        found.map(|pod| pod.name_any())
    }
}
