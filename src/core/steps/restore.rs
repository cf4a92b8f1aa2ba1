//! What is left to do to restore the saved release of a plan, seen from Helm's history.

use super::uninstall::{ReleaseState, place};
use crate::core::helm::history::{History, Revision};
use crate::core::plan::Plan;

/// What is left to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreWork {
    /// It is back already: verify.
    Verify,
    /// Have helm upgrade to it, or install it.
    Run,
    /// The same, but release the lock first that an interrupted try left on this revision.
    Unlock(Revision),
    /// The release is not what the plan was made for any more; the text says how.
    Outdated(String),
}

/// What is left to do; for `restored` see [`place`]. That the records are gone is no reason to leave Coder away.
pub fn left(plan: &Plan, history: &History, restored: bool) -> RestoreWork {
    match place(plan, history, restored) {
        ReleaseState::Gone => RestoreWork::Run,
        ReleaseState::Foreign(how) => RestoreWork::Outdated(how),
        ReleaseState::Locked(revision) => RestoreWork::Unlock(revision.clone()),
        ReleaseState::Known(revision) if revision.status == "uninstalling" => {
            RestoreWork::Outdated(format!("revision {} is being uninstalled: that must end first", revision.number))
        }
        ReleaseState::Known(revision) => {
            let ours = revision.restored && revision.plan.as_deref() == Some(plan.id.as_str());
            if ours && revision.deployed() { RestoreWork::Verify } else { RestoreWork::Run }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::{Installed, ProductLine};
    use crate::core::helm::history::revision;
    use crate::core::plan::sample;

    #[rstest]
    #[case::failed_upgrade("failed", Some("mine"), false, "run")]
    #[case::upgraded_but_wrong("deployed", Some("mine"), false, "run")]
    #[case::uninstalled("uninstalled", Some("mine"), false, "run")]
    #[case::uninstalling("uninstalling", Some("mine"), false, "outdated")]
    #[case::killed("pending-upgrade", Some("mine"), true, "unlock")]
    #[case::back("deployed", Some("mine"), true, "verify")]
    #[case::failed_on_the_way_back("failed", Some("mine"), true, "run")]
    #[case::of_somebody_else("deployed", None, false, "outdated")]
    #[case::back_by_another_plan("deployed", Some("other"), true, "outdated")]
    fn what_is_left_follows_from_the_history(
        #[case] status: &str,
        #[case] by: Option<&str>,
        #[case] restored: bool,
        #[case] expected: &str,
    ) {
        let from = Installed {
            version: "2.30.0".into(),
            app_version: None,
            revision: 1,
            status: "deployed".into(),
            line: ProductLine::V2,
        };
        let plan = Plan { id: "mine".into(), from: Some(from), ..sample() };
        let newest = Revision { restored, ..revision(2, status, by) };
        let found = match left(&plan, &[newest], false) {
            RestoreWork::Verify => "verify",
            RestoreWork::Run => "run",
            RestoreWork::Unlock(_) => "unlock",
            RestoreWork::Outdated(_) => "outdated",
        };
        assert_eq!(found, expected);
        assert_eq!(left(&plan, &[], false), RestoreWork::Run);
    }
}
