//! The upgrade step: does what the plan says, and nothing that is done already.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::context::Context;
use super::error::Error;
use super::excerpt::{self, Witness};
use super::helm::record::Record;
use super::helm::storage::Storage;
use super::helm::{HelmFailure, upgrade as helm};
use super::lease::Held;
use super::observe::Observer;
use super::verify::{Goal, same_claims, verify};
use super::{inventory, io};
use crate::api::{FailureClass, Installed};
use crate::core::digest::hex;
use crate::core::history::{self, Revision, Work};
use crate::core::manifest::Manifest;
use crate::core::plan::{Plan, key};
use crate::core::report::{Problem, Upgraded};
use crate::core::verify::{Expected, Observed};
use crate::core::workload::PodFacts;
use crate::core::{classify, progress, version};

/// The order: how long each part may take.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where the plan Secret is mounted.
    pub plan_dir: PathBuf,
    /// How long helm waits for the objects.
    pub helm_timeout: Duration,
    /// How long to wait for the right answers after that.
    pub verify_timeout: Duration,
    /// How long everything must stay right.
    pub soak: Duration,
}

/// Makes the upgrade, or what is left of it, and verifies it.
pub async fn run(ctx: &Context, order: &Order) -> Result<Upgraded, Error> {
    let plan = read_plan(ctx, &order.plan_dir).await?;
    let storage = Storage::new(ctx.api(), &plan.release);
    let lease = tokio::select! {
        lease = Held::take(ctx, &plan.release) => lease?,
        () = ctx.stop.cancelled() => return Err(Error::Stopped),
    };
    let before = storage.history().await;
    let result = match &before {
        Ok(before) => change(ctx, order, &plan, &storage, before, &lease).await,
        Err(_) => Err(Error::Plan("the records of the release could not be read".into())),
    };
    let result = match (result, before) {
        (Ok(upgraded), _) => Ok(upgraded),
        (Err(error), Ok(before)) => Err(with_aftermath(&storage, &before, error).await),
        (Err(_), Err(error)) => Err(error),
    };
    lease.release().await;
    result
}

/// Reads the plan Secret and checks that its parts belong together.
async fn read_plan(ctx: &Context, directory: &Path) -> Result<Plan, Error> {
    let plan: Plan = serde_json::from_slice(&io::read(&directory.join(key::PLAN)).await?)
        .map_err(|e| Error::Plan(format!("{} cannot be read: {e}", key::PLAN)))?;
    let digest = hex(&Sha256::digest(io::read(&directory.join(key::CHART)).await?));
    if digest != plan.chart_digest {
        return Err(Error::Plan(format!("the chart has the digest {digest} instead of {}", plan.chart_digest)));
    }
    let values: Value = serde_json::from_slice(&io::read(&directory.join(key::VALUES)).await?)
        .map_err(|e| Error::Plan(format!("{} cannot be read: {e}", key::VALUES)))?;
    ctx.secrets.hide_values(&values);
    let previous = directory.join(key::PREVIOUS_RELEASE);
    if plan.from.is_some() {
        let record = Record::decode(&io::read(&previous).await?)
            .map_err(|e| Error::Plan(format!("{} {e}", key::PREVIOUS_RELEASE)))?;
        ctx.secrets.hide_values(&Value::Object(record.values()));
    }
    tracing::info!("plan {}: release {} to {} {}", plan.id, plan.release, plan.chart_name, plan.version);
    Ok(plan)
}

async fn change(
    ctx: &Context,
    order: &Order,
    plan: &Plan,
    storage: &Storage,
    before: &[Revision],
    lease: &Held,
) -> Result<Upgraded, Error> {
    let observer = Observer::start(ctx, &plan.chart_name, plan.line, &plan.workloads);
    match history::work(plan, before) {
        Work::Verify => tracing::info!("helm has ended well already in an earlier try; verifying"),
        Work::Outdated(how) => return Err(Problem::new(FailureClass::PlanOutdated, how).into()),
        Work::Run => upgrade(ctx, order, plan, &observer, lease).await?,
        Work::Unlock(revision) => {
            ctx.reporter
                .progress(&format!("releasing the lock that an interrupted try left on revision {}", revision.number));
            same_claims(ctx, &plan.inventory.claims).await?;
            storage.unlock(&revision, "interrupted: the runner was killed").await?;
            upgrade(ctx, order, plan, &observer, lease).await?;
        }
    }
    ctx.reporter.verifying();
    let verified = verified(ctx, order, plan, storage, observer);
    tokio::select! {
        upgraded = verified => upgraded,
        () = ctx.stop.cancelled() => Err(Error::Stopped),
        () = lease.lost().cancelled() => Err(Error::LeaseLost(lease.name().to_owned())),
    }
}

/// Runs helm, with the rollout as progress.
async fn upgrade(ctx: &Context, order: &Order, plan: &Plan, observer: &Observer, lease: &Held) -> Result<(), Error> {
    same_claims(ctx, &plan.inventory.claims).await?;
    ctx.reporter.progress(&format!("running helm to bring release {} to {}", plan.release, plan.version));
    let (chart, values) = (order.plan_dir.join(key::CHART), order.plan_dir.join(key::VALUES));
    let upgrade = helm::Upgrade {
        release: &plan.release,
        namespace: &ctx.namespace,
        chart: &chart,
        values: &values,
        plan: &plan.id,
        timeout: order.helm_timeout,
        rollback_on_failure: plan.rollback_on_failure,
    };
    let mut heard = None;
    let ended = tokio::select! {
        ended = helm::run(&ctx.helm, &ctx.secrets, &upgrade, &ctx.stop, lease.lost()) => ended?,
        never = tell(ctx, observer, &mut heard) => match never {},
    };
    let Err(failure) = ended else { return Ok(()) };
    if lease.lost().is_cancelled() {
        return Err(Error::LeaseLost(lease.name().to_owned()));
    }
    if ctx.stop.is_cancelled() {
        return Err(Error::Stopped);
    }
    Err(explained(ctx, failure, &observer.seen(), heard).await)
}

