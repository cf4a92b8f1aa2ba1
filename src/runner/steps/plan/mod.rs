//! The plan step: finds out everything that an upgrade needs, changes nothing but one Secret.

mod chart;
mod checks;
pub mod held;
mod id;
mod marks;
mod presence;
mod prune;
pub mod rehearsal;
mod rehearsed;
mod release;
mod rendered_again;
pub mod secret;
mod surroundings;
mod takes;
mod values;

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use kube::{Api, ResourceExt};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use self::chart::Fetched;
use self::rehearsed::{Outlook, outlook};
use self::release::Release;
pub use self::takes::takes;
use crate::api::{
    ClaimStatus, CoderUpgrade, CoderUpgradeSpec, FailureClass, Forecast, PlanSummary, PlannedAction, Target,
};
use crate::core;
use crate::core::allowed::{OFFICIAL, Repositories, RepositoryPattern};
use crate::core::helm::documents::Documents;
use crate::core::helm::hooks::Hook;
use crate::core::helm::values::lost_nulls as lost;
use crate::core::helm::version;
use crate::core::plan::checks::{Foreseen, judged, order, refused};
use crate::core::plan::difference;
use crate::core::plan::difference::{Difference, Sides};
use crate::core::plan::rehearsal::Rehearsal;
use crate::core::plan::{Pause, Plan};
use crate::core::report::{PlanReport, Problem};
use crate::core::rollout::inventory::Inventory;
use crate::core::rollout::started;
use crate::core::rollout::verify::Expected;
use crate::core::text::digest::hex;
use crate::core::text::duration::duration;
use crate::runner::cluster::{highest_version, inventory, pod_secrets};
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::helm::storage::Storage;
use crate::runner::io;
use crate::runner::repair::begun;
use crate::runner::repair::risk;
use crate::runner::rollout::goal::Goal;
use crate::runner::rollout::health;
use crate::runner::rollout::observer::Observer;
use crate::runner::rollout::verify::{Verified, check_release, compare_claims, verify};

/// Where kubectl keeps what it was given.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Arguments of the plan step.
#[derive(Clone, Debug, Args)]
pub struct PlanOrder {
    /// Generation of the `CoderUpgrade` that is to be planned
    #[arg(long, env = "RUNNER_GENERATION")]
    generation: i64,

    /// The wanted version, if it was looked up before for the same request
    #[arg(long, env = "RUNNER_TARGET")]
    target: Option<String>,

    /// How long to wait for the right answers when nothing is to be done
    #[arg(long, env = "RUNNER_VERIFY_TIMEOUT", default_value = "10m", value_parser = duration)]
    verify_timeout: Duration,

    /// Where charts may come from, as the controller is told
    #[arg(long, env = "RUNNER_ALLOWED_REPOSITORIES", value_delimiter = ',', default_values = OFFICIAL)]
    allowed_repositories: Vec<RepositoryPattern>,
}

/// A plan that was made, and what it is made of. Nothing is written yet.
pub struct Made {
    /// The plan.
    pub plan: Plan,
    /// Why it is not to be carried out, if a check refuses what it would do.
    refusal: Option<Box<Problem>>,
    /// The packaged chart.
    archive: Vec<u8>,
    /// All values.
    merged: Value,
    /// The installed release.
    installed: Release,
    /// Looks at the pods of what is installed.
    observer: Observer,
}

/// Makes the plan and writes it into a Secret.
pub async fn run(ctx: &Context, order: &PlanOrder) -> Result<PlanReport, Error> {
    let mut upgrade = read_upgrade(ctx, order.generation).await?;
    upgrade.spec.version = upgrade.spec.version.or_else(|| order.target.clone());
    let repositories = Repositories::new(order.allowed_repositories.clone());
    let Made { plan, refusal, archive, merged, installed, observer } =
        Box::pin(make(ctx, &upgrade, &repositories)).await?;
    if let Some(refusal) = refusal {
        return Err(refusal.into());
    }
    let content = secret::Content { plan: &plan, chart: archive, values: &merged, previous: installed.raw() };
    let secrets = secret::write(ctx, &upgrade, content).await?;
    prune::prune(ctx, &upgrade, &plan.id, &secrets).await;

    let mut planned = planned(ctx, &plan, secrets.len());
    if plan.action == PlannedAction::Nothing {
        let storage = Storage::new(ctx.api(), &plan.release);
        let observer = observer.watch(ctx);
        check_running(ctx, &storage, &observer, &plan, order.verify_timeout).await?;
        planned.workloads = observer.marks();
    }
    Ok(planned)
}

