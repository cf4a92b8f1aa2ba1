//! Wiring: caches, triggers, leadership, shutdown.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use futures::{
    StreamExt, TryStreamExt,
    channel::{mpsc, oneshot},
    stream,
};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    batch::v1::Job,
    core::v1::{Pod, PodTemplateSpec},
};
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    runtime::{
        Controller, WatchStreamExt,
        controller::Config as ControllerConfig,
        events::{Recorder, Reporter},
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
};
use tracing::{info, warn};

use super::{
    client,
    context::Context,
    drain::Watches,
    drift::Workloads,
    health::{self, Needed, Readiness},
    leader::{Leadership, NotHeld},
    metrics::Metrics,
    owned::OwnedIndex,
    places::Places,
    reconcile::{after_error, reconcile},
};
use crate::api::{API_GROUP, CoderUpgrade, label};
use crate::core::allowed::AllowedFlags;
use crate::core::decide::runner_job::RunnerDefaults;
use crate::core::gates::claim::is_rival;
use crate::core::helm::workload::WorkloadKind;
use crate::core::object::controlling;
use crate::core::outbound::{NoOutbound, Outbound, OutboundFlags};
use crate::core::report::LIMIT;
use crate::core::text::log_format::LogFormat;

/// What is listed before the first object is reconciled.
const LISTED: [Needed; 3] = [Needed::CoderUpgrades, Needed::Jobs, Needed::Pods];

/// Name under which the controller reports events.
const NAME: &str = "coder-upgrade-operator";

/// Of how many passes the events are published at a time. More than that waits only where the API server does not answer.
const PUBLISHING: usize = 64;

/// Settings of the controller.
#[derive(Args, Clone, Debug)]
pub struct ControllerArgs {
    /// Image of the runner's Jobs, with this program and helm; usually the controller's own image
    #[arg(long, env = "RUNNER_IMAGE")]
    runner_image: String,

    /// Namespace to watch; all namespaces if unset
    #[arg(long, env = "WATCH_NAMESPACE")]
    watch_namespace: Option<String>,

    /// Namespace of the controller's own Lease
    #[arg(long, env = "POD_NAMESPACE", default_value = "coder-upgrade-operator")]
    lease_namespace: String,

    /// Identity used for leader election; usually the name of its pod
    #[arg(long, env = "POD_NAME", default_value = NAME)]
    identity: String,

    /// Address on which /livez, /readyz and /metrics are served
    #[arg(long, env = "LISTEN_ADDRESS", default_value = "::")]
    listen_address: IpAddr,

    /// Port on which /livez, /readyz and /metrics are served
    #[arg(long, env = "LISTEN_PORT", default_value_t = 8080)]
    listen_port: u16,

    /// Maximum number of concurrent reconciles
    #[arg(long, env = "CONCURRENCY", default_value_t = 16)]
    concurrency: u16,

    /// How many CoderUpgrades may have a Job at a time; the others wait for their turn. A change that has begun is not held back
    #[arg(long, env = "MAX_RUNNING_JOBS", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    max_running_jobs: u16,

    /// Seconds before the first retry of a failure that time can cure; the delay doubles up to five minutes
    #[arg(long, env = "RETRY_DELAY", default_value_t = 10)]
    retry_delay: u64,

    /// Form of the log, of the controller and of its runners
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,

    /// What `CoderUpgrades` may name.
    #[command(flatten)]
    allowed: AllowedFlags,

