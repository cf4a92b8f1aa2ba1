//! Brings a package into the cluster: runs helm until it has succeeded, or nothing more can be done in this step.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::pause::Paused;
use super::replicas;
use crate::api::{FailureClass, ProductLine, Remedy};
use crate::core::helm::failures;
use crate::core::helm::failures::Cause;
use crate::core::helm::history;
use crate::core::helm::history::Revision;
use crate::core::plan::Plan;
use crate::core::plan::rehearsal::only_scaled;
use crate::core::repair::escalation;
use crate::core::repair::escalation::{Next, RepairAction};
use crate::core::report::Problem;
use crate::core::rollout::progress;
use crate::core::rollout::readiness::waited_for;
use crate::core::rollout::started;
use crate::core::rollout::started::Versions;
use crate::core::rollout::verify::WorkloadPods;
use crate::core::rollout::workload::PodFacts;
use crate::runner::cluster::lease::Held;
use crate::runner::cluster::leftovers;
use crate::runner::context::Context;
use crate::runner::error::{Error, of_cause};
use crate::runner::helm::HelmFailure;
use crate::runner::helm::held_release::HeldRelease;
use crate::runner::helm::package::Package;
use crate::runner::helm::storage;
use crate::runner::helm::upgrade::Upgrade;
use crate::runner::repair;
use crate::runner::repair::RepairContext;
use crate::runner::rollout::diagnosis;
use crate::runner::rollout::diagnosis::PodDiagnosis;
use crate::runner::rollout::observer::Observer;
use crate::runner::rollout::starts::{Starts, started_now};
use crate::runner::rollout::startup::{StartFailure, StartupLogs};
use crate::runner::rollout::verify::same_claims;
use crate::runner::rollout::waits::Waits;

/// How long a pod of the new version that was told to end is waited for before it counts as started: longer than the grace
/// period of Coder's charts, which is 60 s.
const ENDING: Duration = Duration::from_secs(90);

/// How often what helm waits for beside pods is looked at.
const OTHERS: Duration = Duration::from_secs(3);
/// How often helm is run again because an autoscaler has changed a number of replicas in the moment before.
const SCALED_MEANWHILE: usize = 3;

/// Runs helm until it has succeeded. What helm is refused for is repaired as far as the package allows; what is certain
/// to be refused is repaired before.
pub async fn apply(
    ctx: &Context,
    plan: &Plan,
    package: &Package<'_>,
    observer: &Observer,
    paused: &Paused<'_>,
) -> Result<(), Error> {
    let lease = paused.release().lease();
    same_claims(ctx, &plan.inventory.claims).await?;
    leftovers::none_going(ctx, &package.recreated).await?;
    let starts = if let Some(old_images) = &package.old_images {
        Some(Starts::watch(ctx, plan, old_images, observer).await)
    } else {
        observer.ready().await;
        None
    };
    note_started(ctx, lease, plan, starts.as_ref()).await;
    let done = bring(ctx, plan, package, observer, paused, starts.as_ref()).await;
    let (Err(_), Some(starts)) = (&done, &starts) else { return done };
    let old_images = package.old_images.as_ref();
    if old_images.is_some_and(|old| {
        started::may_start(&observer.seen(), &Versions::between(old, &plan.images, &plan.containers))
    }) {
        ctx.reporter.may_start();
    }
    // Rather once too often: nobody may go back over a database that may be migrated.
    let counts = |why: String| {
        tracing::warn!("{why}: a pod of the new version counts as started");
        true
    };
    let started = match going(ctx, lease, starts).await {
        Some(pod) => counts(format!("Pod/{pod} has not ended yet")),
        None => starts.may_have_been(ctx).await.unwrap_or_else(|also| counts(also.to_string())),
    };
    if started {
        started_now(ctx, lease, plan).await;
    }
    match done {
        Err(Error::Problem(problem)) if started && package.rollback_on_failure && plan.line == ProductLine::V2 => {
            Err(rolled_back_over(paused.release(), plan, problem).await.into())
        }
        done => done,
    }
}

