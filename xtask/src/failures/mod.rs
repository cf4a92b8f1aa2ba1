//! The page about failures, generated from the classes, their treatment and the texts of their rules.

use std::fmt::Write;

use coder_upgrade_operator::api::{FailureClass, Recovery, Remedy};
use coder_upgrade_operator::core::helm::failures;
use strum::IntoEnumIterator;

use crate::markdown::{anchor, meaning};

/// Where the page is kept, from the root of the repository.
pub const PATH: &str = "docs/failures.md";

/// The class that a group of classes begins with, and what the group has in common.
const GROUPS: &[(FailureClass, &str)] = &[
    (FailureClass::VersionNotFound, "Chart, values and plan: nothing was changed yet"),
    (FailureClass::Immutable, "Objects that stand in the way"),
    (FailureClass::ReleaseLocked, "The release and helm's records of it"),
    (FailureClass::Interrupted, "The cluster says no, or not now"),
    (FailureClass::HookFailed, "The new version does not run"),
];

/// The whole page as Markdown.
pub fn markdown() -> String {
    let mut text = String::from(include_str!("intro.md"));
    for remedy in Remedy::iter() {
        let allowed = match remedy.needs() {
            Recovery::Reinstall => "`Reinstall`",
            _ => "`Repair`, `Reinstall`",
        };
        let _ = writeln!(text, "| {remedy} | {} | {allowed} |", meaning(&remedy));
    }
    text.push_str(include_str!("approval.md"));
    for class in FailureClass::iter() {
        let _ = writeln!(text, "| [{class}](#{}) | {} | {} |", anchor(class), meaning(&class), in_short(class));
    }
    for class in FailureClass::iter() {
        if let Some((_, title)) = GROUPS.iter().find(|(first, _)| *first == class) {
            let _ = write!(text, "\n## {title}\n");
        }
        section(&mut text, class);
    }
    text
}

fn section(text: &mut String, class: FailureClass) {
    let _ = write!(text, "\n### {class}\n\n{}\n\n", meaning(&class));
    let mut examples = failures::examples(class).peekable();
    if examples.peek().is_some() {
        text.push_str("```text\n");
        for example in examples {
            let _ = writeln!(text, "{example}");
        }
        text.push_str("```\n\n");
    }
    let _ = write!(text, "**The operator** {}\n\n**You:** {}\n", in_full(class), class.next_step());
}

fn in_short(class: FailureClass) -> String {
    let treatment = class.treatment();
    match treatment.remedy {
        Some(remedy) => remedy.to_string(),
        None if treatment.retryable => "retries".into(),
        None => "stops".into(),
    }
}

fn in_full(class: FailureClass) -> String {
    let treatment = class.treatment();
    match (treatment.remedy, class) {
        (Some(Remedy::Replace), _) => {
            "deletes only the refused object, by its UID, and lets helm recreate it. The pods of a Deployment or StatefulSet \
             are orphaned and go on (with `strategy: RollingUpdate`): those of a Deployment serve until the new ones are ready, a \
             StatefulSet adopts its pods and keeps its volumes. With `recovery: Stop` it waits for the approval of `repair`. If the object is refused \
             again, what is left is the reinstall, which `recovery: Reinstall` or an approval of `reinstall` allows."
                .into()
        }
        (Some(Remedy::Adopt), _) => {
            "lets helm take the objects into this release (`--take-ownership`), after it has made sure that no other release \
             owns any object of the chart; otherwise nothing is touched. Nothing is interrupted. With `recovery: Stop` it waits \
             for the approval of `repair`."
                .into()
        }
        (Some(Remedy::RewriteApis), _) => {
            "writes the APIs that replaced the removed ones into helm's stored manifest, and upgrades. The objects themselves \
             are not touched by that. With `recovery: Stop` it waits for the approval of `repair`."
                .into()
        }
        (Some(Remedy::Reinstall), _) => {
            "uninstalls the release with its records kept, waits until everything of it is gone, and installs the planned \
             version with the saved values, but only with `recovery: Reinstall` or after an approval of `reinstall`. \
             PersistentVolumeClaims are kept and checked at every step. If helm names what failed first, and no repair cures \
             that, the operator stops instead: a reinstall would only fail in the same way."
                .into()
        }
        (Some(Remedy::Unlock | Remedy::Expand), _) | (None, FailureClass::ReleaseLocked) => {
            "tries again with growing delays. A lock that is provably its own, or stale, it releases itself; the lock of a \
             helm process that may still run it leaves alone."
                .into()
        }
        (None, FailureClass::OwnedByOther) => {
            "looks whether that other release still exists. If not, the object is adopted as in \
             [OwnershipMissing](#ownershipmissing); otherwise it stops, names the owner, and touches nothing."
                .into()
        }
        (None, FailureClass::ImmutableData) => {
            "stops. A volume is never deleted or replaced, with no setting and no approval.".into()
        }
        (None, FailureClass::DataMissing | FailureClass::DataAtRisk) => {
            "stops at once, whatever else is under way: nothing is changed any more while data may be at stake.".into()
        }
        (None, _) if treatment.retryable => {
            "tries again by itself, with delays that grow up to five minutes. Tries that changed something count against \
             `spec.retry.limit`; others go on without limit. Nothing is repaired or uninstalled for it."
                .into()
        }
        (None, FailureClass::RolloutTimedOut | FailureClass::ObjectNotReady | FailureClass::HookFailed | FailureClass::VerificationFailed) => {
            "stops and never uninstalls for it: a reinstall would start the same pods. The saved release is restored only if \
             no pod of the new version ever started."
                .into()
        }
        (None, _) => "stops: the object is Stalled, and nothing is repaired or uninstalled for it.".into(),
    }
}