    /// How runners reach repositories.
    #[command(flatten)]
    outbound: OutboundFlags,
}

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no configuration for the API server.
    #[error("cannot find out how to reach the API server: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The client could not be made.
    #[error("cannot make a client for the API server: {0}")]
    Client(#[from] kube::Error),
    /// The Lease could not be had.
    #[error("cannot hold the Lease in namespace {namespace}: {source}")]
    Lease {
        /// Namespace of the Lease.
        namespace: String,
        /// What went wrong.
        #[source]
        source: NotHeld,
    },
    /// Health and metrics cannot be served.
    #[error(
        "cannot serve /livez, /readyz and /metrics on {address}: {source}; stop what else listens there, or choose another \
         address with --listen-address (LISTEN_ADDRESS) and --listen-port (LISTEN_PORT)"
    )]
    Serve {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signal(#[from] std::io::Error),
    /// The file of certificates cannot be read.
    #[error("cannot read {path}, the file of --runner-ca-file: {source}")]
    Authorities {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Runners cannot be told how to reach repositories.
    #[error("{0}")]
    Outbound(#[from] NoOutbound),
}

/// How runners reach repositories.
fn outbound(flags: &OutboundFlags) -> Result<Outbound, RunError> {
    let unreadable = |path: &Path| {
        let path = path.display().to_string();
        move |source| RunError::Authorities { path, source }
    };
    let read = |path| std::fs::read_to_string(path).map_err(unreadable(path));
    let authorities = flags.authorities().map(read).transpose()?;
    Ok(flags.outbound(authorities.as_deref())?)
}

/// Runs until SIGTERM or SIGINT, or until the Lease is lost.
pub async fn run(args: ControllerArgs) -> Result<(), RunError> {
    let address = SocketAddr::new(args.listen_address, args.listen_port);
    let cannot_serve = |source| RunError::Serve { address, source };
    let listener = TcpListener::bind(address).await.map_err(cannot_serve)?;
    let defaults = RunnerDefaults {
        image: args.runner_image.clone(),
        allowed: Arc::new(args.allowed.allowed()),
        outbound: Arc::new(outbound(&args.outbound)?),
        log_format: args.log_format,
    };
    let metrics = Metrics::default();
    let client = client::client(Config::infer().await?, &metrics.own)?;
    let readiness = Readiness::default();
    let serving = tokio::spawn(health::serve(listener, readiness.clone(), metrics.clone()));
    let unserved = async {
        // Neither a task that has ended nor one that has failed answers any more.
        let ended = serving.await.map_err(std::io::Error::other).flatten();
        cannot_serve(ended.err().unwrap_or_else(|| std::io::Error::other("the server has ended")))
    };
    tokio::pin!(unserved);

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(stop);

    info!(namespace = args.lease_namespace, identity = args.identity, "waiting for the Lease");
    let lease = |source| RunError::Lease { namespace: args.lease_namespace.clone(), source };
    let mut leadership = tokio::select! {
        // Standing by is ready, too: a rollout must not wait for the old controller's Lease.
        acquired = Leadership::acquire(client.clone(), &args.lease_namespace, &args.identity, || readiness.found(Needed::Lease)) => {
            acquired.map_err(lease)?
        }
        error = &mut unserved => return Err(error),
        () = &mut stop => return Ok(()),
    };
    info!("holding the Lease");
    for needed in LISTED {
        readiness.wanted(needed);
    }
    let ended = tokio::select! {
        () = control(client, &args, defaults, &readiness, &metrics) => Ok(()),
        why = leadership.lost() => Err(lease(why)),
        error = &mut unserved => Err(error),
        () = &mut stop => Ok(()),
    };
    info!("stopping");
    if !matches!(ended, Err(RunError::Lease { .. })) {
        leadership.release().await;
    }
    ended
}

/// Reconciles for ever; ready once the caches are filled.
async fn control(
    client: Client,
    args: &ControllerArgs,
    defaults: RunnerDefaults,
    readiness: &Readiness,
    metrics: &Metrics,
) {
    let (upgrade_store, upgrade_writer) = reflector::store();
    metrics.observe(upgrade_store.clone());
    metrics.own.leads(args.max_running_jobs);
    let (waking, woken) = mpsc::unbounded();
    let (drained, drifted) = (waking.clone(), waking.clone());
    let places = Arc::new(Places::new(args.max_running_jobs.into(), waking.clone()));
    let watching_places = places.clone();
    let siblings = upgrade_store.clone();
    let hindered = |needed| {
        let readiness = readiness.clone();
        move |error: &watcher::Error| readiness.hindered(needed, error)
    };
    let upgrade_stream = watcher(scoped::<CoderUpgrade>(&client, args), watcher::Config::default())
        .inspect_err(hindered(Needed::CoderUpgrades))
        .default_backoff()
        .modify(|upgrade| upgrade.managed_fields_mut().clear())
        .reflect(upgrade_writer)
        .touched_objects()
        // A deleted or changed object may free a release for another one, or be what others wait for. The cache knows of it
        // by now.
        .inspect_ok(move |changed| {
            let present = siblings.get(&ObjectRef::from_obj(changed));
            if let Some(uid) =
                changed.uid().filter(|_| present.is_none_or(|now| now.metadata.uid != changed.metadata.uid))
            {
                watching_places.give_back(&uid);
            }
            for sibling in same_release(&siblings, changed).into_iter().chain(dependents(&siblings, changed)) {
                // Fails only when nobody reconciles any more.
                let _ = waking.unbounded_send(sibling);
            }
        });

    let (jobs_of, pods_of) = (Arc::<OwnedIndex>::default(), Arc::<OwnedIndex>::default());
    let (job_index, pod_index) = (jobs_of.clone(), pods_of.clone());
    let (job_store, job_writer) = reflector::store();
    let job_stream = watcher(scoped::<Job>(&client, args), watcher::Config::default().labels(label::UPGRADE_UID))
        .inspect_err(hindered(Needed::Jobs))
        .default_backoff()
        .modify(slim)
        .inspect_ok(move |event| job_index.take(event))
        .reflect(job_writer)
        .touched_objects();

    let (pod_store, pod_writer) = reflector::store();
    let pod_stream = watcher(scoped::<Pod>(&client, args), watcher::Config::default().labels(label::UPGRADE_UID))
        .inspect_err(hindered(Needed::Pods))
        .default_backoff()
        .modify(slim_pod)
        .inspect_ok(move |event| pod_index.take(event))
        .reflect(pod_writer)
        .touched_objects();
    // No object is looked at before the Jobs and their pods are known: without them a change that is under way looks as if
    // nothing were. Told by a channel: a store wakes only the last one who waits for it, and `filled` does.
    let (known, jobs_known) = oneshot::channel();
    let upgrade_stream = stream::once(jobs_known).filter_map(async |_| None).chain(upgrade_stream);

    let (owners, of_jobs, of_pods) = (job_store.clone(), upgrade_store.clone(), upgrade_store.clone());

    let filled = readiness.fill(upgrade_store.clone(), (job_store.clone(), pod_store.clone()), known);

    let context = Arc::new(Context {
        recorder: Recorder::new(
            client.clone(),
            Reporter { controller: NAME.into(), instance: Some(args.identity.clone()) },
        ),
        client,
        upgrades: upgrade_store.clone(),
        jobs: job_store,
        jobs_of,
        pods: pod_store,
        pods_of,
        drains: Watches::new(drained),
        workloads: Workloads::new(drifted),
        defaults,
        places,
        publishing: Arc::new(Semaphore::new(PUBLISHING)),
        metrics: metrics.own.clone(),
        watching_since: Timestamp::now(),
        retry_delay: Duration::from_secs(args.retry_delay),
    });
    let (watched, upgrades) = (context.clone(), upgrade_store.clone());
    let watching = async {
        let workloads = &watched.workloads;
        tokio::join!(
            workloads.watch::<Deployment>(WorkloadKind::Deployment, scoped(&watched.client, args), &upgrades),
            workloads.watch::<StatefulSet>(WorkloadKind::StatefulSet, scoped(&watched.client, args), &upgrades),
            workloads.watch::<DaemonSet>(WorkloadKind::DaemonSet, scoped(&watched.client, args), &upgrades),
        )
    };
    let reconciling = Controller::for_stream(upgrade_stream, upgrade_store)
        .with_config(ControllerConfig::default().concurrency(args.concurrency))
        .watches_stream(job_stream, move |job| upgrade_of(&of_jobs, &job))
        .watches_stream(pod_stream, move |pod| job_of(&owners, &pod).and_then(|job| upgrade_of(&of_pods, &job)))
        .reconcile_on(woken)
        .run(reconcile, after_error, context)
        .for_each(async |passed| {
            // A failed pass has told of itself; what is left are watches that do not get through.
            if let Err(kube::runtime::controller::Error::QueueError(error)) = passed {
                warn!("cannot watch (is the CustomResourceDefinition applied, and deploy/controller?): {error}");
            }
        });
    tokio::join!(reconciling, watching, filled);
}

fn scoped<K>(client: &Client, args: &ControllerArgs) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match &args.watch_namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Drops what no decision needs: with a thousand objects the pod templates would be most of the memory. Of the specs only
/// those stay that tell of a Job that it is suspended, which is rare and short.
///
/// Whoever may create Jobs writes their labels and annotations, and may write megabytes: only those of the operator are kept,
/// and of a report no more than is enough to say that it is too long.
fn slim(job: &mut Job) {
    job.managed_fields_mut().clear();
    job.labels_mut().retain(|name, _| name.starts_with(API_GROUP));
    let owned = controlling(job).is_some_and(|owner| owner.kind == CoderUpgrade::kind(&()));
    job.owner_references_mut().retain(|owner| owner.controller == Some(true));
    job.annotations_mut().retain(|name, _| owned && name.starts_with(API_GROUP));
    for text in job.annotations_mut().values_mut().filter(|text| text.len() > LIMIT) {
        *text = " ".repeat(LIMIT + 1);
    }
    job.spec = job.spec.take().filter(|spec| spec.suspend == Some(true));
    if let Some(spec) = &mut job.spec {
        spec.template = PodTemplateSpec::default();
    }
}

fn slim_pod(pod: &mut Pod) {
    pod.managed_fields_mut().clear();
    pod.annotations_mut().clear();
    pod.spec = None;
}

/// The object that a Job works for: the one that controls it, or the one that its label names if nobody controls it any more.
fn upgrade_of(upgrades: &Store<CoderUpgrade>, job: &Job) -> Option<ObjectRef<CoderUpgrade>> {
    let namespace = &job.metadata.namespace;
    if let Some(owner) = controlling(job) {
        let ours = owner.kind == CoderUpgrade::kind(&());
        return ours.then(|| ObjectRef::new(&owner.name).within(namespace.as_deref().unwrap_or_default()));
    }
    let uid = job.labels().get(label::UPGRADE_UID);
    let named = upgrades.find(|one| one.metadata.uid.as_ref() == uid && one.metadata.namespace == *namespace)?;
    Some(ObjectRef::from_obj(&*named))
}

/// The Job that a pod belongs to.
fn job_of(jobs: &Store<Job>, pod: &Pod) -> Option<Arc<Job>> {
    jobs.get(&ObjectRef::new(&controlling(pod)?.name).within(pod.metadata.namespace.as_deref()?))
}

fn same_release(upgrades: &Store<CoderUpgrade>, changed: &CoderUpgrade) -> Vec<ObjectRef<CoderUpgrade>> {
    let rival = |other: &CoderUpgrade| is_rival(other, changed) && other.metadata.uid != changed.metadata.uid;
    upgrades.state_filter(rival).iter().map(|other| ObjectRef::from_obj(&**other)).collect()
}

/// The objects that depend on the changed one, directly or over others: what they wait for, or a circle, may have changed.
fn dependents(upgrades: &Store<CoderUpgrade>, changed: &CoderUpgrade) -> Vec<ObjectRef<CoderUpgrade>> {
    let waits = |other: &CoderUpgrade| {
        !other.spec.depends_on.is_empty() && other.metadata.namespace == changed.metadata.namespace
    };
    let mut waiting = upgrades.state_filter(waits);
    let mut names = vec![changed.name_any()];
    let mut found = Vec::new();
    while let Some(name) = names.pop() {
        let (next, rest): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|other| other.spec.depends_on.iter().any(|it| it.name == name));
        waiting = rest;
        names.extend(next.iter().map(|other| other.name_any()));
        found.extend(next.iter().map(|other| ObjectRef::from_obj(&**other)));
    }
    found
}
