//! The watch over the pods bound to this node: one task for each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::context::{HOST, Node, lock};
use super::pod::{self, Feed, PodRuntime};
use super::running::Running;

/// Runs the pods of this node. Ends only with the node; dropping it kills every process.
pub async fn serve(node: &Arc<Node>, running: &Running) {
    let api: Api<Pod> = Api::all(node.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", node.name));
    let mut events = pin!(watcher(api, config).default_backoff());
    let mut pods = Pods { node: node.clone(), running, feeds: BTreeMap::new(), tasks: JoinSet::new(), listed: None };
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => {
                    node.online().await;
                    pods.handle(event);
                }
                Some(Err(error)) => tracing::warn!(%error, "the watch over pods is interrupted; trying again"),
                None => return,
            },
            Some(ended) = pods.tasks.join_next() => pods.forget(ended),
        }
    }
}

/// The pods of the node, by UID.
struct Pods<'a> {
    node: Arc<Node>,
    running: &'a Running,
    feeds: BTreeMap<String, watch::Sender<Feed>>,
    tasks: JoinSet<Arc<PodRuntime>>,
    /// UIDs seen so far in a list that is under way.
    listed: Option<BTreeSet<String>>,
}

impl Pods<'_> {
    fn handle(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed = Some(BTreeSet::new()),
            Event::InitApply(pod) => {
                if let Some(listed) = &mut self.listed {
                    listed.extend(pod.uid());
                }
                self.apply(pod);
            }
            Event::InitDone => {
                if let Some(listed) = self.listed.take() {
                    let gone = self.feeds.iter().filter(|(uid, _)| !listed.contains(*uid));
                    gone.for_each(|(_, feed)| mark_gone(feed));
                }
            }
            Event::Apply(pod) => self.apply(pod),
            Event::Delete(pod) => {
                if let Some(feed) = pod.uid().and_then(|uid| self.feeds.get(&uid)) {
                    mark_gone(feed);
                }
            }
        }
    }

    fn apply(&mut self, pod: Pod) {
        let Some(uid) = pod.uid() else { return };
        let pod = Arc::new(pod);
        if let Some(feed) = self.feeds.get(&uid) {
            feed.send_replace(Feed::Present(pod));
            return;
        }
        let Some(address) = self.address(&pod) else {
            tracing::error!(pod = pod.name_any(), "all addresses of the node's range are in use; the pod is not run");
            return;
        };
        let (sender, feed) = watch::channel(Feed::Present(pod));
        let runtime = Arc::new(PodRuntime::new(self.node.clone(), address, feed));
        self.running.insert(runtime.clone());
        self.feeds.insert(uid, sender);
        self.tasks.spawn(async move {
            Box::pin(pod::run(runtime.clone())).await;
            runtime
        });
    }

    /// The pod's address: the one it had before the node restarted, if it is free.
    fn address(&self, pod: &Pod) -> Option<Ipv4Addr> {
        if pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)) {
            return Some(HOST);
        }
        let before = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
        lock(&self.node.addresses).take(before.and_then(|address| address.parse().ok()))
    }

    fn forget(&mut self, ended: Result<Arc<PodRuntime>, tokio::task::JoinError>) {
        let pod = match ended {
            Ok(pod) => pod,
            Err(error) => {
                tracing::error!(%error, "the task of a pod broke down");
                return;
            }
        };
        self.feeds.remove(&pod.uid);
        lock(&self.node.addresses).release(pod.address);
        self.running.remove(&pod);
    }
}

fn mark_gone(feed: &watch::Sender<Feed>) {
    feed.send_modify(|feed| {
        if let Feed::Present(pod) = feed {
            *feed = Feed::Gone(pod.clone());
        }
    });
}