/// A pod of the new version that is told to end and has not: whether a container of it started is known when it is gone. None
/// if there is none, or one was seen to start anyway.
async fn going(ctx: &Context, lease: &Held, starts: &Starts) -> Option<String> {
    let no_time = async {
        tokio::select! {
            () = ctx.stop.cancelled() => {}
            () = lease.lost().cancelled() => {}
            () = starts.seen().cancelled() => {}
        }
    };
    if let Some(pod) = starts.none_leaving(Duration::ZERO).await.filter(|_| !starts.seen().is_cancelled()) {
        ctx.reporter
            .progress(&format!("helm has failed; waiting for Pod/{pod} to end, to know whether it had started"));
    }
    tokio::select! {
        left = starts.none_leaving(ENDING) => left,
        () = no_time => starts.none_leaving(Duration::ZERO).await,
    }
}

/// helm's own way back may lead over a migrated database: a server that migrates is not stopped by SIGTERM, and goes on until
/// it has committed or is killed.
async fn rolled_back_over(release: &HeldRelease, plan: &Plan, problem: Box<Problem>) -> Box<Problem> {
    let Ok(history) = release.history().await else { return problem };
    let back = |newest: &Revision| newest.deployed() && newest.plan.as_deref() != Some(plan.id.as_str());
    if !history.first().is_some_and(back) {
        return problem;
    }
    let message = format!(
        "{}\nhelm has rolled back after a pod of {} had started: that may have migrated the database, even while it was ending, \
         and the older version may not work on it. Upgrade again, or restore the database",
        problem.message, plan.app_version
    );
    Problem { message, ..*problem }.boxed()
}

/// The same, without the look at what has started.
async fn bring(
    ctx: &Context,
    plan: &Plan,
    package: &Package<'_>,
    observer: &Observer,
    paused: &Paused<'_>,
    starts: Option<&Starts>,
) -> Result<(), Error> {
    let release = paused.release();
    let mut repairing = RepairContext::new(ctx, plan, package, release);
    let mut repairs = repairing.planned().await?;
    let foreseen = repairing.foreseen().await?;
    repairs.extend(foreseen.into_iter().filter(|repair| !repairs.contains(repair)).collect::<Vec<_>>());
    let mut values = replicas::kept(ctx, plan, package, repairing.live()).await?;
    if package.pauses {
        paused.begin(observer, package.timeout).await?;
    }
    let mut done: Vec<RepairAction> = Vec::new();
    let mut refused = false;
    let mut scaled_meanwhile = 0;
    loop {
        for repair in repairs {
            release.lease().still_held()?;
            let needed = Box::pin(repairing.perform(&repair)).await?;
            if refused && !needed && repair.remedy == Remedy::RewriteApis {
                let message =
                    "helm finds removed APIs in its records of the release, but this cluster serves all that they name";
                return Err(Problem::new(FailureClass::ApiRemoved, message).into());
            }
            // What helm was refused for is not repaired twice, needed or not.
            if refused || needed {
                done.push(repair);
            }
        }
        refused = true;
        let now = Package { values: values.as_deref().unwrap_or(package.values), ..package.clone() };
        let ended = run(ctx, release, plan, &now, &done, observer, starts).await?;
        let Err(Failed { failure, diagnosed, verdict }) = ended else {
            return repair::finish(ctx, release.lease(), package.workloads).await;
        };
        if package.halt.is_cancelled() {
            return Err(Error::helm(failure));
        }
        if let Some(verdict) = verdict {
            return Err(refused_to_start(&failure, verdict).into());
        }
        let causes = escalation::narrowed(failures::causes(&failure.text), &plan.objects);
        if scaled_meanwhile < SCALED_MEANWHILE && !causes.is_empty() && causes.iter().all(only_scaled) {
            scaled_meanwhile += 1;
            let newer = replicas::kept(ctx, plan, package, &[]).await?;
            if newer.is_some() {
                (values, repairs) = (newer, Vec::new());
                continue;
            }
        }
        repairs = match escalation::next(&causes, &done, package.recovery) {
            Next::Repair(repairs) => repairs,
            Next::Stop(remedy) => {
                let problem = explained(ctx, plan, failure, causes, &observer.seen(), diagnosed).await;
                return Err(Problem { remedy, ..problem }.into());
            }
        };
    }
}

