//! What a preview tells, part by part; how it is laid out is the business of others.

use super::changes;
use super::{PlanPreview, Preview};
use crate::api::{ClaimStatus, Exposure, Finding, Forecast, ObjectCounts, PlannedAction, PlannedRepair, Severity};
use crate::core::plan::difference::{ChangeKind, Difference};

/// A part with a heading.
pub struct Section {
    /// The heading.
    pub title: String,
    /// Its lines; those that belong to the one before begin with blanks.
    pub lines: Vec<String>,
    /// What the lines are.
    pub form: Form,
}

/// What the lines of a part are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Sentences.
    List,
    /// Long lists that few people read to the end.
    Detail,
    /// A command.
    Command,
}

/// The facts in a few words, each with what it is about.
pub fn facts(preview: &Preview) -> Vec<(&'static str, String)> {
    let Some(plan) = &preview.plan else { return Vec::new() };
    let mut facts = vec![("installed", installed(plan)), ("wanted", wanted(plan))];
    if plan.action != PlannedAction::Nothing {
        facts.push(("path", path(plan)));
        facts.push(("interruption", interruption(&plan.forecast)));
        facts.push(("plan", plan.id.clone()));
    }
    facts
}

/// The parts that have something to tell, the most urgent first.
pub fn sections(preview: &Preview) -> Vec<Section> {
    let part = |title: &str, lines| Section { title: title.into(), lines, form: Form::List };
    let mut all =
        vec![part("Refused", refusal(preview)), part("Checks", preview.checks.iter().flat_map(check).collect())];
    let gates = preview.gates.iter().map(|gate| {
        let state = if gate.open { "ok" } else { "waits" };
        format!("{state}: {} ({})", gate.message, gate.field)
    });
    all.push(part("Before it begins", gates.collect()));
    if let Some(plan) = &preview.plan {
        all.extend(planned(plan));
    }
    all.push(Section { form: Form::Command, ..part("To allow it", preview.approve.clone().into_iter().collect()) });
    all.retain(|section| !section.lines.is_empty());
    all
}

fn planned(plan: &PlanPreview) -> Vec<Section> {
    let part = |title: &str, lines| Section { title: title.into(), lines, form: Form::List };
    let detail = |title: String, lines| Section { title, lines, form: Form::Detail };
    let changes = &plan.changes;
    let repairs = plan.forecast.repairs.iter().map(repair).collect();
    let versions = changes.versions.iter().map(|crossed| format!("{}: {}", crossed.version, crossed.notes)).collect();
    vec![
        part("Repairs that are made before helm runs", repairs),
        part("Versions that are skipped", versions),
        part("Images", changes::images(changes)),
        detail(format!("Objects: {}", counts(plan.forecast.objects)), changes::objects(changes)),
        detail(format!("Values: {}", values(changes)), changes::values(changes)),
        part("Volumes, which stay as they are", plan.persistent_volume_claims.iter().map(claim).collect()),
        part("Addresses now", plan.addresses.iter().map(address).collect()),
        part("Not rehearsed", plan.forecast.not_rehearsed.clone()),
    ]
}

fn installed(plan: &PlanPreview) -> String {
    let mut versions: Vec<&str> = plan.answers.iter().map(|answer| answer.version.as_str()).collect();
    let count = versions.len();
    versions.sort_unstable();
    versions.dedup();
    let answers = match count {
        0 => "no server answered".to_owned(),
        1 => format!("1 server answers {}", versions.join(", ")),
        count => format!("{count} servers answer {}", versions.join(", ")),
    };
    match &plan.from {
        Some(from) => format!("{} (revision {}, {}); {answers}", from.version, from.revision, from.status),
        None if plan.takes_over() => format!("nothing that helm has a record of; {answers}"),
        None => "nothing".into(),
    }
}

fn wanted(plan: &PlanPreview) -> String {
    plan.forecast.hops.last().unwrap_or(&plan.to).clone()
}

fn path(plan: &PlanPreview) -> String {
    let from = plan.from.as_ref().map_or("nothing", |from| from.version.as_str());
    let stops = std::iter::once(from).chain([plan.to.as_str()]).chain(plan.forecast.hops.iter().map(String::as_str));
    let path = stops.collect::<Vec<_>>().join(" -> ");
    match plan.forecast.hops.len() {
        0 => path,
        _ => format!("{path}; this plan is for the first hop, to {}", plan.to),
    }
}

/// How long Coder is interrupted, and why.
pub fn interruption(forecast: &Forecast) -> String {
    let foreseen = &forecast.interruption;
    format!("{}. {}", foreseen.length, foreseen.reason).trim_end().to_owned()
}

fn refusal(preview: &Preview) -> Vec<String> {
    let Some(refusal) = &preview.refusal else { return Vec::new() };
    // The check that refuses it tells the same.
    if preview.checks.iter().any(|finding| finding.severity == Severity::Refusal) {
        return Vec::new();
    }
    let about = about(refusal.object.as_deref(), refusal.field.as_deref());
    vec![format!("{}{about}: {}", refusal.class, refusal.message), format!("  Next: {}", refusal.next_step)]
}

/// Object and field, in brackets.
pub fn about(object: Option<&str>, field: Option<&str>) -> String {
    let about: Vec<&str> = object.into_iter().chain(field).collect();
    if about.is_empty() { String::new() } else { format!(" ({})", about.join(", ")) }
}

/// What a check has found, and what to do about it.
pub fn check(finding: &Finding) -> Vec<String> {
    let weight = match finding.severity {
        Severity::Refusal => "REFUSED",
        Severity::Overridden => "overridden",
        Severity::Warning => "warning",
    };
    let about = about(finding.object.as_deref(), finding.field.as_deref());
    vec![format!("{weight}: {}{about}: {}", finding.check, finding.message), format!("  Next: {}", finding.next_step)]
}

/// A repair that is foreseen.
pub fn repair(repair: &PlannedRepair) -> String {
    format!("{} {}: {}", repair.remedy, repair.object, repair.message)
}

/// How many objects change.
pub fn counts(counts: ObjectCounts) -> String {
    let ObjectCounts { added, changed, removed, replaced } = counts;
    format!("{added} added, {changed} changed, {removed} removed, {replaced} recreated")
}

fn values(changes: &Difference) -> String {
    let count = |kind| changes.values.iter().filter(|change| change.kind == kind).count();
    let [added, others, dropped] = [ChangeKind::Added, ChangeKind::Changed, ChangeKind::Removed].map(count);
    format!("{added} added, {others} changed, {dropped} dropped")
}

/// A claim with its volume.
pub fn claim(claim: &ClaimStatus) -> String {
    let known = [
        claim.phase.clone(),
        claim.capacity.clone(),
        claim.volume.as_ref().map(|volume| format!("volume {volume}")),
        claim.reclaim_policy.as_ref().map(|policy| format!("reclaim policy {policy}")),
    ];
    format!("{}: {}", claim.name, known.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// A Service or an Ingress with its addresses.
pub fn address(exposure: &Exposure) -> String {
    let addresses = exposure.addresses.iter().chain(&exposure.assigned).map(String::as_str).collect::<Vec<_>>();
    let addresses = if addresses.is_empty() { "none".to_owned() } else { addresses.join(", ") };
    format!("{}/{}: {addresses}", exposure.kind, exposure.name)
}
