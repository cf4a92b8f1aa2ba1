//! The uninstall step: removes the release, but not what cannot be made again. Values, records and data stay.

use std::time::Duration;

use clap::{ArgAction, Args};
use kube::ResourceExt;

use super::fence::fenced;
use super::plan::held;
use super::plan_secret::SavedPlan;
use crate::api::{FailureClass, Installed};
use crate::core::helm::documents::Documents;
use crate::core::helm::history::History;
use crate::core::helm::hooks::{HelmAction, Hook};
use crate::core::helm::ownership::Owner;
use crate::core::object::ObjectRef;
use crate::core::plan::Plan;
use crate::core::repair::disposable::is_disposable;
use crate::core::report::{Problem, Uninstalled};
use crate::core::steps::keep::is_kept;
use crate::core::steps::uninstall;
use crate::core::steps::uninstall::UninstallWork;
use crate::core::text::duration::duration;
use crate::runner::cluster::kinds;
use crate::runner::cluster::leftovers;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::HelmFailure;
use crate::runner::helm::held_release::HeldRelease;
use crate::runner::helm::merge_base::MergeBase;
use crate::runner::repair::risk;
use crate::runner::repair::serve;
use crate::runner::rollout::verify::same_claims;

/// How long helm waits for the objects. Most are gone by then; what takes longer is watched by the controller, which can
/// say why.
const WAIT: Duration = Duration::from_secs(5);

/// Arguments of the uninstall step.
#[derive(Clone, Debug, Args)]
pub struct UninstallOrder {
    /// How long helm may wait for hooks; for objects it waits less if this is long
    #[arg(long, env = "RUNNER_HELM_TIMEOUT", default_value = "30m", value_parser = duration)]
    helm_timeout: Duration,

    /// Whether `LoadBalancer` Services and Ingresses that the new chart still has are kept
    #[arg(long, env = "RUNNER_KEEP_ADDRESSES", default_value_t = true, action = ArgAction::Set)]
    keep_addresses: bool,
}

/// Uninstalls the release of the plan, or does what an earlier try has left to do.
pub async fn run(ctx: &Context, order: &UninstallOrder, saved: &SavedPlan) -> Result<Uninstalled, Error> {
    held::hold(ctx, saved).await?;
    let done =
        Box::pin(fenced(ctx, &saved.plan.release, async |release| remove(ctx, order, saved, release).await)).await;
    // The plan is needed from here on, whichever way this ended.
    if let Err(also) = held::hold(ctx, saved).await {
        tracing::error!("{also}");
    }
    done
}

async fn remove(
    ctx: &Context,
    order: &UninstallOrder,
    saved: &SavedPlan,
    release: &HeldRelease,
) -> Result<Uninstalled, Error> {
    let plan = &saved.plan;
    let before = &*release.history().await?;
    let restored = saved.is_restored(release.storage(), before).await?;
    match uninstall::left(plan, before, restored) {
        UninstallWork::Outdated(how) => return Err(Problem::new(FailureClass::PlanOutdated, how).into()),
        UninstallWork::Gone => return gone(ctx, saved).await,
        UninstallWork::Nothing => tracing::info!("helm has uninstalled the release already in an earlier try"),
        UninstallWork::Uninstall => uninstall(ctx, order, plan, release, before).await?,
        UninstallWork::Unlock(revision) => {
            same_claims(ctx, &plan.inventory.claims).await?;
            release.unlock(&revision, "interrupted: the helm process was killed").await?;
            uninstall(ctx, order, plan, release, before).await?;
        }
    }
    let (current, mut documents) = newest(ctx, release).await?;
    let mut kept = Vec::new();
    for name in documents.keep(|_| false) {
        // What a failed upgrade has brought stands in the record even if a rollback by helm has deleted it again.
        let live = kinds::live(ctx, &name).await?;
        if live.is_some_and(|live| live.metadata.deletion_timestamp.is_none()) {
            kept.push(name.to_string());
        }
    }
    let leftovers = leftovers::find(ctx, plan, &documents).await?;
    Ok(Uninstalled { current, kept, leftovers })
}