/// Makes the plan and writes nothing, not even the plan. If a check refuses what the plan would do, that stands in it. What
/// could not be written is an error here, too.
pub async fn look(ctx: &Context, upgrade: &CoderUpgrade, allowed: &Repositories) -> Result<Plan, Error> {
    let Made { plan, archive, merged, installed, .. } = Box::pin(make(ctx, upgrade, allowed)).await?;
    secret::check(secret::Content { plan: &plan, chart: archive, values: &merged, previous: installed.raw() })?;
    Ok(plan)
}

/// Finds out what an upgrade needs and does. Changes nothing.
pub async fn make(ctx: &Context, upgrade: &CoderUpgrade, allowed: &Repositories) -> Result<Made, Error> {
    let spec = &upgrade.spec;
    let storage = Storage::new(ctx.api(), &spec.release);

    ctx.reporter.progress(&format!("reading the Helm release {}", spec.release));
    let mut installed = Release::read(ctx, &storage, secret::under_way(upgrade)).await?;
    let traces = presence::look(ctx, upgrade, &installed).await?;
    let presence = core::plan::presence::check(upgrade, &traces);
    installed.runs(&traces.live);
    let line = installed.line();

    ctx.reporter.progress("fetching the chart");
    let fetched = chart::fetch(ctx, spec, &installed, allowed).await;
    // What is refused whatever the chart is counts more than that there is none.
    let worse = || refused(&judged(presence.clone(), &spec.overrides), None).map(Error::from);
    let Fetched { archive, chart, ahead, findings: path, before: package } =
        fetched.map_err(|error| worse().unwrap_or(error))?;
    let target_line = version::product_line(&chart.parsed()?);

    ctx.reporter.progress("taking the inventory");
    let before = Documents::parse(installed.manifest(), &ctx.namespace)?;
    let mut names = before.claims()?;
    let observer = Observer::look(ctx, installed.chart_name().unwrap_or(chart.runs()), line, &before.workloads());
    let (answers, unanswered) = observer.answers().await;
    installed.check(&chart)?;
    let mut facts = checks::facts(ctx, spec, &chart, &installed, before, &observer, &answers).await?;
    facts.path = presence.into_iter().chain(path).collect();
    facts.lost_nulls = lost_nulls(upgrade);
    facts.highest_started = highest_started(ctx, upgrade, &installed).await?;
    facts.unanswered.clone_from(&unanswered);
    let findings = checks::judge(ctx, &facts, None).accepted()?;
    let health = health::before(ctx, &observer, spec.verify.token_secret_key_ref.as_ref()).await;

    let files = values::write(ctx, spec, installed.values().as_ref()).await?;
    let outlook = Box::pin(outlook(ctx, &spec.release, &archive, files, &installed, &facts.old)).await;
    let Outlook { rendered, objects, action, rehearsal, kept, replicas } =
        outlook.map_err(|error| checks::explained(ctx, &facts, error))?;
    let merged = Value::Object(rendered.values());
    ctx.secrets.hide_values(&merged);
    core::plan::presence::name_values(&mut facts.path, &traces, &rendered.values());
    pod_secrets::of_manifest(ctx, rendered.manifest()).await;

    names.extend(objects.claims()?);
    names.extend(inventory::owned_claims(ctx, &[&facts.old, &objects]).await?);
    let before_change = claims(ctx, &names).await?;
    let exposures = inventory::exposures(ctx, &facts.old).await?;
    let inventory = Inventory { claims: before_change, exposures, answers, unanswered, health };
    let archive = io::read(&archive).await?;
    let hooks = rendered.hook_objects(&ctx.namespace)?;
    let mut plan = Plan {
        id: String::new(),
        release: spec.release.clone(),
        action,
        line: target_line,
        from: installed.from(),
        chart_name: chart.runs().to_owned(),
        version: version::plain(&chart.version).to_owned(),
        app_version: chart.app_version().to_owned(),
        coder_version: chart.wrapped.as_ref().map(|wrapped| wrapped.version.clone()),
        chart_digest: hex(&Sha256::digest(&archive)),
        // That of a first install is an uninstall, and would delete what was taken over.
        rollback_on_failure: spec.helm.rollback_on_failure && (installed.from().is_some() || !spec.takes_over()),
        adopt: spec.takes_over(),
        workloads: objects.workloads(),
        objects: objects.objects().map(|(name, _)| name).collect(),
        images: hooks.iter().flat_map(|hook| hook.images.clone()).chain(started::images(&objects)).collect(),
        containers: containers(&hooks, &objects),
        hooks,
        inventory,
        pause: pause(spec),
        forecast: forecast(ahead, &rehearsal),
        replaced: rehearsal.replaced(),
        replicas,
        findings,
        difference: Difference::default(),
    };
    // What is scaled to zero or misses an object looks up to date, and is not. Neither is what a runner that was killed between the old selector
    // and one that is not wanted any more has left: the pods need their owner back.
    let down = upgrade.status.as_ref().is_some_and(|status| status.recovery_required || !status.scaled_down.is_empty());
    if plan.action == PlannedAction::Nothing && (down || begun(ctx, &plan.workloads).await?) {
        plan.action = PlannedAction::Upgrade;
    }
    let mut refusal = None;
    if plan.action != PlannedAction::Nothing {
        ctx.reporter.progress("checking what the upgrade would meet");
        let foreseen =
            checks::foreseen(ctx, spec, &installed, &rendered, &objects, &rehearsal, &plan.inventory).await?;
        let (new, package) = ((&objects, &foreseen.values), package.as_deref());
        let again = rendered_again::look(ctx, &spec.release, &installed, package, &facts.old, new).await;
        let foreseen = Foreseen { kept, rendered: again, ..foreseen };
        let judgement = checks::judge(ctx, &facts, Some(&foreseen));
        plan.findings = judgement.findings;
        refusal = judgement.refusal;
        // No override helps: the steps would refuse it as well.
        let applied = installed.applied(ctx, &storage, &plan).await?;
        if let Some(problem) = risk::foresee(ctx, &plan, &applied, &rehearsal).await? {
            plan.findings.extend(problem.findings);
            order::sort(&mut plan.findings);
            refusal = refused(&plan.findings, Some(&foreseen));
        }
    }
    if plan.action == PlannedAction::Nothing {
        plan.forecast.interruption.reason = "Nothing is changed.".into();
    } else {
        let from = installed.version().map(|version| version.to_string());
        foresee(&mut plan, &rehearsal, from.as_deref(), (&facts.old, &objects), (&facts.kept, &rendered.values()));
    }
    plan.id = id::of(&ctx.namespace, &plan, &merged);
    Ok(Made { plan, refusal, archive, merged, installed, observer })
}

