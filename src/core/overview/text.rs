//! The screen of an upgrade.

use super::{Overview, OverviewWait, PodLine, RolloutLine, StepLine};
use crate::api::{AddressChange, Failure, Installed, Repair, StepState};
use crate::core::decide::conditions::address_changes;
use crate::core::plan::preview::{about, address, check, claim};
use crate::core::text::layout::{screen, table};

/// The whole of it.
pub fn render(overview: &Overview) -> String {
    let Overview { upgrade, namespace, release, message, .. } = overview;
    let title = format!("CoderUpgrade {upgrade} in namespace {namespace}, Helm release {release}\n");
    let title = if message.is_empty() { title } else { format!("{title}{message}\n") };
    screen(&title, &facts(overview), parts(overview))
}

fn facts(overview: &Overview) -> Vec<(&'static str, String)> {
    let newest = "the newest stable version, not looked up yet";
    let mut facts = vec![
        ("standing", overview.standing.to_string()),
        ("phase", overview.phase.to_string()),
        ("installed", overview.installed.as_ref().map_or("nothing that is known of yet".into(), installed)),
        ("wanted", overview.wanted.clone().unwrap_or_else(|| newest.into())),
    ];
    facts.extend(overview.plan.clone().map(|plan| ("plan", plan)));
    facts.extend(overview.verified.clone().map(|text| ("verified", text)));
    facts
}

fn installed(installed: &Installed) -> String {
    let Installed { version, app_version, revision, status, .. } = installed;
    let app = app_version.as_ref().filter(|app| app.trim_start_matches('v') != version);
    let app = app.map(|app| format!(" (Coder {app})")).unwrap_or_default();
    format!("{version}{app} (revision {revision}, {status})")
}

/// The parts that have something to tell, the most urgent first.
fn parts(overview: &Overview) -> Vec<(String, Vec<String>)> {
    let part = |title: &str, lines| (title.to_owned(), lines);
    let rollout = overview.rollout.iter().filter(|line| !line.is_done()).map(RolloutLine::cells);
    let mut pods = table(&overview.pods.iter().map(PodLine::cells).collect::<Vec<_>>());
    pods.extend(overview.unseen.clone());
    vec![
        part("Waits for", overview.waits.iter().flat_map(wait).collect()),
        part("Failure", overview.failure.iter().flat_map(failure).collect()),
        (
            format!("Steps of attempt {}", overview.attempt),
            table(&overview.steps.iter().map(StepLine::cells).collect::<Vec<_>>()),
        ),
        part("Repairs", overview.repairs.iter().map(repair).collect()),
        part("Rollout", table(&rollout.collect::<Vec<_>>())),
        part("Pods", pods),
        part("Changed from outside", overview.drift.clone()),
        part("Volumes", overview.persistent_volume_claims.iter().map(claim).collect()),
        part("Addresses", overview.addresses.iter().map(address).collect()),
        part("Addresses that changed", overview.address_changes.iter().map(change).collect()),
        part("Checks", overview.checks.iter().flat_map(check).collect()),
    ]
}

fn wait(wait: &OverviewWait) -> Vec<String> {
    let command = wait.command.as_ref().map(|command| format!("  {command}"));
    std::iter::once(wait.what.clone()).chain(command).collect()
}

fn failure(failure: &Failure) -> Vec<String> {
    let about = about(failure.object.as_deref(), failure.field.as_deref());
    let mut lines = vec![format!("{} in step {}{about}: {}", failure.class, failure.step, failure.message)];
    lines.push(format!("  Next: {}", failure.next_step));
    lines.extend(failure.excerpt.iter().flat_map(|text| text.lines()).map(|line| format!("  | {line}")));
    lines
}

fn repair(repair: &Repair) -> String {
    format!("{} {}: {}", repair.remedy, repair.object, repair.message)
}

fn change(change: &AddressChange) -> String {
    address_changes(std::slice::from_ref(change))
}

/// What has changed, in a line.
pub fn news(overview: &Overview, before: Option<&Overview>) -> Option<String> {
    let running = overview.steps.last().filter(|step| step.state == StepState::Running);
    let of = |overview: &Overview| {
        let step = overview.steps.last().map(|step| (step.name, step.state, step.message.clone()));
        (overview.standing, overview.phase, overview.message.clone(), step)
    };
    if before.is_some_and(|before| of(before) == of(overview)) {
        return None;
    }
    let said = before.is_some_and(|before| before.message == overview.message && before.phase == overview.phase);
    let progress = running.map(|step| step.message.as_str()).filter(|text| !text.is_empty());
    let text = match progress {
        Some(progress) if said || overview.message.is_empty() => progress,
        _ => &overview.message,
    };
    Some(format!("{}  {text}", overview.phase).trim_end().to_owned())
}
