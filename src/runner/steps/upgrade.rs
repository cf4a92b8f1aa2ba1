//! The upgrade step, and the install step after an uninstall: does what the plan says, and nothing that is done already.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{ArgAction, Args};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio_util::sync::CancellationToken;

use super::apply::apply;
use super::fence::fenced;
use super::pause::Paused;
use super::plan::held;
use super::plan_secret::SavedPlan;
use super::proof::ExpectedRelease;
use crate::api::{CheckName, FailureClass, Finding, Recovery, Remedy, Repair, ScaledDown, Severity};
use crate::core::helm::documents::Documents;
use crate::core::helm::history;
use crate::core::helm::history::Revision;
use crate::core::helm::hooks;
use crate::core::helm::hooks::Hook;
use crate::core::helm::version;
use crate::core::object::ObjectRef;
use crate::core::plan::Plan;
use crate::core::repair::disposable::is_disposable;
use crate::core::report::{Problem, Upgraded};
use crate::core::rollout::started;
use crate::core::rollout::started::Versions;
use crate::core::steps::upgrade::{Start, UpgradeWork, work};
use crate::core::text::duration::duration;
use crate::runner::cluster::highest_version;
use crate::runner::cluster::lease::Held;
use crate::runner::context::{Context, server_time};
use crate::runner::error::Error;
use crate::runner::helm::held_release::HeldRelease;
use crate::runner::helm::merge_base::{extended, failed_before};
use crate::runner::helm::package::Package;
use crate::runner::repair;
use crate::runner::repair::risk;
use crate::runner::rollout::observer::Observer;
use crate::runner::rollout::starts::started_now;
use crate::runner::rollout::verify::same_claims;

/// Arguments of the steps that lead to a verified Coder: upgrade, install and restore.
#[derive(Clone, Debug, Args)]
pub struct UpgradeOrder {
    /// How long helm waits for the objects of the release
    #[arg(long, env = "RUNNER_HELM_TIMEOUT", default_value = "30m", value_parser = duration)]
    pub helm_timeout: Duration,

    /// How long to wait until every pod answers with the right version
    #[arg(long, env = "RUNNER_VERIFY_TIMEOUT", default_value = "10m", value_parser = duration)]
    pub verify_timeout: Duration,

    /// How long everything must stay right
    #[arg(long, env = "RUNNER_SOAK", default_value = "30s", value_parser = duration)]
    pub soak: Duration,

    /// How far a refusal may be repaired: stop, repair or reinstall
    #[arg(long, env = "RUNNER_RECOVERY", default_value = "repair")]
    pub recovery: Recovery,

    /// A pod of the new version may have started in an earlier step
    #[arg(long, env = "RUNNER_NEW_VERSION_STARTED", default_value_t = false, action = ArgAction::Set)]
    pub new_version_started: bool,

    /// Something of the release was removed in an earlier step and is not back yet
    #[arg(long, env = "RUNNER_RECOVERY_REQUIRED", default_value_t = false, action = ArgAction::Set)]
    recovery_required: bool,

    /// A person has approved the repairs of this plan, and with them that the lock of somebody else is released
    #[arg(long, env = "RUNNER_REPAIR_APPROVED", default_value_t = false, action = ArgAction::Set)]
    repair_approved: bool,

    /// Workloads that an earlier try has scaled to zero, as Kind/name=replicas
    #[arg(long, env = "RUNNER_SCALED_DOWN", value_delimiter = ',')]
    pub scaled_down: Vec<ScaledDown>,
}

/// Makes the upgrade, or what is left of it, and verifies it. `start` is what the step finds.
pub async fn run(ctx: &Context, order: &UpgradeOrder, saved: &SavedPlan, start: Start) -> Result<Upgraded, Error> {
    let plan = &saved.plan;
    let held = held::hold(ctx, saved).await?;
    let done = Box::pin(fenced(ctx, &plan.release, async |release| {
        if order.new_version_started {
            started_now(ctx, release.lease(), plan).await;
        }
        not_below(release.lease(), plan)?;
        let paused = Paused::new(ctx, release, plan, saved.previous.as_ref(), &order.scaled_down)?;
        let done = Box::pin(change(ctx, order, saved, start, &paused)).await;
        paused.end(done).await
    }))
    .await;
    held::end(ctx, saved, &held, done).await
}