/// The records are gone, and with them helm's work: the saved plan is installed over whatever is left.
async fn gone(ctx: &Context, saved: &SavedPlan) -> Result<Uninstalled, Error> {
    let plan = &saved.plan;
    tracing::warn!("the release is gone, with all its records: the saved plan is installed");
    same_claims(ctx, &plan.inventory.claims).await?;
    let status = "uninstalled".to_owned();
    let current = plan.from.clone().map_or_else(
        || Installed {
            version: plan.version.clone(),
            app_version: Some(plan.app_version.clone()),
            revision: 0,
            status: status.clone(),
            line: plan.line,
        },
        |from| Installed { status: status.clone(), ..from },
    );
    let documents = Documents::parse(saved.previous_manifest(), &ctx.namespace)?;
    let leftovers = leftovers::find(ctx, plan, &documents).await?;
    Ok(Uninstalled { current, kept: Vec::new(), leftovers })
}

/// Prepares helm's record, and runs helm.
async fn uninstall(
    ctx: &Context,
    order: &UninstallOrder,
    plan: &Plan,
    release: &HeldRelease,
    before: &History,
) -> Result<(), Error> {
    let storage = release.storage();
    same_claims(ctx, &plan.inventory.claims).await?;
    let applied = uninstall::applied(plan, before);
    let documents = storage.union(applied, &[], &ctx.namespace).await?;
    let owned_by_others = owned_by_others(ctx, plan, &documents).await?;
    let kept = |name: &ObjectRef| owned_by_others.contains(name) || is_kept(plan, order.keep_addresses, name);
    let hooks = match applied.first() {
        Some(newest) => storage.read(newest).await?.record.hook_objects(&ctx.namespace)?,
        None => Vec::new(),
    };
    let marked = safe(ctx, &documents, &kept, &hooks).await?;
    let kept = |name: &ObjectRef| marked.contains(name) || kept(name);
    let record = mark(ctx, release, applied, documents, kept).await?;
    ctx.reporter.progress(&format!("uninstalling release {}; its volumes, values and records stay", plan.release));
    // Hooks of the uninstall may take as long as any. helm's timeout is theirs as well, so it waits for nothing else then.
    let hooked = hooks.iter().any(|hook| hook.runs_in(HelmAction::Uninstall));
    let wait = if hooked { Wait::Hooks(order.helm_timeout) } else { Wait::Objects(order.helm_timeout.min(WAIT)) };
    let mut ended = helm(ctx, release, plan, wait, &[]).await?;
    if ended.as_ref().is_err_and(|failure| failure.text.contains("failed to delete release")) {
        // These words hide the cause. helm says it when asked to, and perhaps it succeeds now.
        ended = helm(ctx, release, plan, wait, &["--debug"]).await?;
    }
    match ended {
        Ok(()) => Ok(()),
        Err(failure) if is_done(&failure) => {
            tracing::info!("going on: {}", failure.text);
            Ok(())
        }
        Err(failure) => {
            // Whoever uninstalls the release by hand later would be left with what was marked.
            if let Some(record) = record {
                record.restore(release).await.unwrap_or_else(|also| tracing::warn!("{also}"));
            }
            Err(refused(failure))
        }
    }
}

/// What helm waits for, and how long.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// Until the objects are gone.
    Objects(Duration),
    /// Until the hooks have ended.
    Hooks(Duration),
}

/// Refuses if helm would delete what may hold data, or own it. Returns what of that stays because a person has marked it.
async fn safe(
    ctx: &Context,
    documents: &Documents,
    kept: impl Fn(&ObjectRef) -> bool,
    hooks: &[Hook],
) -> Result<Vec<ObjectRef>, Error> {
    let (mut going, mut marked) = (Vec::new(), Vec::new());
    let mut left = documents.clone();
    let by_chart = left.keep(|_| false);
    for (name, _) in documents.objects().filter(|(name, _)| !kept(name) && !by_chart.contains(name)) {
        if is_disposable(&name) {
            going.push(name);
            continue;
        }
        let Some(live) = kinds::live(ctx, &name).await? else { continue };
        if !risk::is_marked(&live) {
            return Err(risk::stays(&name, "the release is uninstalled, and the new chart has it no more").into());
        }
        marked.push(name);
    }
    risk::none_at_risk(ctx, hooks, HelmAction::Uninstall, going).await?;
    Ok(marked)
}

