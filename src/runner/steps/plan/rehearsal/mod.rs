//! The rehearsal: helm itself performs the upgrade, with every write turned into a dry run.
//!
//! helm talks to a [proxy] on loopback that passes its requests on with the runner's own rights. Its release records are
//! kept in an [overlay], so that it finds what it has written. What the API server refuses is read by the code that reads
//! real failures; what a repair would cure is rehearsed again with, or around, that repair.

pub mod dry_run;
mod forward;
mod overlay;
mod proxy;
mod records;
mod repairs;
mod state;

use std::path::{Path, PathBuf};

use self::proxy::Proxy;
use self::repairs::Repairs;
use self::state::{RehearsalResult, Settings};
use crate::api::Recovery;
use crate::core::helm::archive::definitions;
use crate::core::helm::documents::Documents;
use crate::core::helm::failures;
use crate::core::helm::failures::Cause;
use crate::core::helm::history::Revision;
use crate::core::object::ObjectRef;
use crate::core::plan::rehearsal::Rehearsal;
use crate::core::plan::rehearsal::discovery::{Brought, brought};
use crate::core::repair::escalation;
use crate::core::repair::escalation::Next;
use crate::core::text::bounded;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::record::Record;
use crate::runner::helm::storage::Storage;
use crate::runner::helm::upgrade::{Rendering, render_past};
use crate::runner::helm::{Helm, HelmFailure};
use crate::runner::io;
use crate::runner::repair::unowned;

/// Greatest size of a chart when it is unpacked, in bytes.
const UNPACKED: usize = 32 << 20;

/// What is rehearsed.
#[derive(Clone, Debug)]
pub struct Script<'a> {
    /// Name of the Helm release.
    pub release: &'a str,
    /// The packaged chart.
    pub chart: &'a Path,
    /// Files of values, the later ones win.
    pub values: &'a [PathBuf],
    /// Whether helm would install the release, and apply the definitions of the chart before.
    pub installs: bool,
    /// The newest revision, if helm would refuse to work on it: it was left pending, or half uninstalled.
    pub locked: Option<&'a Revision>,
}

/// What came of it.
pub struct Rehearsed {
    /// What helm would write as its record of the release: chart, values and manifest. None if it did not get so far.
    pub record: Option<Record>,
    /// What helm would do, and what it would be refused for.
    pub rehearsal: Rehearsal,
    /// helm's own words, if no repair cures what it would be refused for.
    pub failure: Option<HelmFailure>,
}

/// Rehearses an upgrade or an install. Changes nothing. Dropping the future ends helm and the proxy.
pub async fn rehearse(ctx: &Context, script: &Script<'_>) -> Result<Rehearsed, Error> {
    let proxy = Proxy::start(ctx.client.clone(), &ctx.namespace, script.release).await?;
    ctx.secrets.hide([proxy.token().to_owned()]);
    let directory = ctx.work_dir.join("rehearsal");
    io::create_dir(&directory).await?;
    let config = directory.join("kubeconfig");
    io::write_private(&config, proxy.kubeconfig(&ctx.namespace).as_bytes()).await?;
    let helm = ctx.helm.against(config);

    let mut repairs = Repairs::begin(ctx, script).await?;
    let brought = if script.installs { definitions_of(script.chart).await? } else { Vec::new() };
    let mut times = 0;
    loop {
        times += 1;
        ctx.reporter.progress(&match times {
            1 => "rehearsing the upgrade".to_owned(),
            _ => format!("rehearsing the upgrade with what is repaired first ({})", repairs.planned.len()),
        });
        proxy.state.begin(Settings { brought: brought.clone(), ..repairs.settings() });
        let ended = run(&helm, ctx, script, repairs.adopts()).await?;
        let seen = proxy.state.end();
        if let Some(why) = seen.blind.clone() {
            return rendered_only(ctx, script, &why, ended.err()).await;
        }
        let rendered = seen.record.as_ref().map(|record| Documents::parse(record.manifest(), &ctx.namespace));
        let rendered = rendered.transpose()?;
        if let Some(rendered) = rendered.as_ref().filter(|_| repairs.adopts()) {
            repairs.adopt(unowned(ctx, script.release, rendered).await?);
        }
        let (causes, failure, trials) = match ended {
            Ok(()) => {
                let trials = dry_run::create_dry(ctx, script.release, &seen, rendered.as_ref()).await?;
                let failure = trials.failure();
                (trials.causes.clone(), failure, Some(trials))
            }
            Err(failure) => (failures::causes(&failure.text), Some(failure), None),
        };
        let objects: Vec<ObjectRef> = rendered.iter().flat_map(Documents::objects).map(|(name, _)| name).collect();
        let mut causes = escalation::narrowed(causes, &objects);
        if let Some(rendered) = &rendered {
            dry_run::left_over(ctx, script.release, &mut causes, rendered).await?;
        }
        let Some(failure) = failure else { return Ok(done(repairs, seen, trials, None, Vec::new())) };
        match escalation::next(&causes, &repairs.done, Recovery::Repair) {
            Next::Repair(next) => repairs.add(ctx, script, next, &causes).await?,
            Next::Stop(_) => return Ok(done(repairs, seen, trials, Some(failure), causes)),
        }
    }
}

