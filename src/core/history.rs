//! What Helm's storage says about a release, and what follows from it for a step.
//!
//! Helm knows no lock and no holder: the newest revision is `pending-…` while a helm is at work, and for ever after one
//! that was killed. The plan label tells whose revision it is.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::plan::Plan;
use super::report::Problem;
use crate::api::{CheckName, FailureClass, Finding};

/// A revision of a release, as the labels of its record tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Number, counted from 1.
    pub number: i32,
    /// Status in Helm's words.
    pub status: String,
    /// Id of the plan whose upgrade made it; none for a revision that somebody else made.
    pub plan: Option<String>,
    /// It put the saved release back: it is of that plan, but is not what the plan leads to.
    pub restored: bool,
    /// Name of the Secret that holds the record.
    pub secret: String,
    /// When helm wrote the record the last time, if that is known.
    pub written: Option<Timestamp>,
}

/// How old a foreign lock must be to count as left behind. No helm can be told to wait longer than others do: twice the
/// configured timeout (an upgrade and its rollback), and never less than ten minutes.
#[must_use]
pub fn stale_after(helm_timeout: Duration) -> Duration {
    (helm_timeout * 2).max(Duration::from_secs(10 * 60))
}

/// By which clock a foreign lock is judged.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The time now.
    pub now: Timestamp,
    /// Age from which a lock counts as left behind, from [`stale_after`].
    pub stale_after: Duration,
}

impl Revision {
    /// A helm is at work on it, or was killed at work.
    #[must_use]
    pub fn pending(&self) -> bool {
        self.status.starts_with("pending-")
    }

    /// When a lock counts as left behind; never if its age is not known.
    fn stale_at(&self, clock: Clock) -> Option<Timestamp> {
        self.written?.checked_add(SignedDuration::try_from(clock.stale_after).ok()?).ok()
    }

    /// It is a lock that was left behind.
    fn stale(&self, clock: Clock) -> bool {
        self.pending() && self.stale_at(clock).is_some_and(|at| at <= clock.now)
    }

    /// A lock that may be broken: one of this operator, whose runners all hold the release's Lease, or one that was left
    /// behind.
    fn breakable(&self, clock: Clock) -> bool {
        self.pending() && (self.plan.is_some() || self.stale(clock))
    }

    /// It is what is installed.
    #[must_use]
    pub fn deployed(&self) -> bool {
        self.status == "deployed"
    }
}

/// The revisions of a release, the newest first.
pub type History = [Revision];

/// The revision whose values are kept: the newest that is deployed, or the newest of all.
#[must_use]
pub fn base(history: &History) -> Option<&Revision> {
    history.iter().find(|revision| revision.deployed()).or_else(|| history.first())
}

/// Number of the revision that helm makes next.
#[must_use]
pub fn next_number(history: &History) -> i32 {
    history.first().map_or(1, |newest| newest.number.saturating_add(1))
}

/// Refuses to plan while another helm is, or may be, at work. A lock that may be broken is no reason: the upgrade step, which
/// alone holds the release's Lease, releases it. Neither is an uninstall that was interrupted.
pub fn check_lock(history: &History, clock: Clock) -> Result<(), Box<Problem>> {
    match history.first() {
        Some(newest) if newest.pending() && !newest.breakable(clock) => Err(locked(newest, clock).boxed()),
        _ => Ok(()),
    }
}

/// The problem with a lock that may not be broken yet.
fn locked(newest: &Revision, clock: Clock) -> Problem {
    let text = |time: Option<Timestamp>| time.map_or_else(|| "an unknown time".to_owned(), |time| time.to_string());
    let message = format!(
        "revision {} has been {} since {} and was not begun by this operator: another helm is at work, or was killed; \
         it counts as left behind at {}",
        newest.number,
        newest.status,
        text(newest.written),
        text(newest.stale_at(clock)),
    );
    let object = format!("Secret/{}", newest.secret);
    // No override helps: helm refuses to work on a release that is pending.
    let finding = Finding::refusal(CheckName::ReleasePending, &message, FailureClass::ReleaseLocked.next_step());
    let problem = Problem::new(FailureClass::ReleaseLocked, message).object(&object);
    Problem { findings: vec![finding.about(object)], ..problem }
}

/// What is left to do of a planned upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// helm has not begun, or has failed: run it.
    Run,
    /// An earlier try was killed and left this revision locked: release it, then run helm.
    Unlock(Revision),
    /// helm has ended well already: verify.
    Verify,
    /// The release is not what the plan was made for any more; the text says how.
    Outdated(String),
    /// The uninstall of this revision was interrupted: helm can neither upgrade nor install before it is ended.
    HalfGone(Revision),
}

/// Whether the newest revision follows directly on one that this plan's upgrade made.
#[must_use]
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