async fn change(
    ctx: &Context,
    order: &UpgradeOrder,
    saved: &SavedPlan,
    start: Start,
    paused: &Paused<'_>,
) -> Result<Upgraded, Error> {
    let (plan, release) = (&saved.plan, paused.release());
    let before = &*release.history().await?;
    let observer = Observer::start(ctx, &plan.chart_name, plan.line, &plan.workloads);
    let restored = saved.is_restored(release.storage(), before).await?;
    // Begun to be restored while a pod of the new version started after all: that one stays.
    let overcome = order.new_version_started
        && before.first().is_some_and(|newest| newest.restored && newest.plan.as_deref() == Some(plan.id.as_str()));
    let run = match work(plan, before, start, restored, order.recovery_required) {
        UpgradeWork::Outdated(_) if overcome => true,
        UpgradeWork::Verify => {
            tracing::info!("helm has succeeded already in an earlier try; verifying");
            false
        }
        UpgradeWork::Outdated(how) => return Err(Problem::new(FailureClass::PlanOutdated, how).into()),
        UpgradeWork::UninstallInterrupted(revision) => return Err(uninstall_interrupted(&revision).into()),
        UpgradeWork::Run => true,
        UpgradeWork::Unlock(revision) => {
            unlock(ctx, order, plan, release, &revision, restored).await?;
            // Nobody has seen what the hooks did that a killed runner's helm had begun.
            let ours = revision.plan.as_deref() == Some(plan.id.as_str());
            if ours && plan.hooks.iter().any(|hook| runs_again(hook, paused.old_images())) {
                started_now(ctx, release.lease(), plan).await;
            }
            true
        }
    };
    if run {
        risk::keep_owned(ctx, release, plan, before).await?;
        let package = Package {
            version: &plan.version,
            chart: &saved.chart(),
            values: &saved.values(),
            restores: false,
            recreated: if start == Start::Uninstalled { plan.objects.clone() } else { Vec::new() },
            timeout: order.helm_timeout,
            // A failed install that helm "rolls back" is uninstalled, with its records: nothing of it would be left.
            // And helm would delete what the chart has added, be it data or not.
            rollback_on_failure: plan.rollback_on_failure && start == Start::Planned && !adds_data(ctx, saved)?,
            recovery: order.recovery,
            workloads: &plan.workloads,
            // After an uninstall there is no Coder left to stop.
            pauses: start == Start::Planned,
            old_images: Some(paused.old_images().clone()),
            halt: CancellationToken::new(),
        };
        let applied = Box::pin(apply(ctx, plan, &package, &observer, paused));
        // helm's own way back would put the extended record into the cluster.
        if !package.rollback_on_failure && failed_before(release).await? {
            extended(ctx, release, plan, &plan.objects, applied).await?;
        } else {
            applied.await?;
        }
    } else {
        started_now(ctx, release.lease(), plan).await;
        repair::finish(ctx, release.lease(), &plan.workloads).await?;
    }
    paused.resume().await?;
    if started::may_start(&observer.seen(), &Versions::between(paused.old_images(), &plan.images, &plan.containers)) {
        ctx.reporter.may_start();
    }
    let target = ExpectedRelease::of(plan, order.verify_timeout, order.soak, order.recovery);
    let upgraded = target.verified(ctx, release, observer).await?;
    highest_version::confirm(release.lease(), plan.coder_version()).await?;
    Ok(upgraded)
}