/// The claims of these names as they are, each of them fit to be kept.
async fn claims(ctx: &Context, names: &BTreeSet<String>) -> Result<Vec<ClaimStatus>, Error> {
    let found = inventory::claims(ctx, names).await?;
    let before_change: Vec<ClaimStatus> = found.values().cloned().collect();
    compare_claims(&before_change, &found)?;
    Ok(before_change)
}

/// The containers that the change starts, those of hooks included.
fn containers(hooks: &[Hook], objects: &Documents) -> BTreeSet<String> {
    hooks.iter().flat_map(|hook| hook.containers.clone()).chain(started::containers(objects)).collect()
}

/// What is foreseen already: the hops that follow, and what the rehearsal found.
fn forecast(hops: Vec<String>, rehearsal: &Rehearsal) -> Forecast {
    let (repairs, not_rehearsed) = (rehearsal.repairs.clone(), rehearsal.not_rehearsed.clone());
    Forecast { hops, repairs, not_rehearsed, ..Forecast::default() }
}

/// How Coder is stopped for the change, as the spec wants it.
fn pause(spec: &CoderUpgradeSpec) -> Pause {
    Pause {
        strategy: spec.strategy,
        companions: spec.companions.clone(),
        quiesce_seconds: Duration::from(spec.quiesce.timeout).as_secs(),
        token: spec.verify.token_secret_key_ref.clone(),
    }
}

/// What kubectl has removed from the values that it was given.
fn lost_nulls(upgrade: &CoderUpgrade) -> Vec<String> {
    let applied = upgrade.annotations().get(LAST_APPLIED);
    applied.map(|applied| lost(applied, upgrade.spec.values.as_ref())).unwrap_or_default()
}

/// The highest version of which a pod may have started, as far as anybody has recorded it: this object, the Lease of the
/// release, or helm after an upgrade of somebody else that failed.
async fn highest_started(ctx: &Context, upgrade: &CoderUpgrade, installed: &Release) -> Result<Option<String>, Error> {
    // The status counts with the versions of the chart that helm knows.
    let status = upgrade.status.as_ref().filter(|_| installed.wrapped().is_none());
    let by_status = status.and_then(|status| status.highest_started_version.clone());
    let by_lease = highest_version::read(ctx, &upgrade.spec.release).await?;
    let known = [by_status, by_lease, installed.tried_by_others()].into_iter().flatten();
    Ok(known.reduce(|one, other| version::higher(Some(&one), &other).to_owned()))
}

