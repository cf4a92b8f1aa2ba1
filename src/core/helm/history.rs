//! What Helm's storage says about a release, and what follows from it for a step.
//!
//! Helm knows no lock and no holder: the newest revision is `pending-…` while a helm process is at work, and for ever after one
//! that was killed. The plan label tells whose revision it is.

use jiff::{SignedDuration, Timestamp};

/// A revision of a release, as the labels of its record tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Number, counted from 1.
    pub number: i32,
    /// Status in Helm's words.
    pub status: String,
    /// Id of the plan whose upgrade made it; none for a revision that somebody else made.
    pub plan: Option<String>,
    /// It restored the saved release: it is of that plan, but is not what the plan leads to.
    pub restored: bool,
    /// Name of the Secret that holds the record.
    pub secret: String,
    /// When the record was written the last time, if that is known: the latest that any clock says.
    pub written: Option<Timestamp>,
}

/// How long nobody must have written to a foreign lock before it counts as left behind: twice the longest timeout that
/// `spec.helm.timeout` allows (an upgrade and its rollback), and an hour.
pub const LEFT_BEHIND: SignedDuration = SignedDuration::from_hours(2 * 24 + 1);

impl Revision {
    /// A helm process is at work on it, or was killed at work.
    pub fn pending(&self) -> bool {
        self.status.starts_with("pending-")
    }

    /// It is what is installed.
    pub fn deployed(&self) -> bool {
        self.status == "deployed"
    }
}

/// The revisions of a release, the newest first.
pub type History = [Revision];

/// The revision whose values are kept: the newest that is deployed, or the newest of all.
pub fn base(history: &History) -> Option<&Revision> {
    history.iter().find(|revision| revision.deployed()).or_else(|| history.first())
}

/// Number of the revision that helm makes next.
pub fn next_number(history: &History) -> i32 {
    history.first().map_or(1, |newest| newest.number.saturating_add(1))
}

/// Whether a revision is a lock of somebody else that was certainly left behind. `now` is the time by the API server's clock.
pub fn left_behind(revision: &Revision, now: Timestamp) -> bool {
    let written = revision.written.filter(|_| revision.pending());
    written.is_some_and(|written| now.duration_since(written) >= LEFT_BEHIND)
}

/// A revision for tests, written on the first day of 2026.
#[cfg(test)]
pub fn revision(number: i32, status: &str, plan: Option<&str>) -> Revision {
    Revision {
        number,
        status: status.into(),
        plan: plan.map(Into::into),
        restored: false,
        secret: format!("sh.helm.release.v1.coder.v{number}"),
        written: Timestamp::from_second(1_767_225_600).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_lock_is_left_behind_only_after_longer_than_any_helm_waits() {
        let lock = revision(2, "pending-upgrade", None);
        let at = |hours| lock.written.unwrap() + SignedDuration::from_hours(hours);
        assert!(!left_behind(&lock, at(48)) && left_behind(&lock, at(49)));
        let unknown = Revision { written: None, ..lock.clone() };
        assert!(!left_behind(&unknown, at(1000)), "a lock of unknown age is never broken");
        assert!(!left_behind(&Revision { status: "failed".into(), ..lock.clone() }, at(1000)));
    }

    #[test]
    fn values_are_kept_from_the_newest_deployed_revision() {
        let number = |history: &[Revision]| base(history).map(|r| r.number);
        assert_eq!(number(&[revision(3, "failed", None), revision(2, "deployed", None)]), Some(2));
        assert_eq!(number(&[revision(3, "failed", None), revision(2, "superseded", None)]), Some(3));
        assert_eq!(number(&[]), None);
    }
}
