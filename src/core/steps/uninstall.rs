//! What is left to do of the uninstall of a plan, seen from Helm's history.

use crate::core::helm::history::{History, Revision};
use crate::core::plan::Plan;
use crate::core::steps::upgrade::follows_failure;

/// What is left to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UninstallWork {
    /// Nothing: helm has uninstalled it.
    Nothing,
    /// Nothing that helm could do: somebody has removed its records. The saved plan is all that is needed from here on.
    Gone,
    /// Uninstall the newest revision, perhaps once more.
    Uninstall,
    /// The same, but release the lock first that an interrupted try left on it.
    Unlock(Revision),
    /// The release is not what the plan was made for any more; the text says how.
    Outdated(String),
}

/// What is left to do of the uninstall of `plan`; for `restored` see [`place`].
pub fn left(plan: &Plan, history: &History, restored: bool) -> UninstallWork {
    match place(plan, history, restored) {
        ReleaseState::Gone => UninstallWork::Gone,
        ReleaseState::Foreign(how) => UninstallWork::Outdated(how),
        ReleaseState::Locked(revision) => UninstallWork::Unlock(revision.clone()),
        ReleaseState::Known(revision) if revision.status == "uninstalled" => UninstallWork::Nothing,
        ReleaseState::Known(_) => UninstallWork::Uninstall,
    }
}

/// Where a release stands, seen from a plan whose change was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseState<'a> {
    /// There are no records of it.
    Gone,
    /// Its newest revision is what the plan started from, or what came of the plan.
    Known(&'a Revision),
    /// The same, with a lock that an interrupted try of an upgrade left.
    Locked(&'a Revision),
    /// It is something else; the text says what.
    Foreign(String),
}

/// Where the release stands. `restored` says that the newest revision has the chart and the values of the release that
/// the plan saved: after a failure of this plan's upgrade, helm may have rolled back to it.
pub fn place<'a>(plan: &Plan, history: &'a History, restored: bool) -> ReleaseState<'a> {
    let Some(newest) = history.first() else { return ReleaseState::Gone };
    let from = plan.from.as_ref().map(|from| from.revision);
    let ours = newest.plan.as_deref() == Some(plan.id.as_str());
    // Without that flag helm does not roll back by itself: then a person has done it.
    let rolled_back = restored && plan.rollback_on_failure && follows_failure(plan, history);
    let now = format!("revision {} ({})", newest.number, newest.status);
    if !(ours || from == Some(newest.number) || rolled_back) {
        return ReleaseState::Foreign(match from {
            Some(from) => format!("the plan starts from revision {from}, but there is {now}"),
            None => format!("the plan is for a first install, but there is {now}"),
        });
    }
    if !newest.pending() {
        ReleaseState::Known(newest)
    } else if newest.plan.is_some() || rolled_back {
        ReleaseState::Locked(newest)
    } else {
        ReleaseState::Foreign(format!("there is {now}: another helm process is at work, or was killed"))
    }
}