/// The kinds that the definitions in a packaged chart bring.
async fn definitions_of(chart: &Path) -> Result<Vec<Brought>, Error> {
    let unpacked = bounded::gunzip(&io::read(chart).await?, UNPACKED).unwrap_or_default();
    Ok(brought(&definitions(&unpacked)))
}

/// Runs helm against the proxy. It waits for nothing, runs no hook and installs no definition.
async fn run(
    helm: &Helm,
    ctx: &Context,
    script: &Script<'_>,
    take_ownership: bool,
) -> Result<Result<(), HelmFailure>, Error> {
    let mut arguments = vec!["upgrade".to_owned(), "--install".into(), "--reset-values".into(), script.release.into()];
    arguments.push(script.chart.display().to_string());
    arguments.extend(["--namespace", &ctx.namespace, "--no-hooks", "--skip-crds"].map(Into::into));
    for file in script.values {
        arguments.extend(["--values".into(), file.display().to_string()]);
    }
    if take_ownership {
        arguments.push("--take-ownership".into());
    }
    // Notes on its output may hold passwords; nobody needs them.
    Ok(helm.capture(&arguments, None).await?.map(drop))
}

fn done(
    repairs: Repairs,
    seen: RehearsalResult,
    trials: Option<dry_run::Trials>,
    failure: Option<HelmFailure>,
    refusals: Vec<Cause>,
) -> Rehearsed {
    let RehearsalResult { record, mut writes, mut not_rehearsed, asked, .. } = seen;
    if let Some(trials) = trials {
        for (object, after) in trials.made {
            let write = writes.iter_mut().find(|write| write.object.same(&object));
            if let Some(write) = write {
                write.after = Some(after);
            }
        }
        not_rehearsed.extend(trials.not_rehearsed);
    }
    not_rehearsed.extend(record.iter().flat_map(unseen));
    let rehearsal = Rehearsal { writes, repairs: repairs.planned, refusals, not_rehearsed, asked };
    Rehearsed { record, rehearsal, failure }
}

/// What no rehearsal shows of a chart: the hooks that run, and definitions outside of its templates, which helm applies
/// with the first revision only.
fn unseen(record: &Record) -> Vec<String> {
    let runs = |events: &str| events.contains("install") || events.contains("upgrade");
    let hooks = record.hook_names().into_iter().filter(|(_, _, events)| runs(events));
    let hooks = hooks.map(|(kind, name, events)| format!("hook {kind}/{name} ({events})"));
    let first = record.revision().is_ok_and(|revision| revision == 1);
    let definitions = record.definitions().into_iter().filter(|_| first);
    hooks.chain(definitions.map(|file| format!("definitions in {file}"))).collect()
}

/// helm's records themselves cannot be rehearsed: then nothing can, and the chart is only rendered.
async fn rendered_only(
    ctx: &Context,
    script: &Script<'_>,
    why: &str,
    failure: Option<HelmFailure>,
) -> Result<Rehearsed, Error> {
    tracing::warn!("nothing can be rehearsed: {why}{}", failure.map(|f| format!(" ({f})")).unwrap_or_default());
    let rendering = Rendering {
        release: script.release,
        namespace: &ctx.namespace,
        chart: script.chart,
        values: script.values,
        as_install: script.locked.is_some(),
        take_ownership: false,
    };
    let mut rehearsal = Rehearsal { not_rehearsed: vec![format!("everything: {why}")], ..Rehearsal::default() };
    Ok(match render_past(&ctx.helm, rendering).await? {
        Ok((record, foreign)) => {
            if foreign {
                let documents = Documents::parse(record.manifest(), &ctx.namespace)?;
                unowned(ctx, script.release, &documents).await?;
            }
            Rehearsed { record: Some(record), rehearsal, failure: None }
        }
        Err(failure) => {
            rehearsal.refusals = failures::causes(&failure.text);
            Rehearsed { record: None, rehearsal, failure: Some(failure) }
        }
    })
}

/// The records of the release, for what seeds the overlay.
fn storage(ctx: &Context, script: &Script<'_>) -> Storage {
    Storage::new(ctx.api(), script.release)
}