/// Says how the rollout goes, whenever something changes, and hears each pod in trouble: after a rollback it is gone.
async fn tell(ctx: &Context, observer: &Observer, heard: &mut Option<Witness>) -> std::convert::Infallible {
    loop {
        observer.changed().await;
        let seen = observer.seen();
        if let Some(line) = progress::line(&seen) {
            ctx.reporter.progress(&line);
        }
        let news = |pod: &&PodFacts| pod.trouble().is_some_and(|now| heard.as_ref().is_none_or(|h| h.trouble != now));
        if let Some(pod) = excerpt::culprit(&seen).filter(news) {
            *heard = Some(excerpt::hear(ctx, pod).await);
        }
    }
}

/// A failure of helm, with the pod that explains it.
async fn explained(ctx: &Context, failure: HelmFailure, observed: &[Observed], heard: Option<Witness>) -> Error {
    let cause = classify::worst(&failure.text);
    let class = cause.class.unwrap_or(FailureClass::Unknown);
    let mut problem = Problem { object: cause.object, field: cause.field, ..Problem::new(class, failure.text) };
    let waited = matches!(class, FailureClass::RolloutTimedOut | FailureClass::HookFailed | FailureClass::Unknown)
        && problem.field.is_none();
    if !waited {
        return problem.into();
    }
    let witness = match excerpt::culprit(observed) {
        Some(pod) if pod.trouble().is_some() || heard.is_none() => Some(excerpt::hear(ctx, pod).await),
        _ => heard,
    };
    if let Some(Witness { pod, trouble, log }) = witness {
        problem.message = format!("{}\nPod/{pod}: {trouble}", problem.message);
        problem.excerpt = log;
        problem.object.get_or_insert_with(|| format!("Pod/{pod}"));
    }
    problem.into()
}

async fn verified(
    ctx: &Context,
    order: &Order,
    plan: &Plan,
    storage: &Storage,
    observer: Observer,
) -> Result<Upgraded, Error> {
    let (current, manifest) = installed(ctx, plan, storage).await?;
    let workloads = manifest.workloads();
    // Templates that look at the cluster may have rendered other objects than in the plan.
    let observer = if observer.watches(&workloads) {
        observer
    } else {
        Observer::start(ctx, &plan.chart_name, plan.line, &workloads)
    };
    let goal = Goal {
        revision: current.revision,
        expected: Expected::new(&plan.app_version, &plan.inventory.answers),
        claims: &plan.inventory.claims,
        timeout: order.verify_timeout,
        soak: order.soak,
    };
    let verified = verify(ctx, storage, &observer, &goal).await?;
    // A first install has claims that no plan could know.
    let mut names = manifest.claims();
    names.extend(verified.claims.into_iter().map(|claim| claim.name));
    Ok(Upgraded {
        current,
        verified: verified.summary,
        claims: inventory::claims(ctx, &names).await?.into_values().collect(),
        exposures: inventory::exposures(ctx, &manifest).await?,
        address_changes: Vec::new(),
    })
}

/// The newest revision, which must be deployed from the chart of the plan, by this plan.
async fn installed(ctx: &Context, plan: &Plan, storage: &Storage) -> Result<(Installed, Manifest), Error> {
    let wrong = |message: String| Problem::new(FailureClass::VerificationFailed, message);
    let history = storage.history().await?;
    let newest = history.first().ok_or_else(|| wrong("helm ended well, but there is no release".into()))?;
    let stored = storage.read(newest).await?;
    let chart = stored.record.chart().map_err(|source| stored.broken(source))?;
    let same = chart.name == plan.chart_name && version::plain(&chart.version) == plan.version;
    if !(same && newest.deployed() && newest.plan.as_deref() == Some(&plan.id)) {
        let message = format!(
            "the release is at revision {} ({}) of {} {}, not deployed from {} {} by plan {}",
            newest.number, newest.status, chart.name, chart.version, plan.chart_name, plan.version, plan.id
        );
        return Err(wrong(message).object(format!("Secret/{}", newest.secret)).into());
    }
    let installed = stored.record.installed().map_err(|source| stored.broken(source))?;
    Ok((installed, Manifest::parse(stored.record.manifest(), &ctx.namespace)?))
}

/// The error with what became of the release: whether helm's records changed, and what they say now.
async fn with_aftermath(storage: &Storage, before: &[Revision], error: Error) -> Error {
    let problem = error.into_problem();
    let now = match storage.history().await {
        Ok(now) => now,
        Err(unread) => {
            // Rather count a failure too many than one too few.
            tracing::warn!("{unread}");
            return Problem { changed: true, ..problem }.into();
        }
    };
    let state = |history: &[Revision]| history.first().map(|newest| (newest.number, newest.status.clone()));
    let changed = state(before) != state(&now);
    let current = match now.first() {
        Some(newest) => storage.read(newest).await.ok().and_then(|stored| stored.record.installed().ok()),
        None => None,
    };
    Problem { changed, current, ..problem }.into()
}
