//! Whether the runner, and the person who asks, have their rights.

use std::collections::BTreeSet;

use super::DoctorLine;
use crate::core::rights::{ACCOUNT, Right, base, beyond, said};

/// What is wrong with the rights of the runner in a namespace. `granted` is what Roles there and `ClusterRoles` give to it.
#[must_use]
pub fn runner(account: bool, granted: &BTreeSet<Right>, namespace: &str, program: &str) -> DoctorLine {
    let subject = "runner";
    let setup = format!("{program} setup -n {namespace}");
    if !account {
        let finding = format!("ServiceAccount/{ACCOUNT} does not exist in namespace {namespace}");
        return DoctorLine::problem(subject, finding, setup);
    }
    if granted.is_empty() {
        let finding = format!("ServiceAccount/{ACCOUNT} has no right in namespace {namespace}");
        return DoctorLine::problem(subject, finding, setup);
    }
    let wanted: BTreeSet<Right> = base(&[]).home.into_iter().flat_map(|part| part.rights).collect();
    let missing = beyond(&wanted, granted);
    if missing.is_empty() {
        let finding = format!("ServiceAccount/{ACCOUNT} has what every public chart of Coder takes");
        return DoctorLine::ok(subject, finding);
    }
    let finding = format!(
        "ServiceAccount/{ACCOUNT} has less than every public chart of Coder takes; it lacks the right to {}",
        said(&missing)
    );
    let remedy = format!("nothing, if these are the rights that `{program} rights NAME` printed; otherwise {setup}");
    DoctorLine::note(subject, finding, remedy)
}

/// What the person who asks may not do with `CoderUpgrades`, by verb.
#[must_use]
pub fn person(denied: &[&str], namespace: &str) -> DoctorLine {
    let subject = "you";
    if denied.is_empty() {
        return DoctorLine::ok(subject, format!("you may read and change CoderUpgrades in namespace {namespace}"));
    }
    DoctorLine::note(
        subject,
        format!("you may not {} CoderUpgrades in namespace {namespace}", denied.join(", ")),
        "ask whoever runs the cluster for the right, if you need it",
    )
}
