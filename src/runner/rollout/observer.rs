//! Watching the workloads of a release and their pods.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::core::ObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;

use crate::api::{ProductLine, WorkloadMark};
use crate::core::helm::workload::{Workload, WorkloadKind};
use crate::core::rollout::drift;
use crate::core::rollout::endpoint::{Endpoint, Question, endpoint};
use crate::core::rollout::inventory::{Answer, NoAnswer};
use crate::core::rollout::verify::{PodAnswer, WorkloadPods};
use crate::core::rollout::workload::{PodFacts, WorkloadFacts};
use crate::core::steps::pause::answers_questions;
use crate::runner::coder;
use crate::runner::context::Context;

/// How long the first lists may take, together.
const FIRST_LISTS: Duration = Duration::from_secs(30);

/// What a watch of pods has told.
#[derive(Clone)]
pub enum PodNews {
    /// A pod as it is, or as it was when it went.
    Pod(Arc<PodFacts>),
    /// A list is complete: a pod that it lacks is gone.
    Listed,
    /// The watch was interrupted: what came and went meanwhile is not told.
    Interrupted,
}

impl From<&watcher::Result<Event<Pod>>> for PodNews {
    fn from(event: &watcher::Result<Event<Pod>>) -> Self {
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod) | Event::Delete(pod)) => Self::Pod(PodFacts::from(pod).into()),
            Ok(Event::InitDone) => Self::Listed,
            Ok(Event::Init) | Err(_) => Self::Interrupted,
        }
    }
}

/// How much news of pods is kept for whoever listens. Who falls further behind is told that something is missing.
const NEWS: usize = 256;

/// Watches until it is dropped. Each workload is watched by name and its pods by its selector: a namespace with Coder in
/// it may hold thousands of workspaces.
pub struct Observer {
    chart: String,
    line: ProductLine,
    /// It goes on after the first look.
    watching: bool,
    watched: Vec<Watched>,
    news: broadcast::Sender<PodNews>,
    changed: Arc<Notify>,
    trouble: Trouble,
    tasks: JoinSet<()>,
}

/// The newest error of a watch; none when all go well again.
type Trouble = Arc<Mutex<Option<String>>>;

/// Looks at what was seen last of a workload.
type Lookup<T> = Box<dyn Fn() -> Option<T> + Send + Sync>;

struct Watched {
    workload: Workload,
    facts: Lookup<WorkloadFacts>,
    mark: Lookup<WorkloadMark>,
    metadata: Lookup<ObjectMeta>,
    pods: Store<Pod>,
}

impl Observer {
    /// Begins to watch.
    pub fn start(ctx: &Context, chart: &str, line: ProductLine, workloads: &[Workload]) -> Self {
        Self::new(ctx, chart, line, workloads, true)
    }

    /// Looks once: whatever is seen stays as it is then.
    pub fn look(ctx: &Context, chart: &str, line: ProductLine, workloads: &[Workload]) -> Self {
        Self::new(ctx, chart, line, workloads, false)
    }

    /// Watches what was looked at.
    pub fn watch(&self, ctx: &Context) -> Self {
        let workloads: Vec<Workload> = self.watched.iter().map(|watched| watched.workload.clone()).collect();
        Self::start(ctx, &self.chart, self.line, &workloads)
    }

    fn new(ctx: &Context, chart: &str, line: ProductLine, workloads: &[Workload], watching: bool) -> Self {
        let mut observer = Self {
            chart: chart.to_owned(),
            line,
            watching,
            watched: Vec::new(),
            news: broadcast::Sender::new(NEWS),
            changed: Arc::default(),
            trouble: Arc::default(),
            tasks: JoinSet::new(),
        };
        for workload in workloads {
            let (facts, mark, metadata) = match workload.kind {
                WorkloadKind::Deployment => observer.workload(ctx.api::<Deployment>(), workload),
                WorkloadKind::StatefulSet => observer.workload(ctx.api::<StatefulSet>(), workload),
                WorkloadKind::DaemonSet => observer.workload(ctx.api::<DaemonSet>(), workload),
            };
            let of_workload = watcher::Config::default().labels(&workload.selector);
            let news = observer.news.clone();
            let pods = observer.store(ctx.api::<Pod>(), of_workload, move |event| tell(&news, event));
            observer.watched.push(Watched { workload: workload.clone(), facts, mark, metadata, pods });
        }
        observer
    }

    fn workload<K>(
        &mut self,
        api: Api<K>,
        workload: &Workload,
    ) -> (Lookup<WorkloadFacts>, Lookup<WorkloadMark>, Lookup<ObjectMeta>)
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
        for<'a> WorkloadFacts: From<&'a K>,
    {
        let by_name = watcher::Config::default().fields(&format!("metadata.name={}", workload.name));
        let store = self.store(api, by_name, |_| {});
        let (for_mark, for_metadata, kind) = (store.clone(), store.clone(), workload.kind);
        let facts = Box::new(move || store.state().first().map(|object| WorkloadFacts::from(object.as_ref())));
        let mark = Box::new(move || for_mark.state().first().map(|object| drift::mark(kind, object.as_ref())));
        (facts, mark, Box::new(move || for_metadata.state().first().map(|object| object.meta().clone())))
    }

    /// The metadata of a workload as it was seen last; none if it is not watched, or not seen yet.
    pub fn metadata(&self, workload: &Workload) -> Option<ObjectMeta> {
        (self.watched.iter().find(|watched| watched.workload == *workload)?.metadata)()
    }

