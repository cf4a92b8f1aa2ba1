//! One pass.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::runtime::controller::Action as Next;
use tracing::{debug, info, warn};

use super::{
    context::Context,
    drain, drift, execute,
    observe::{fresh, observe, recorded_job, runner_ended},
    request::ReconcileError,
    words,
};
use crate::api::CoderUpgrade;
use crate::core::decide::observed::Observed;
use crate::core::decide::{Event, obstructed};

/// Most writes in one pass. A pass that needs more is not coming to rest; it is left for the next event.
const WRITES: usize = 8;
/// When a stale view was met and no event follows.
const STALE: Duration = Duration::from_secs(2);
/// When the API server failed.
const FAILED: Duration = Duration::from_secs(5);
/// When the Job of a step could not be created for a minute.
const OBSTRUCTED: Duration = Duration::from_secs(20);

/// Events, each with the Job that it is about.
type Events = Vec<(Event, Option<String>)>;

/// One pass, and beside what follows the events that it gave rise to: nobody waits for these.
pub async fn reconcile(upgrade: Arc<CoderUpgrade>, context: Arc<Context>) -> Result<Next, ReconcileError> {
    context.places.seed(&context.upgrades);
    let mut events = Events::new();
    let begun = Instant::now();
    let next = Box::pin(pass(&upgrade, &context, &mut events)).await;
    context.metrics.passed(begun.elapsed());
    if !events.is_empty() {
        execute::publish(context, upgrade, events);
    }
    next
}

/// Observes, decides and does what was decided, until nothing is left to do.
///
/// The cached object may say that there is nothing to do, which costs no request, and may be the base of a status
/// write, which its resourceVersion guards. An action is decided on the object as stored: the one just written, or one
/// just read.
async fn pass(upgrade: &CoderUpgrade, context: &Context, events: &mut Events) -> Result<Next, ReconcileError> {
    let mut current = upgrade.clone();
    let mut stored = false;
    let mut words = None;
    for _ in 0..WRITES {
        let left = drain::look(&context.drains, &context.client, &context.upgrades, &current).await?;
        let drift = drift::look(&context.workloads, &context.client, &current).await?;
        let mut observed = Observed { left, drift, ..observe(context, current) };
        recorded_job(context, &mut observed).await?;
        runner_ended(context, &mut observed).await?;
        if words.is_none() {
            words = words::look(context, &observed).await;
        }
        observed.words.clone_from(&words);
        let mut decision = context.places.decide(&mut observed);
        current = observed.upgrade;
        if current.status.as_ref() != Some(&decision.status) {
            decision.status = execute::clean(decision.status);
        }
        if current.status.as_ref() != Some(&decision.status) {
            info!(phase = %decision.status.phase, "{}", decision.status.message);
            current = execute::write_status(context, &current, decision.status).await?;
            stored = true;
            let job = current.status.as_ref().and_then(|status| status.steps.last()).map(|step| step.job_name.clone());
            events.extend(decision.events.into_iter().map(|event| (event, job.clone())));
            continue;
        }
        let Some(action) = decision.action else {
            return Ok(decision.wake.map_or_else(Next::await_change, Next::requeue));
        };
        if !stored {
            let Some(found) = fresh(context, &current).await? else { return Ok(Next::await_change()) };
            current = found;
            stored = true;
            continue;
        }
        info!("{action}");
        match execute::execute(context, &current, action).await {
            Ok(Some(changed)) => current = changed,
            Ok(None) => return Ok(decision.wake.map_or_else(Next::await_change, Next::requeue)),
            Err(error) => {
                tell_obstruction(context, current, &error, events).await?;
                return Err(error);
            }
        }
    }
    Ok(Next::requeue(STALE))
}

/// Puts what keeps the step from beginning into the status, once.
async fn tell_obstruction(
    context: &Context,
    upgrade: CoderUpgrade,
    error: &ReconcileError,
    events: &mut Events,
) -> Result<(), ReconcileError> {
    let Some(found) = error.obstruction() else { return Ok(()) };
    let observed = observe(context, upgrade);
    context.places.give_back(observed.uid());
    let mut decision = obstructed(&observed, found.clone());
    decision.status = execute::clean(decision.status);
    if observed.upgrade.status.as_ref() != Some(&decision.status) {
        execute::write_status(context, &observed.upgrade, decision.status).await?;
        events.extend(decision.events.into_iter().map(|event| (event, None)));
    }
    Ok(())
}

/// When to look again after a pass that could not be finished.
#[allow(clippy::needless_pass_by_value)] // the signature is kube's
pub fn after_error(upgrade: Arc<CoderUpgrade>, error: &ReconcileError, context: Arc<Context>) -> Next {
    context.metrics.failed(error.kind());
    if error.is_stale() {
        debug!(%error, "stale view");
        return Next::requeue(STALE);
    }
    warn!(%error, "pass not finished");
    let blocked = upgrade.status.as_ref().and_then(|status| status.blocked.as_ref());
    let long = blocked.is_some_and(|blocked| blocked.since.0 + OBSTRUCTED * 3 < Timestamp::now());
    Next::requeue(if long && error.obstruction().is_some() { OBSTRUCTED } else { FAILED })
}
