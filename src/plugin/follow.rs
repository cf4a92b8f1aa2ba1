//! Following an upgrade by watches until a person is needed or nothing is left to do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::core::Selector;
use kube::runtime::reflector::{self, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, interval, sleep_until};

use super::error::PluginError;
use super::live_release::{LiveRelease, facts, is_of, of_helm};
use super::output::Output;
use super::screen::Screen;
use super::session::Session;
use crate::api::CoderUpgrade;
use crate::core::overview::Standing;
use crate::core::rollout::workload::PodFacts;

/// How long a watch that was refused or broken rests. There are up to ten of them, and the API server gets at most one request
/// a second of all.
const REST_TIME: Duration = Duration::from_secs(10);
/// How often times are drawn again at a terminal.
const TICK: Duration = Duration::from_secs(1);
/// How long a follower that is told nothing goes on: for ever, as far as people are concerned.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Something has happened to a kind of object, or its watch has failed.
struct Notice {
    /// The object itself, and not what runs around it.
    is_main: bool,
    failed: Option<watcher::Error>,
}

/// The same pause each time.
struct Rest;

impl Iterator for Rest {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(REST_TIME)
    }
}

impl Backoff for Rest {
    fn reset(&mut self) {}
}

/// What the watches have seen.
struct UpgradeWatches {
    session: Session,
    changes: SelectAll<BoxStream<'static, Notice>>,
    upgrade: Store<CoderUpgrade>,
    deployments: Store<Deployment>,
    stateful_sets: Store<StatefulSet>,
    daemon_sets: Store<DaemonSet>,
    /// By what selects them.
    pods: BTreeMap<String, Store<Pod>>,
    unseen: Option<String>,
}

/// Shows the upgrade until it is verified, has failed, waits for a person, or the time is over. Returns the exit code.
pub async fn until_settled(
    session: &Session,
    name: &str,
    output: Output,
    timeout: Option<Duration>,
) -> Result<u8, PluginError> {
    let mut watches = UpgradeWatches::start(session, name);
    let mut screen = Screen::new(output);
    let end = Instant::now() + timeout.unwrap_or(FOREVER);
    let mut tick = interval(TICK);
    loop {
        tokio::select! {
            change = watches.changes.next() => {
                let mut next = change;
                // All that has happened by now makes one picture.
                while let Some(change) = next {
                    watches.heed(name, change)?;
                    next = watches.changes.next().now_or_never().flatten();
                }
            }
            _ = tick.tick(), if screen.is_live() => {}
            () = sleep_until(end) => break,
        }
        let Some(upgrade) = watches.upgrade.state().pop() else {
            if screen.has_shown() {
                return Err(PluginError::Absent(format!(
                    "CoderUpgrade {name} was deleted; its release stays as it is"
                )));
            }
            continue;
        };
        let overview = watches.live_release(&upgrade).told(session, &upgrade);
        let standing = overview.standing;
        screen.show(overview)?;
        if standing != Standing::Working {
            break;
        }
    }
    Ok(screen.finish()?.map_or(Standing::Working, |last| last.standing).exit_code())
}

impl UpgradeWatches {
    fn start(session: &Session, name: &str) -> Self {
        let mut changes = SelectAll::new();
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let helm = || watcher::Config::default().labels(&of_helm());
        Self {
            upgrade: watch(session, only, true, &mut changes),
            deployments: watch(session, helm(), false, &mut changes),
            stateful_sets: watch(session, helm(), false, &mut changes),
            daemon_sets: watch(session, helm(), false, &mut changes),
            pods: BTreeMap::new(),
            session: session.clone(),
            changes,
            unseen: None,
        }
    }

    /// Takes note of a watch that fails. That of the object itself may break for a while, but not be refused.
    fn heed(&mut self, name: &str, change: Notice) -> Result<(), PluginError> {
        let Some(failure) = change.failed else { return Ok(()) };
        let doing = format!("watch CoderUpgrade/{name} in namespace {}", self.session.namespace);
        let error = match failure {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => error,
            watcher::Error::WatchError(status) => kube::Error::Api(status),
            watcher::Error::NoResourceVersion => return Ok(()),
        };
        let refused = matches!(&error, kube::Error::Api(status) if matches!(status.code, 401 | 403 | 404))
            || matches!(error, kube::Error::SerdeError(_));
        if change.is_main && refused {
            return Err(PluginError::of(&doing, &self.session.server, error));
        }
        if refused {
            let doing = format!("watch the workloads and pods of namespace {}", self.session.namespace);
            self.unseen = Some(PluginError::of(&doing, &self.session.server, error).to_string());
        }
        Ok(())
    }

    /// What runs, as seen last. Pods of workloads that are new are watched from now on.
    fn live_release(&mut self, upgrade: &CoderUpgrade) -> LiveRelease {
        let (release, namespace) = (&upgrade.spec.release, &self.session.namespace);
        let (deployments, stateful_sets, daemon_sets) = (
            of_release(&self.deployments, release, namespace),
            of_release(&self.stateful_sets, release, namespace),
            of_release(&self.daemon_sets, release, namespace),
        );
        let (workloads, selectors) = facts(&deployments, &stateful_sets, &daemon_sets);
        for selector in &selectors {
            self.watch_pods(selector);
        }
        let mut pods: Vec<PodFacts> =
            self.pods.values().flat_map(Store::state).map(|pod| PodFacts::from(&*pod)).collect();
        pods.sort_by(|a, b| a.uid.cmp(&b.uid));
        pods.dedup_by(|a, b| a.uid == b.uid);
        LiveRelease { workloads, pods, unseen: self.unseen.clone() }
    }

    fn watch_pods(&mut self, selector: &Selector) {
        let key = selector.to_string();
        if !self.pods.contains_key(&key) {
            let config = watcher::Config::default().labels_from(selector);
            let store = watch(&self.session, config, false, &mut self.changes);
            self.pods.insert(key, store);
        }
    }
}

/// The objects of the release among those that were seen.
fn of_release<K>(store: &Store<K>, release: &str, namespace: &str) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.state().into_iter().filter(|object| is_of(&**object, release, namespace)).collect()
}

/// Watches objects of a kind from now on. A watch that is refused ends.
fn watch<K>(
    session: &Session,
    config: watcher::Config,
    is_main: bool,
    changes: &mut SelectAll<BoxStream<'static, Notice>>,
) -> Store<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + ResourceExt
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let events = watcher(session.api::<K>(), config).backoff(Rest).reflect(writer);
    changes.push(events.map(move |event| Notice { is_main, failed: event.err() }).boxed());
    store
}