    /// The workloads as they were seen last: after a verification, what was verified.
    pub fn marks(&self) -> Vec<WorkloadMark> {
        self.watched.iter().filter_map(|watched| (watched.mark)()).collect()
    }

    fn store<K>(
        &mut self,
        api: Api<K>,
        config: watcher::Config,
        tell: impl Fn(&watcher::Result<Event<K>>) + Send + 'static,
    ) -> Store<K>
    where
        K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        K::DynamicType: Hash + Eq,
    {
        let (store, writer) = reflector::store();
        let (changed, trouble, watching) = (self.changed.clone(), self.trouble.clone(), self.watching);
        let events = reflector::reflector(writer, watcher(api, config).default_backoff());
        self.tasks.spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                tell(&event);
                // The stream asks for the watch itself only if it is asked for what follows.
                let listed = matches!(event, Ok(Event::InitDone));
                let mut trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
                *trouble = event.err().map(|error| error.to_string());
                drop(trouble);
                changed.notify_waiters();
                if listed && !watching {
                    break;
                }
            }
        });
        store
    }

    /// What the watches of pods tell from now on.
    pub fn news(&self) -> broadcast::Receiver<PodNews> {
        self.news.subscribe()
    }

    /// The pods of the workloads, as they are seen.
    pub fn pods(&self) -> impl Iterator<Item = Store<Pod>> {
        self.watched.iter().map(|watched| watched.pods.clone())
    }

    /// Whether these are the workloads that are watched.
    pub fn watches(&self, workloads: &[Workload]) -> bool {
        self.watched.iter().map(|watched| &watched.workload).eq(workloads)
    }

    /// Waits until all pods have been listed once. False if they could not be.
    pub async fn ready(&self) -> bool {
        let listed = join_all(self.watched.iter().map(|watched| watched.pods.wait_until_ready()));
        let ready = tokio::time::timeout(FIRST_LISTS, listed).await.is_ok();
        if !ready {
            tracing::warn!("the pods of the release could not be listed: {}", self.trouble().unwrap_or_default());
        }
        ready
    }

    /// Why the watches do not work, if they do not.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the next change of anything that is watched.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What was seen last, without answers.
    pub fn seen(&self) -> Vec<WorkloadPods> {
        self.watched
            .iter()
            .map(|watched| WorkloadPods {
                object: format!("{}/{}", watched.workload.kind, watched.workload.name),
                workload: (watched.facts)(),
                pods: watched
                    .pods
                    .state()
                    .iter()
                    .map(|pod| PodAnswer {
                        pod: PodFacts::from(pod.as_ref()),
                        question: endpoint(&self.chart, self.line, pod).map(|endpoint| endpoint.question),
                        answer: None,
                    })
                    .collect(),
            })
            .collect()
    }

    /// The pods that are ready and can be asked for builds and health.
    pub fn servers(&self) -> Vec<(PodFacts, Endpoint)> {
        let pods = self.watched.iter().flat_map(|watched| watched.pods.state());
        let servers = pods.filter_map(|pod| {
            let facts = PodFacts::from(pod.as_ref());
            let endpoint = endpoint(&self.chart, self.line, &pod)?;
            let asked = answers_questions(endpoint.question) && facts.ready && !facts.leaving;
            asked.then_some((facts, endpoint))
        });
        servers.collect()
    }

    /// What was seen last, with what each server that is ready answers now.
    pub async fn asked(&self) -> Vec<WorkloadPods> {
        join_all(self.watched.iter().map(async |watched| WorkloadPods {
            object: format!("{}/{}", watched.workload.kind, watched.workload.name),
            workload: (watched.facts)(),
            pods: join_all(watched.pods.state().iter().map(|pod| self.ask(pod))).await,
        }))
        .await
    }

    /// What each server answers now, and which of them do not: the upgrade may be their cure.
    pub async fn answers(&self) -> (Vec<Answer>, Vec<NoAnswer>) {
        self.ready().await;
        collect(self.asked().await)
    }

    async fn ask(&self, pod: &Pod) -> PodAnswer {
        let facts = PodFacts::from(pod);
        let endpoint = endpoint(&self.chart, self.line, pod);
        let answer = match &endpoint {
            Some(endpoint) if facts.ready && !facts.leaving => Some(coder::ask(&facts, endpoint).await),
            _ => None,
        };
        PodAnswer { pod: facts, question: endpoint.map(|endpoint| endpoint.question), answer }
    }
}

/// Tells an event of a watch of pods, if anybody listens.
fn tell(news: &broadcast::Sender<PodNews>, event: &watcher::Result<Event<Pod>>) {
    if news.receiver_count() > 0 {
        // Whoever listened may be gone by now.
        let _ = news.send(event.into());
    }
}

fn collect(observed: Vec<WorkloadPods>) -> (Vec<Answer>, Vec<NoAnswer>) {
    let asked = observed.into_iter().flat_map(|observed| observed.pods);
    let (mut answers, mut unanswered) = (Vec::new(), Vec::new());
    for asked in asked.filter(|asked| asked.question.is_some_and(Question::tells_version)) {
        match asked.answer {
            Some(Ok(answer)) => answers.push(answer),
            Some(Err(silent)) => {
                tracing::warn!("Pod/{} {}", silent.pod, silent.why);
                unanswered.push(silent);
            }
            None => {}
        }
    }
    answers.sort_by(|a, b| a.pod.cmp(&b.pod));
    unanswered.sort_by(|a, b| a.pod.cmp(&b.pod));
    (answers, unanswered)
}