/// helm has failed.
struct Failed {
    failure: HelmFailure,
    /// The pod that was in trouble last.
    diagnosed: Option<PodDiagnosis>,
    /// Why it was stopped before its time, if it was.
    verdict: Option<StartFailure>,
}

/// Runs helm once, with the rollout as progress. It is stopped once the new version has said twice that it will never start.
async fn run(
    ctx: &Context,
    release: &HeldRelease,
    plan: &Plan,
    package: &Package<'_>,
    done: &[RepairAction],
    observer: &Observer,
    starts: Option<&Starts>,
) -> Result<Result<(), Failed>, Error> {
    let lease = release.lease();
    let down = if package.is_down(plan) { "Coder is down; " } else { "" };
    ctx.reporter.progress(&format!("{down}running helm to bring release {} to {}", plan.release, package.version));
    let did = |remedy: Remedy| done.iter().any(|repair| repair.remedy == remedy);
    // Read again: labels with the number of a revision that a person makes meanwhile would count for nobody.
    let number = history::next_number(&release.refresh().await?);
    let labels = storage::labels(&plan.id, number, package.restores);
    let upgrade = Upgrade {
        release: &plan.release,
        namespace: &ctx.namespace,
        chart: package.chart,
        values: package.values,
        labels: &labels,
        timeout: package.timeout,
        // The way back would be refused for what was replaced, in the other direction.
        rollback_on_failure: package.rollback_on_failure && !did(Remedy::Replace),
        take_ownership: did(Remedy::Adopt),
    };
    let (mut diagnosed, mut listener) = (None, StartupLogs::ignoring(&observer.seen()));
    let stop = ctx.stop.child_token();
    let arguments = upgrade.arguments(ctx.helm.major());
    let ended = tokio::select! {
        ended = release.helm(ctx, &arguments, &stop) => ended?,
        never = tell(ctx, plan, observer, &mut diagnosed, &mut listener, &stop) => match never {},
        never = note_starts(ctx, lease, plan, starts) => match never {},
        never = halt(&package.halt, &stop) => match never {},
    };
    note_started(ctx, lease, plan, starts).await;
    let Err(failure) = ended else { return Ok(Ok(())) };
    lease.still_held()?;
    Ok(Err(Failed { failure, diagnosed, verdict: listener.verdict().cloned() }))
}

/// Records it if a pod of the new version has begun its work.
async fn note_started(ctx: &Context, lease: &Held, plan: &Plan, starts: Option<&Starts>) {
    if starts.is_some_and(Starts::have_begun) {
        started_now(ctx, lease, plan).await;
    }
}

/// The same as soon as one has, be it of a hook, or for a moment only.
async fn note_starts(ctx: &Context, lease: &Held, plan: &Plan, starts: Option<&Starts>) -> std::convert::Infallible {
    if let Some(starts) = starts {
        starts.seen().cancelled().await;
        started_now(ctx, lease, plan).await;
    }
    std::future::pending().await
}

/// Stops helm once it shall end.
async fn halt(halt: &CancellationToken, stop: &CancellationToken) -> std::convert::Infallible {
    halt.cancelled().await;
    stop.cancel();
    std::future::pending().await
}

