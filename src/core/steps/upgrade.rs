//! What is left to do of a planned upgrade, seen from Helm's history.

use crate::core::helm::history::{History, Revision};
use crate::core::plan::Plan;

/// What is left to do of a planned upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpgradeWork {
    /// helm has not begun, or has failed: run it.
    Run,
    /// This revision is locked, by an earlier try or by the helm process of somebody else that the plan saw: release it, if that
    /// is allowed, then run helm.
    Unlock(Revision),
    /// helm has succeeded already: verify.
    Verify,
    /// The release is not what the plan was made for any more; the text says how.
    Outdated(String),
    /// The uninstall of this revision was interrupted: helm can neither upgrade nor install before it is ended.
    UninstallInterrupted(Revision),
}

/// Whether the newest revision follows directly on one that this plan's upgrade made.
pub fn follows_failure(plan: &Plan, history: &History) -> bool {
    plan.from.is_some() && history.get(1).is_some_and(|previous| previous.plan.as_deref() == Some(plan.id.as_str()))
}

/// What a step starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The release as the plan found it.
    Planned,
    /// Nothing: the release was uninstalled before. That its records are gone is no reason to leave Coder away.
    Uninstalled,
}

/// What is left to do of `plan`, seen from the present history. `restored` says that the newest revision has the chart and
/// the values of the release that the plan saved: after a failure of this plan's upgrade helm may have rolled back to it.
/// `incomplete` says that something was removed already: records that vanish are no reason then to leave it away.
pub fn work(plan: &Plan, history: &History, start: Start, restored: bool, incomplete: bool) -> UpgradeWork {
    let Some(newest) = history.first() else {
        return match &plan.from {
            None => UpgradeWork::Run,
            Some(_) if start == Start::Uninstalled || incomplete => UpgradeWork::Run,
            Some(from) => {
                UpgradeWork::Outdated(format!("the release, which was at revision {}, is gone", from.revision))
            }
        };
    };
    let now = format!("revision {} ({})", newest.number, newest.status);
    if newest.status == "uninstalling" {
        return UpgradeWork::UninstallInterrupted(newest.clone());
    }
    if newest.plan.as_deref() == Some(plan.id.as_str()) {
        return match newest.status.as_str() {
            "deployed" if !newest.restored => UpgradeWork::Verify,
            "failed" => UpgradeWork::Run,
            "uninstalled" if start == Start::Uninstalled => UpgradeWork::Run,
            _ if newest.pending() => UpgradeWork::Unlock(newest.clone()),
            _ => UpgradeWork::Outdated(format!("the release was changed after this plan's upgrade: it is at {now}")),
        };
    }
    // Without that flag helm does not roll back by itself: then a person does, or has done it.
    if restored && plan.rollback_on_failure && follows_failure(plan, history) {
        match newest.status.as_str() {
            "deployed" | "failed" => return UpgradeWork::Run,
            "pending-rollback" => return UpgradeWork::Unlock(newest.clone()),
            _ => {}
        }
    }
    match &plan.from {
        _ if start == Start::Uninstalled && newest.status == "uninstalled" => UpgradeWork::Run,
        None if newest.status == "uninstalled" => UpgradeWork::Run,
        None => UpgradeWork::Outdated(format!("the plan is for a first install, but there is {now}")),
        Some(from) if from.revision != newest.number => {
            UpgradeWork::Outdated(format!("the plan starts from revision {}, but there is {now}", from.revision))
        }
        Some(from) if newest.pending() && from.status == newest.status => UpgradeWork::Unlock(newest.clone()),
        // A lock that the plan saw may have been released by an earlier try.
        Some(from)
            if from.status == newest.status || (from.status.starts_with("pending-") && newest.status == "failed") =>
        {
            UpgradeWork::Run
        }
        Some(from) => UpgradeWork::Outdated(format!(
            "revision {} was {} and is now {}",
            from.revision, from.status, newest.status
        )),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::{Installed, ProductLine};
    use crate::core::helm::history::revision;
    use crate::core::plan::sample;

    fn plan(from: Option<(i32, &str)>) -> Plan {
        Plan {
            id: "mine".into(),
            from: from.map(|(revision, status)| Installed {
                version: "2.30.0".into(),
                app_version: None,
                revision,
                status: status.into(),
                line: ProductLine::V2,
            }),
            ..sample()
        }
    }

    #[rstest]
    #[case::as_planned(Some((1, "deployed")), &[(1, "deployed", None)], "run")]
    #[case::failed_before(Some((2, "failed")), &[(2, "failed", None), (1, "deployed", None)], "run")]
    #[case::killed(Some((1, "deployed")), &[(2, "pending-upgrade", Some("mine")), (1, "deployed", None)], "unlock")]
    #[case::failed(Some((1, "deployed")), &[(2, "failed", Some("mine")), (1, "deployed", None)], "run")]
    #[case::done(Some((1, "deployed")), &[(2, "deployed", Some("mine")), (1, "superseded", None)], "verify")]
    #[case::left_by_an_older_plan(Some((2, "pending-upgrade")), &[(2, "pending-upgrade", Some("older"))], "unlock")]
    #[case::unlocked_already(Some((2, "pending-upgrade")), &[(2, "failed", Some("older"))], "run")]
    #[case::upgraded_by_hand(Some((1, "deployed")), &[(2, "deployed", None), (1, "superseded", None)], "outdated")]
    #[case::locked_by_hand(Some((1, "deployed")), &[(2, "pending-upgrade", None), (1, "deployed", None)], "outdated")]
    #[case::uninstalled_by_hand(Some((1, "deployed")), &[(1, "uninstalled", None)], "outdated")]
    #[case::uninstall_interrupted(Some((1, "uninstalling")), &[(1, "uninstalling", None)], "uninstall interrupted")]
    #[case::locked_when_it_was_planned(Some((2, "pending-upgrade")), &[(2, "pending-upgrade", None)], "unlock")]
    #[case::the_other_helm_has_ended(Some((2, "pending-upgrade")), &[(2, "deployed", None)], "outdated")]
    #[case::gone(Some((1, "deployed")), &[], "outdated")]
    #[case::first_install(None, &[], "run")]
    #[case::after_an_uninstall(None, &[(3, "uninstalled", None)], "run")]
    #[case::first_install_killed(None, &[(1, "pending-install", Some("mine"))], "unlock")]
    #[case::installed_by_hand(None, &[(1, "deployed", None)], "outdated")]
    #[case::undone_by_hand(Some((1, "deployed")), &[(2, "uninstalled", Some("mine"))], "outdated")]
    fn what_is_left_follows_from_the_history(
        #[case] from: Option<(i32, &str)>,
        #[case] history: &[(i32, &str, Option<&str>)],
        #[case] expected: &str,
    ) {
        let history: Vec<Revision> = history.iter().map(|(n, s, p)| revision(*n, s, *p)).collect();
        assert_eq!(word(&work(&plan(from), &history, Start::Planned, false, false)), expected);
    }

    fn word(work: &UpgradeWork) -> &'static str {
        match work {
            UpgradeWork::Run => "run",
            UpgradeWork::Unlock(_) => "unlock",
            UpgradeWork::Verify => "verify",
            UpgradeWork::Outdated(_) => "outdated",
            UpgradeWork::UninstallInterrupted(_) => "uninstall interrupted",
        }
    }

    #[rstest]
    #[case::uninstalled_as_planned(&[(1, "uninstalled", None)], "run")]
    #[case::uninstalled_after_a_failure(&[(2, "uninstalled", Some("mine")), (1, "superseded", None)], "run")]
    #[case::purged(&[], "run")]
    #[case::failed_before(&[(3, "failed", Some("mine")), (2, "uninstalled", None)], "run")]
    #[case::killed(&[(3, "pending-install", Some("mine"))], "unlock")]
    #[case::done(&[(3, "deployed", Some("mine"))], "verify")]
    #[case::installed_by_hand(&[(3, "deployed", None)], "outdated")]
    fn after_an_uninstall_it_is_installed(#[case] history: &[(i32, &str, Option<&str>)], #[case] expected: &str) {
        let history: Vec<Revision> = history.iter().map(|(n, s, p)| revision(*n, s, *p)).collect();
        assert_eq!(word(&work(&plan(Some((1, "deployed"))), &history, Start::Uninstalled, false, false)), expected);
    }

    #[rstest]
    #[case::rolled_back("deployed", true, true, "run")]
    #[case::rollback_failed("failed", true, true, "run")]
    #[case::rollback_killed("pending-rollback", true, true, "unlock")]
    #[case::upgraded_by_hand("deployed", true, false, "outdated")]
    #[case::a_person_rolls_back("pending-rollback", false, true, "outdated")]
    #[case::a_person_has_rolled_back("deployed", false, true, "outdated")]
    #[case::a_person_failed_to_roll_back("failed", false, true, "outdated")]
    fn only_helms_own_rollback_is_gone_on_from(
        #[case] status: &str,
        #[case] rollback_on_failure: bool,
        #[case] restored: bool,
        #[case] expected: &str,
    ) {
        let history = [revision(3, status, None), revision(2, "failed", Some("mine")), revision(1, "superseded", None)];
        let plan = Plan { rollback_on_failure, ..plan(Some((1, "deployed"))) };
        assert_eq!(word(&work(&plan, &history, Start::Planned, restored, false)), expected);
    }

    #[test]
    fn records_that_vanish_in_the_middle_leave_nothing_away() {
        let plan = plan(Some((1, "deployed")));
        let found = |incomplete| word(&work(&plan, &[], Start::Planned, false, incomplete));
        assert_eq!((found(false), found(true)), ("outdated", "run"));
    }

    #[test]
    fn what_was_restored_is_not_the_upgrade() {
        let restored = |status| Revision { restored: true, ..revision(3, status, Some("mine")) };
        let work =
            |status| word(&work(&plan(Some((1, "deployed"))), &[restored(status)], Start::Planned, false, false));
        assert_eq!((work("deployed"), work("failed"), work("pending-upgrade")), ("outdated", "run", "unlock"));
    }
}