/// What the rehearsal means for people: what changes, and how long Coder is interrupted. Manifests and values are those
/// before and afterwards; `from` is the version of what runs.
fn foresee(
    plan: &mut Plan,
    rehearsal: &Rehearsal,
    from: Option<&str>,
    (old, new): (&Documents, &Documents),
    (old_values, new_values): (&Map<String, Value>, &Map<String, Value>),
) {
    let mut known = old.clone();
    if plan.from.is_none() {
        // helm deletes nothing of which it has no record.
        let new: Vec<_> = new.objects().map(|(name, _)| name).collect();
        known.remove(|name| !new.iter().any(|new| new.same(name)));
    }
    let (difference, interruption) = difference::between(&Sides {
        rehearsal,
        old: &known,
        new,
        old_values,
        new_values,
        from: plan.from.as_ref().map(|from| from.version.as_str()).or(from),
        version: &plan.version,
        hops: &plan.forecast.hops,
        strategy: plan.pause.strategy,
    });
    plan.forecast.interruption = interruption;
    plan.forecast.objects = difference.counts();
    plan.difference = difference;
}

/// The declaration, if it is still the one that the plan is for.
async fn read_upgrade(ctx: &Context, generation: i64) -> Result<CoderUpgrade, Error> {
    let upgrades: Api<CoderUpgrade> = ctx.api();
    let found = request(&format!("read CoderUpgrade/{}", ctx.upgrade), || upgrades.get_opt(&ctx.upgrade)).await?;
    let outdated = |why: &str| Problem::new(FailureClass::PlanOutdated, format!("CoderUpgrade/{} {why}", ctx.upgrade));
    match found {
        None => Err(outdated("is gone").into()),
        Some(upgrade) if upgrade.uid().as_deref() != Some(&ctx.uid) => {
            Err(outdated("was deleted and created again").into())
        }
        Some(upgrade) if upgrade.metadata.generation != Some(generation) => {
            Err(outdated("was changed after this step had begun").into())
        }
        Some(upgrade) => Ok(upgrade),
    }
}

fn planned(ctx: &Context, plan: &Plan, secrets: usize) -> PlanReport {
    let from = plan.from.as_ref().map(|from| from.version.clone());
    tracing::info!(
        "plan {}: {} {} of release {} in {}, {} -> {}",
        plan.id,
        plan.action,
        plan.chart_name,
        plan.release,
        ctx.namespace,
        from.as_deref().unwrap_or("nothing"),
        plan.version
    );
    PlanReport {
        plan: PlanSummary {
            id: plan.id.clone(),
            action: plan.action,
            from,
            to: plan.version.clone(),
            chart_digest: plan.chart_digest.clone(),
            secret_name: secret::name(plan),
            secret_parts: (secrets > 1).then(|| i32::try_from(secrets).unwrap_or(i32::MAX)),
            forecast: plan.forecast.clone(),
        },
        current: plan.from.clone(),
        target: target(plan),
        claims: plan.inventory.claims.clone(),
        exposures: plan.inventory.exposures.clone(),
        findings: plan.findings.clone(),
        workloads: Vec::new(),
    }
}

/// The wanted version. What Coder calls itself there is known once its chart was fetched.
fn target(plan: &Plan) -> Target {
    match plan.forecast.hops.last() {
        Some(version) => Target { version: version.clone(), app_version: None },
        None => Target { version: plan.version.clone(), app_version: Some(plan.app_version.clone()) },
    }
}

/// Nothing is to be done: then what runs must be right, or the release only looks up to date.
async fn check_running(
    ctx: &Context,
    storage: &Storage,
    observer: &Observer,
    plan: &Plan,
    timeout: Duration,
) -> Result<(), Error> {
    let goal = Goal {
        revision: plan.from.as_ref().map_or(0, |from| from.revision),
        expected: Expected::new(&plan.app_version, &plan.inventory),
        claims: &plan.inventory.claims,
        timeout,
        soak: Duration::ZERO,
        token: None,
        health: None,
    };
    check_release(storage, &goal).await?;
    let Verified { summary, .. } = verify(ctx, storage, observer, &goal).await?;
    ctx.reporter.progress(&format!("up to date: {summary}"));
    Ok(())
}