/// Says how the rollout goes, whenever something changes, and hears each pod in trouble: after a rollback it is gone. Servers
/// that are long in starting are listened to; what they say can end the wait.
async fn tell(
    ctx: &Context,
    plan: &Plan,
    observer: &Observer,
    diagnosed: &mut Option<PodDiagnosis>,
    listener: &mut StartupLogs,
    stop: &CancellationToken,
) -> std::convert::Infallible {
    let waits = Waits::of(ctx, plan);
    let mut look = interval(OTHERS);
    loop {
        let mut others = false;
        tokio::select! {
            () = observer.changed() => {}
            () = listener.due() => {}
            _ = look.tick() => others = true,
        }
        let seen = observer.seen();
        listener.listen(ctx, &seen).await;
        if let Some(line) = listener.line(&seen, Timestamp::now()).or_else(|| progress::line(&seen)) {
            ctx.reporter.progress(&line);
        } else if others && let Some((object, why)) = waits.first().await {
            ctx.reporter.progress(&format!("all pods are ready; helm waits for {object}: {why}"));
        }
        if let Some(StartFailure { pod, refusal, .. }) = listener.verdict().filter(|_| !stop.is_cancelled()) {
            tracing::error!("Pod/{pod} {}; helm need not wait any longer", refusal.message);
            stop.cancel();
        }
        let news =
            |pod: &&PodFacts| pod.trouble().is_some_and(|now| diagnosed.as_ref().is_none_or(|h| h.trouble != now));
        if let Some(pod) = diagnosis::failing_pod(&seen).filter(news) {
            *diagnosed = Some(diagnosis::diagnose(ctx, pod).await);
        }
    }
}

/// helm was stopped, because the new version will not start however long it is waited for.
fn refused_to_start(failure: &HelmFailure, verdict: StartFailure) -> Problem {
    let StartFailure { pod, refusal, log } = verdict;
    let message = format!(
        "Pod/{pod} {}; helm was stopped, because waiting does not help: {}",
        refusal.message,
        failures::shortened(&failure.text)
    );
    Problem { excerpt: log, ..Problem::new(refusal.class, message).object(format!("Pod/{pod}")) }
}

/// A failure of helm, with the pod that explains it.
async fn explained(
    ctx: &Context,
    plan: &Plan,
    failure: HelmFailure,
    causes: Vec<Cause>,
    observed: &[WorkloadPods],
    diagnosed: Option<PodDiagnosis>,
) -> Problem {
    let cause = waited_for(&causes).unwrap_or_else(|| failures::worst_of(causes));
    let mut problem = of_cause(cause, &failure.text);
    let class = problem.class;
    // helm 3 does not name what it waited for.
    if class == FailureClass::RolloutTimedOut
        && problem.object.is_none()
        && progress::line(observed).is_none()
        && let Some((object, why)) = Waits::of(ctx, plan).first().await
    {
        let message = format!("{object} is not ready: {why}\n{}", problem.message);
        return Problem::new(FailureClass::ObjectNotReady, message).object(object.to_string());
    }
    let waited = matches!(class, FailureClass::RolloutTimedOut | FailureClass::HookFailed | FailureClass::Unknown)
        && problem.field.is_none();
    if !waited {
        return problem;
    }
    let told = match diagnosis::failing_pod(observed) {
        Some(pod) if pod.trouble().is_some() || diagnosed.is_none() => Some(diagnosis::diagnose(ctx, pod).await),
        _ => diagnosed,
    };
    let Some(PodDiagnosis { pod, trouble, log, refusal }) = told else { return problem };
    problem.excerpt = log;
    if let Some(refusal) = refusal {
        problem.message = format!("Pod/{pod} {}\n{}", refusal.message, problem.message);
        (problem.class, problem.object) = (refusal.class, Some(format!("Pod/{pod}")));
    } else {
        // The first line is what stands in a column of `kubectl get`.
        problem.message = format!("Pod/{pod}: {trouble}\n{}", problem.message);
        problem.object.get_or_insert_with(|| format!("Pod/{pod}"));
    }
    problem
}