/// What is left to do of `plan`, seen from the present history. `put_back` says that the newest revision has the chart and
/// the values of the release that the plan saved: after a failure of this plan's upgrade it may have been rolled back.
#[must_use]
pub fn work(plan: &Plan, history: &History, start: Start, put_back: bool, clock: Clock) -> Work {
    let Some(newest) = history.first() else {
        return match &plan.from {
            None => Work::Run,
            Some(_) if start == Start::Uninstalled => Work::Run,
            Some(from) => Work::Outdated(format!("the release, which was at revision {}, is gone", from.revision)),
        };
    };
    let now = format!("revision {} ({})", newest.number, newest.status);
    if newest.status == "uninstalling" {
        return Work::HalfGone(newest.clone());
    }
    if newest.plan.as_deref() == Some(plan.id.as_str()) {
        return match newest.status.as_str() {
            "deployed" if !newest.restored => Work::Verify,
            "failed" => Work::Run,
            "uninstalled" if start == Start::Uninstalled => Work::Run,
            _ if newest.pending() => Work::Unlock(newest.clone()),
            _ => Work::Outdated(format!("the release was changed after this plan's upgrade: it is at {now}")),
        };
    }
    if put_back && follows_failure(plan, history) {
        match newest.status.as_str() {
            "deployed" | "failed" => return Work::Run,
            "pending-rollback" => return Work::Unlock(newest.clone()),
            _ => {}
        }
    }
    match &plan.from {
        _ if start == Start::Uninstalled && newest.status == "uninstalled" => Work::Run,
        None if newest.status == "uninstalled" => Work::Run,
        None => Work::Outdated(format!("the plan is for a first install, but there is {now}")),
        Some(from) if from.revision != newest.number => {
            Work::Outdated(format!("the plan starts from revision {}, but there is {now}", from.revision))
        }
        Some(_) if newest.breakable(clock) => Work::Unlock(newest.clone()),
        Some(_) if newest.pending() => Work::Outdated(format!("another helm is at work: there is {now}")),
        // A lock that the plan saw may have been released by an earlier try.
        Some(from)
            if from.status == newest.status || (from.status.starts_with("pending-") && newest.status == "failed") =>
        {
            Work::Run
        }
        Some(from) => {
            Work::Outdated(format!("revision {} was {} and is now {}", from.revision, from.status, newest.status))
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::{Installed, ProductLine};
    use crate::core::plan::sample;

    fn revision(number: i32, status: &str, plan: Option<&str>) -> Revision {
        Revision {
            number,
            status: status.into(),
            plan: plan.map(Into::into),
            restored: false,
            secret: format!("sh.helm.release.v1.coder.v{number}"),
            written: Some("2026-01-01T00:00:00Z".parse().unwrap()),
        }
    }

    /// So long after the records were written.
    fn after(minutes: i64) -> Clock {
        let written: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let stale_after = stale_after(Duration::from_secs(1800));
        Clock { now: written + SignedDuration::from_mins(minutes), stale_after }
    }

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
    #[case::uninstall_interrupted(Some((1, "uninstalling")), &[(1, "uninstalling", None)], "half gone")]
    #[case::locked_by_somebody(Some((2, "pending-upgrade")), &[(2, "pending-upgrade", None)], "outdated")]
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
        assert_eq!(word(&work(&plan(from), &history, Start::Planned, false, after(1))), expected);
    }

    fn word(work: &Work) -> &'static str {
        match work {
            Work::Run => "run",
            Work::Unlock(_) => "unlock",
            Work::Verify => "verify",
            Work::Outdated(_) => "outdated",
            Work::HalfGone(_) => "half gone",
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
        assert_eq!(word(&work(&plan(Some((1, "deployed"))), &history, Start::Uninstalled, false, after(1))), expected);
    }

    #[rstest]
    #[case::rolled_back("deployed", true, "run")]
    #[case::rollback_failed("failed", true, "run")]
    #[case::rollback_killed("pending-rollback", true, "unlock")]
    #[case::upgraded_by_hand("deployed", false, "outdated")]
    fn after_a_rollback_it_goes_on(#[case] status: &str, #[case] put_back: bool, #[case] expected: &str) {
        let history = [revision(3, status, None), revision(2, "failed", Some("mine")), revision(1, "superseded", None)];
        let plan = plan(Some((1, "deployed")));
        assert_eq!(word(&work(&plan, &history, Start::Planned, put_back, after(1))), expected);
    }

    #[test]
    fn what_was_put_back_is_not_the_upgrade() {
        let restored = |status| Revision { restored: true, ..revision(3, status, Some("mine")) };
        let work =
            |status| word(&work(&plan(Some((1, "deployed"))), &[restored(status)], Start::Planned, false, after(1)));
        assert_eq!((work("deployed"), work("failed"), work("pending-upgrade")), ("outdated", "run", "unlock"));
    }

    #[test]
    fn a_foreign_lock_is_broken_once_it_is_stale() {
        let history = [revision(2, "pending-upgrade", None)];
        let plan = plan(Some((2, "pending-upgrade")));
        let at = |minutes| word(&work(&plan, &history, Start::Planned, false, after(minutes)));
        assert_eq!((at(59), at(60)), ("outdated", "unlock"), "twice helm's timeout");
        assert!(check_lock(&history, after(59)).is_err() && check_lock(&history, after(60)).is_ok());
        let unknown = [Revision { written: None, ..history[0].clone() }];
        assert!(check_lock(&unknown, after(600)).is_err(), "a lock of unknown age is never broken");
        assert_eq!(stale_after(Duration::from_secs(5)), Duration::from_secs(600), "never too soon");
    }

    #[test]
    fn only_locks_of_others_hold_up_a_plan() {
        let locked = check_lock(&[revision(4, "pending-upgrade", None)], after(1)).unwrap_err();
        for part in
            ["revision 4 has been pending-upgrade since 2026-01-01T00:00:00Z", "left behind at 2026-01-01T01:00:00Z"]
        {
            assert!(locked.message.contains(part), "{}", locked.message);
        }
        let free = [("pending-upgrade", Some("any")), ("failed", None), ("uninstalling", None)];
        for (status, plan) in free {
            assert!(check_lock(&[revision(4, status, plan)], after(1)).is_ok(), "{status}");
        }
        assert!(check_lock(&[], after(1)).is_ok());
    }

    #[test]
    fn values_are_kept_from_the_newest_deployed_revision() {
        let number = |history: &[Revision]| base(history).map(|r| r.number);
        assert_eq!(number(&[revision(3, "failed", None), revision(2, "deployed", None)]), Some(2));
        assert_eq!(number(&[revision(3, "failed", None), revision(2, "superseded", None)]), Some(3));
        assert_eq!(number(&[]), None);
    }
}