/// Refuses the upgrade if a pod of a higher version may have started since the plan was made.
fn not_below(lease: &Held, plan: &Plan) -> Result<(), Box<Problem>> {
    let overridden =
        |finding: &Finding| finding.check == CheckName::Downgrade && finding.severity == Severity::Overridden;
    let Some(highest) = highest_version::known(lease) else { return Ok(()) };
    let lower = version::higher(Some(&highest), plan.coder_version()) == highest && highest != plan.coder_version();
    let same_line = version::parse(&highest).is_some_and(|highest| version::product_line(&highest) == plan.line);
    if !lower || !same_line || plan.findings.iter().any(overridden) {
        return Ok(());
    }
    let message = format!(
        "a pod of {highest} may have started and migrated the database: {} is not put over it",
        plan.coder_version()
    );
    Err(Problem::new(FailureClass::Downgrade, message).field("spec.version").boxed())
}

/// Whether a hook of the change runs an image that the old version does not have.
fn runs_again(hook: &Hook, old_images: &BTreeSet<String>) -> bool {
    hook.runs_in(hooks::HelmAction::Change) && hook.images.iter().any(|image| !old_images.contains(image))
}

/// Whether the new chart has objects that may hold data, or own it, and the release has not.
fn adds_data(ctx: &Context, saved: &SavedPlan) -> Result<bool, Error> {
    let old = Documents::parse(saved.previous_manifest(), &ctx.namespace)?;
    let known = |object: &ObjectRef| old.objects().any(|(name, _)| name.same(object));
    Ok(saved.plan.objects.iter().any(|object| !is_disposable(object) && !known(object)))
}

/// Releases the lock on a revision. That of a helm process which was not started by this operator may still be at work:
/// without a person's word it counts as left behind only after a time that no helm process is told to wait.
async fn unlock(
    ctx: &Context,
    order: &UpgradeOrder,
    plan: &Plan,
    release: &HeldRelease,
    revision: &Revision,
    restored: bool,
) -> Result<(), Error> {
    let secret = format!("Secret/{}", revision.secret);
    let since = revision.written.map(|time| format!(" since {time}")).unwrap_or_default();
    let (object, number, status) = (secret.clone(), revision.number, &revision.status);
    let ours = revision.plan.is_some() || (restored && plan.rollback_on_failure);
    let why = if ours {
        format!("revision {number} is {status}: a helm process was killed in the middle")
    } else if order.repair_approved {
        format!("revision {number} has been {status}{since}: a person says that no helm process works on it")
    } else if history::left_behind(revision, server_time(ctx).await?) {
        let why = format!("revision {number} has been {status}{since}: its helm process was killed");
        if order.recovery < Remedy::Unlock.needs() {
            let problem = Problem::new(FailureClass::ReleaseLocked, why).object(object);
            return Err(Problem { remedy: Some(Remedy::Unlock), ..problem }.into());
        }
        why
    } else {
        let why =
            format!("revision {number} has been {status}{since}: a helm process of somebody else may be at work on it");
        return Err(Problem::new(FailureClass::ReleaseLocked, why).object(object).into());
    };
    same_claims(ctx, &plan.inventory.claims).await?;
    let message = format!("{why}; it is marked as failed");
    ctx.reporter.repair(Repair { remedy: Remedy::Unlock, object, message, time: Time(Timestamp::now()) }).await?;
    release.unlock(revision, "interrupted: the helm process that worked on it is gone").await?;
    ctx.reporter.repaired();
    Ok(())
}

/// helm says of such a release that it has no deployed releases. To end the uninstall is the way out of it.
fn uninstall_interrupted(revision: &Revision) -> Problem {
    let message = format!(
        "the uninstall of revision {} was interrupted: parts of the release are gone, and helm can neither upgrade nor \
         install it before the uninstall is ended",
        revision.number
    );
    let problem = Problem::new(FailureClass::HistoryBroken, message).object(format!("Secret/{}", revision.secret));
    Problem { remedy: Some(Remedy::Reinstall), ..problem }
}
