//! What an upgrade waits for, and the command that lets it go on.

use jiff::Timestamp;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::standing::{is_approved, is_present};
use super::{OverviewInput, Standing};
use crate::api::{CoderUpgradeStatus, Phase, WaitingFor};
use crate::core::text::duration::elapsed;

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct OverviewWait {
    /// What, in a sentence or two.
    pub what: String,
    /// The command that lets it go on; none if it goes on by itself, or takes more than a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// What it waits for, the most urgent first; nothing for what is at work or done.
pub fn waits(input: &OverviewInput<'_>, status: &CoderUpgradeStatus) -> Vec<OverviewWait> {
    let upgrade = input.upgrade;
    let command = |verb: &str| input.command(verb, Some(&upgrade.name_any()));
    let mut waits = Vec::new();
    let mut add = |what: String, command: Option<String>| waits.push(OverviewWait { what, command });
    if upgrade.metadata.deletion_timestamp.is_some() {
        add("The CoderUpgrade is being deleted: a change that has begun is finished first.".into(), None);
    }
    if !is_present(upgrade, status) {
        let what = "The controller has not answered this spec yet. If that lasts, find out why:";
        add(what.into(), Some(input.command("doctor", None)));
    }
    if let Some(blocked) = &status.blocked {
        let since = elapsed(blocked.since.0, input.now);
        add(format!("{}, for {since}: {} {}", blocked.object, blocked.message, blocked.next_step), None);
    }
    let standing = Standing::of(upgrade);
    if let Some(approval) = status.approval.as_ref().filter(|_| !is_approved(upgrade, status)) {
        let what =
            format!("A person must approve: {}. Interruption: {}", approval.action, approval.interruption.trim_end());
        add(what, Some(command("approve")));
    }
    match status.phase {
        Phase::Suspended if standing == Standing::Waiting => add(status.message.clone(), Some(command("resume"))),
        Phase::AwaitingDependency => add(status.message.clone(), Some(input.command("status", None))),
        Phase::AwaitingWindow | Phase::AwaitingPlace => add(status.message.clone(), None),
        _ => {}
    }
    for object in &status.waiting_for {
        add(deletion(object, input.now), None);
    }
    if let Some(failure) = &status.failure {
        match (&failure.retry_at, status.phase) {
            (Some(at), Phase::Pending) => {
                let left = elapsed(input.now, at.0);
                let what = format!("It is tried again in {left}, at {}. To try it now:", at.0);
                add(what, Some(command("retry")));
            }
            (_, Phase::Failed) => {
                let what = format!("{} To try it again then:", failure.next_step);
                add(what, Some(command("retry")));
            }
            _ => {}
        }
    }
    waits
}

/// An object that is being deleted.
pub fn deletion(object: &WaitingFor, now: Timestamp) -> String {
    let WaitingFor { kind, name, since, finalizers, explanation, .. } = object;
    let held = match finalizers.as_slice() {
        [] => String::new(),
        all => format!(", held by {}", all.join(", ")),
    };
    let explained = explanation.as_ref().map(|text| format!(". {text}")).unwrap_or_default();
    format!("{kind}/{name} is being deleted for {}{held}{explained}", elapsed(since.0, now))
}