/// The objects of the records that belong to somebody else by now: helm would delete them without a question. Refuses if
/// the new chart has one of them, too, as it could not be installed then.
async fn owned_by_others(ctx: &Context, plan: &Plan, documents: &Documents) -> Result<Vec<ObjectRef>, Error> {
    let mut owned_by_others = Vec::new();
    for (name, _) in documents.objects() {
        let Some(live) = kinds::live(ctx, &name).await? else { continue };
        let owner = Owner::of(live.labels(), live.annotations(), &plan.release, &ctx.namespace);
        if matches!(owner, Owner::Release | Owner::Nobody) {
            continue;
        }
        if plan.objects.iter().any(|object| object.same(&name)) {
            let message = format!("{name} belongs to {owner}, and the new chart has it, too; nothing was touched");
            return Err(Problem::new(FailureClass::OwnedByOther, message).object(name.to_string()).into());
        }
        tracing::info!("{name} belongs to {owner}: it stays");
        owned_by_others.push(name);
    }
    Ok(owned_by_others)
}

/// Writes the union into the newest revision, whose objects are all that helm uninstalls, with what is to be kept marked.
/// Returns how the record was, if it was changed.
async fn mark(
    ctx: &Context,
    release: &HeldRelease,
    applied: &History,
    mut documents: Documents,
    kept: impl Fn(&ObjectRef) -> bool,
) -> Result<Option<MergeBase>, Error> {
    let Some(newest) = applied.first() else { return Ok(None) };
    let mut stored = release.storage().read(newest).await?;
    let manifest = stored.record.manifest().to_owned();
    let as_it_is = Documents::parse(&manifest, &ctx.namespace)?.text();
    let kept = documents.keep(kept);
    // helm cannot uninstall what it finds no API for.
    serve(ctx, &mut documents).await?;
    let extended = documents.text();
    if !kept.is_empty() {
        tracing::info!("keeping {}", kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    }
    if extended == as_it_is {
        return Ok(None);
    }
    // Written temporarily, so that a runner that is killed leaves nothing to be mistaken; without that only if there is no room for both.
    match release.write_temporarily(&stored, extended.clone()).await {
        Err(Error::Problem(problem)) if problem.class == FailureClass::TooLarge => {
            stored.record.set_manifest(extended.clone());
            release.rewrite(&stored).await?;
        }
        written => written?,
    }
    Ok(Some(MergeBase { revision: newest.clone(), manifest, extended }))
}

async fn helm(
    ctx: &Context,
    release: &HeldRelease,
    plan: &Plan,
    wait: Wait,
    more: &[&str],
) -> Result<Result<(), HelmFailure>, Error> {
    let (timeout, waits): (Duration, &[&str]) = match wait {
        Wait::Objects(timeout) => (timeout, &["--wait"]),
        Wait::Hooks(timeout) => (timeout, &[]),
    };
    let timeout = format!("{}s", timeout.as_secs().max(1));
    let arguments =
        ["uninstall", &plan.release, "--namespace", &ctx.namespace, "--keep-history", "--timeout", &timeout];
    let arguments = arguments.into_iter().chain(waits.iter().copied()).chain(more.iter().copied());
    let arguments: Vec<String> = arguments.map(Into::into).collect();
    let ended = release.helm(ctx, &arguments, &ctx.stop).await?;
    if ended.is_err() {
        release.lease().still_held()?;
    }
    Ok(ended)
}

/// Whether helm has deleted what it could: it has, if it only waited in vain, or had done it before.
fn is_done(failure: &HelmFailure) -> bool {
    ["uninstallation completed with", "is already deleted"].iter().any(|text| failure.text.contains(text))
}

fn refused(failure: HelmFailure) -> Error {
    let problem = Error::helm(failure).into_problem();
    let class = match problem.class {
        FailureClass::Unknown => FailureClass::UninstallFailed,
        known => known,
    };
    Problem { class, ..problem }.into()
}

/// The newest revision, which helm must have marked as uninstalled, and what it holds.
async fn newest(ctx: &Context, release: &HeldRelease) -> Result<(Installed, Documents), Error> {
    let failed = |message: String| Problem::new(FailureClass::UninstallFailed, message);
    let history = release.history().await?;
    let newest = history.first().ok_or_else(|| failed("the records of the release are gone".into()))?;
    if newest.status != "uninstalled" {
        let message = format!("helm ended, but revision {} is {} and not uninstalled", newest.number, newest.status);
        return Err(failed(message).object(format!("Secret/{}", newest.secret)).into());
    }
    let stored = release.storage().read(newest).await?;
    let installed = stored.record.installed().map_err(|source| stored.broken(source))?;
    Ok((installed, Documents::parse(stored.record.manifest(), &ctx.namespace)?))
}
