//! Gathers what the checks look at, and lets them judge: once before the chart is rendered, so that a wrong one is not even
//! rehearsed, and once with what rendering and rehearsal have shown.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value};

use super::release::Release;
use super::{marks, surroundings};
use crate::api::{CoderUpgradeSpec, FailureClass, Finding};
use crate::core::helm::chart::ChartMetadata;
use crate::core::helm::documents::Documents;
use crate::core::helm::values;
use crate::core::helm::version;
use crate::core::plan::checks;
use crate::core::plan::checks::{Facts, Foreseen};
use crate::core::plan::rehearsal::Rehearsal;
use crate::core::report::Problem;
use crate::core::rollout::inventory::Answer;
use crate::core::rollout::inventory::Inventory;
use crate::core::rollout::workload::PodFacts;
use crate::core::text::redact;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::helm::Major;
use crate::runner::helm::record::Record;
use crate::runner::rollout::observer::Observer;

/// Greatest length of a text of a finding, in bytes.
const TEXT_LIMIT: usize = 1024;

/// What is known before the chart is rendered.
pub async fn facts(
    ctx: &Context,
    spec: &CoderUpgradeSpec,
    chart: &ChartMetadata,
    installed: &Release,
    old: Documents,
    observer: &Observer,
    answers: &[Answer],
) -> Result<Facts, Error> {
    let version = request("ask for the version of Kubernetes", || ctx.client.apiserver_version());
    let (version, marks) =
        futures::future::try_join(version, marks::of_workloads(ctx, &spec.release, &old.workloads(), observer)).await?;
    let running = observer.seen().into_iter().flat_map(|seen| seen.pods).map(|asked| asked.pod);
    Ok(Facts {
        spec: spec.clone(),
        namespace: ctx.namespace.clone(),
        upgrade: ctx.upgrade.clone(),
        chart: chart.clone(),
        path: Vec::new(),
        installed: installed.installed(),
        newest: installed.from(),
        installed_coder: installed.wrapped().map(|wrapped| wrapped.version.clone()),
        pods: running.chain(pods(&old)).collect(),
        old,
        kept: installed.values().unwrap_or_default(),
        answers: answers.to_vec(),
        unanswered: Vec::new(),
        marks,
        kubernetes: version::parse(&version.git_version),
        lost_nulls: Vec::new(),
        highest_started: None,
    })
}

/// Pods that are objects of their own, as the manifest of what runs without a record may have them.
fn pods(old: &Documents) -> Vec<PodFacts> {
    let pods = old.objects().filter(|(name, _)| name.kind == "Pod");
    pods.filter_map(|(_, pod)| serde_json::from_value::<Pod>(pod.clone()).ok())
        .map(|pod| PodFacts::from(&pod))
        .collect()
}

/// What rendering and rehearsal have shown, and what surrounds the release.
pub async fn foreseen(
    ctx: &Context,
    spec: &CoderUpgradeSpec,
    installed: &Release,
    rendered: &Record,
    new: &Documents,
    rehearsal: &Rehearsal,
    inventory: &Inventory,
) -> Result<Foreseen, Error> {
    let surroundings = surroundings::look(ctx, spec, new, rehearsal).await?;
    let marks = marks::of_objects(ctx, new, rehearsal).await?;
    Ok(Foreseen {
        values: rendered.values(),
        old_defaults: installed.defaults(),
        defaults: rendered.chart_part("values").clone(),
        new: new.clone(),
        rehearsal: rehearsal.clone(),
        claims: inventory.claims.clone(),
        exposures: inventory.exposures.clone(),
        marks,
        rendered: None,
        kept: Vec::new(),
        helm_waits_for_all: ctx.helm.major() == Major::Four,
        surroundings,
    })
}

/// What the checks find, and what follows.
pub struct CheckResult {
    /// What they find, without secrets.
    pub findings: Vec<Finding>,
    /// The problem that ends the plan, if one of them refuses it.
    pub refusal: Option<Box<Problem>>,
}

impl CheckResult {
    /// The findings, or the refusal.
    pub fn accepted(self) -> Result<Vec<Finding>, Error> {
        match self.refusal {
            Some(refusal) => Err(refusal.into()),
            None => Ok(self.findings),
        }
    }
}

/// Makes the checks.
pub fn judge(ctx: &Context, facts: &Facts, foreseen: Option<&Foreseen>) -> CheckResult {
    let found = checks::run(facts, foreseen);
    let refused = checks::refused(&found, foreseen);
    let findings: Vec<Finding> = found.into_iter().map(|finding| clean(ctx, finding)).collect();
    let refusal = refused.map(|refused| Problem { findings: findings.clone(), ..*refused }.boxed());
    CheckResult { findings, refusal }
}

/// A finding without secrets, and within the limits of a report.
fn clean(ctx: &Context, finding: Finding) -> Finding {
    let clean = |text: &str| redact::head(&ctx.secrets.clean(text), TEXT_LIMIT);
    Finding { message: clean(&finding.message), next_step: clean(&finding.next_step), ..finding }
}

/// What the checks know about a chart that helm could not render, or whose objects it could not look at. No override helps
/// against that: there is nothing that could be installed.
pub fn explained(ctx: &Context, facts: &Facts, error: Error) -> Error {
    let mut problem = error.into_problem().with_command(&ctx.namespace, &ctx.upgrade);
    if problem.class == FailureClass::RenderFailed {
        let inline = facts.spec.values.clone().unwrap_or_default();
        for path in values::named_in(&problem.message, &kept(facts), &inline) {
            let advice = "is a value that the installed release was given: to leave it out, add";
            problem.message += &["; ", &path, " ", advice, " ", &path, " to spec.dropValues"].concat();
        }
    }
    let mut findings = match problem.class {
        FailureClass::RenderFailed => removed_values(facts),
        FailureClass::DefinitionMissing => checks::unmatched(facts, &problem.message).into_iter().collect(),
        _ => checks::barred(&problem).into_iter().collect(),
    };
    // Nobody can install a definition of an API that Kubernetes itself had once.
    let api = checks::refused(&findings, None).filter(|_| problem.class == FailureClass::DefinitionMissing);
    problem = api.map_or(problem, |api| *api);
    findings.extend(checks::run(facts, None));
    let findings = checks::judged(findings, &[]).into_iter().map(|finding| clean(ctx, finding)).collect();
    Problem { findings, ..problem }.into()
}

/// The values that are kept of those that the installed release was given.
fn kept(facts: &Facts) -> Map<String, Value> {
    let mut kept = if facts.spec.keep_values { facts.kept.clone() } else { Map::new() };
    values::drop_paths(&mut kept, facts.spec.drop_values.iter().map(String::as_str));
    kept
}

/// Values that the chart does not take any more. What lies in `spec.valuesFrom` is not looked at: only helm can merge it.
fn removed_values(facts: &Facts) -> Vec<Finding> {
    let kept = kept(facts);
    let inline = facts.spec.values.clone().unwrap_or_default();
    let mut findings = checks::removed_values(facts, &kept, |path| format!("add {path} to spec.dropValues"));
    findings.extend(checks::removed_values(facts, &inline, |path| format!("remove {path} from spec.values")));
    findings
}