/// The revisions whose objects may be in the cluster, the newest first: each that failed since the last one that was
/// deployed may have been partially applied. helm itself would uninstall the objects of the newest alone.
pub fn applied<'a>(plan: &Plan, history: &'a History) -> &'a History {
    let whole = history.iter().position(|revision| {
        let begun_from = plan.from.as_ref().is_some_and(|from| revision.number == from.revision);
        revision.deployed() || (begun_from && revision.status != "failed")
    });
    // A rollback of helm's leaves what the failed upgrade made.
    let rolled_back = whole == Some(0) && follows_failure(plan, history);
    let whole = if rolled_back { Some(1) } else { whole };
    &history[..whole.map_or(history.len(), |index| index + 1)]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::{Installed, ProductLine};
    use crate::core::helm::history::revision;
    use crate::core::plan::sample;

    type Rows<'a> = &'a [(i32, &'a str, Option<&'a str>)];

    fn history(rows: Rows<'_>) -> Vec<Revision> {
        rows.iter().map(|(number, status, plan)| revision(*number, status, *plan)).collect()
    }

    fn plan(from: Option<i32>) -> Plan {
        let installed = |revision| Installed {
            version: "2.30.0".into(),
            app_version: None,
            revision,
            status: "deployed".into(),
            line: ProductLine::V2,
        };
        Plan { id: "mine".into(), from: from.map(installed), ..sample() }
    }

    #[rstest]
    #[case::as_planned(Some(1), &[(1, "deployed", None)], false, "uninstall")]
    #[case::after_our_failure(Some(1), &[(2, "failed", Some("mine")), (1, "deployed", None)], false, "uninstall")]
    #[case::our_upgrade_was_killed(Some(1), &[(2, "pending-upgrade", Some("mine")), (1, "deployed", None)], false, "unlock")]
    #[case::rolled_back_by_a_person(Some(1), &[(3, "deployed", None), (2, "failed", Some("mine")), (1, "superseded", None)], true, "outdated")]
    #[case::upgraded_by_hand_after_our_failure(Some(1), &[(3, "deployed", None), (2, "failed", Some("mine"))], false, "outdated")]
    #[case::rollback_by_a_person_failed(Some(1), &[(3, "failed", None), (2, "failed", Some("mine"))], true, "outdated")]
    #[case::same_by_hand(Some(1), &[(3, "deployed", None), (2, "deployed", None)], true, "outdated")]
    #[case::rollback_by_hand(Some(1), &[(3, "pending-rollback", None), (2, "failed", Some("mine"))], true, "outdated")]
    #[case::interrupted(Some(1), &[(1, "uninstalling", None)], false, "uninstall")]
    #[case::done(Some(1), &[(2, "uninstalled", Some("mine")), (1, "deployed", None)], false, "nothing")]
    #[case::done_from_the_start(Some(1), &[(1, "uninstalled", None)], false, "nothing")]
    #[case::by_hand_of_another(Some(1), &[(2, "uninstalled", None)], false, "outdated")]
    #[case::locked_by_another(Some(1), &[(1, "pending-rollback", None)], false, "outdated")]
    #[case::gone(Some(1), &[], false, "gone")]
    #[case::first_install_failed(None, &[(1, "failed", Some("mine"))], false, "uninstall")]
    #[case::installed_by_hand(None, &[(1, "deployed", None)], false, "outdated")]
    fn what_is_left_follows_from_the_history(
        #[case] from: Option<i32>,
        #[case] rows: Rows<'_>,
        #[case] restored: bool,
        #[case] expected: &str,
    ) {
        let found = match left(&plan(from), &history(rows), restored) {
            UninstallWork::Nothing => "nothing",
            UninstallWork::Gone => "gone",
            UninstallWork::Uninstall => "uninstall",
            UninstallWork::Unlock(_) => "unlock",
            UninstallWork::Outdated(_) => "outdated",
        };
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case::rolled_back("deployed", "uninstall")]
    #[case::rollback_failed("failed", "uninstall")]
    #[case::rollback_killed("pending-rollback", "unlock")]
    fn helms_own_rollback_is_known(#[case] status: &str, #[case] expected: &str) {
        let plan = Plan { rollback_on_failure: true, ..plan(Some(1)) };
        let found = left(&plan, &history(&[(3, status, None), (2, "failed", Some("mine"))]), true);
        let expected_unlock = expected == "unlock";
        assert_eq!(matches!(found, UninstallWork::Unlock(_)), expected_unlock, "{found:?}");
        assert_eq!(matches!(found, UninstallWork::Uninstall), !expected_unlock, "{found:?}");
    }

    #[rstest]
    #[case::only_one(Some(1), &[(1, "deployed", None)], &[1])]
    #[case::half_applied(Some(1), &[(3, "failed", Some("mine")), (2, "failed", None), (1, "deployed", None)], &[3, 2, 1])]
    #[case::older_ones_are_history(Some(2), &[(3, "failed", Some("mine")), (2, "deployed", None), (1, "superseded", None)], &[3, 2])]
    #[case::nothing_was_ever_whole(None, &[(2, "failed", Some("mine")), (1, "failed", None)], &[2, 1])]
    #[case::rolled_back(Some(1), &[(3, "deployed", None), (2, "failed", Some("mine")), (1, "superseded", None)], &[3, 2])]
    #[case::install_failed(Some(1), &[(2, "failed", Some("mine")), (1, "uninstalled", None)], &[2, 1])]
    fn what_was_partially_applied_counts(#[case] from: Option<i32>, #[case] rows: Rows<'_>, #[case] expected: &[i32]) {
        let history = history(rows);
        let numbers: Vec<i32> = applied(&plan(from), &history).iter().map(|revision| revision.number).collect();
        assert_eq!(numbers, expected);
    }
}
