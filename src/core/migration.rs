//! What a server of Coder that does not become ready is doing: migrating, waiting, or refusing to start.
//!
//! Coder Classic migrates in an init container of its own. Coder v2 migrates when it starts: it opens its listener, says nothing
//! on most versions, and answers only when the migration is done; a probe cannot tell that from a server that hangs. What can
//! be told is told by the log.

use jiff::{SignedDuration, Timestamp};

use super::workload::{ContainerFacts, PodFacts};
use crate::api::FailureClass;

/// What the log of a starting server says last about its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It does not start, and says why.
    Refuses(Refusal),
    /// It migrates the database.
    Migrates,
    /// Another server migrates, and this one waits for it.
    WaitsForLock,
    /// The database does not answer yet; the line that says so.
    WaitsForDatabase(String),
    /// It has opened its listener and been silent since.
    Silent,
}

/// Why a server does not start on its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Class of the failure.
    pub class: FailureClass,
    /// What is the matter, as the end of a sentence that begins with the pod.
    pub message: String,
}

impl Refusal {
    /// A liveness probe has ended the server in the middle of a migration.
    #[must_use]
    pub fn killed() -> Self {
        let message =
            "was killed by its liveness probe in the middle of a migration of the database, which begins anew";
        Self { class: FailureClass::MigrationKilled, message: message.into() }
    }

    /// Whether starting the same version again cannot help, so that nothing is gained by waiting.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.class, FailureClass::SchemaTooNew | FailureClass::WrongDatabase)
    }
}

/// What a log says last about the database; none if it says nothing, or the server has got past it.
#[must_use]
pub fn said(log: &str) -> Option<Said> {
    if let Some(refusal) = log.lines().rev().find_map(refusal) {
        return Some(Said::Refuses(refusal));
    }
    match log.lines().rev().find_map(step)? {
        Step::At(said) => Some(said),
        Step::Past => None,
    }
}

/// The refusal in a line: Coder's own words.
fn refusal(line: &str) -> Option<Refusal> {
    let low = line.to_lowercase();
    let found = |class, message: String| Some(Refusal { class, message });
    if let Some(version) = after(&low, "no migration found for version ") {
        let message = format!(
            "refuses to start: the database has schema version {version}, which this version of Coder does not know"
        );
        return found(FailureClass::SchemaTooNew, message);
    }
    if let Some(line) = after(&low, "currently connected to a coder ") {
        let message =
            format!("refuses to start: it is connected to a database of Coder {line}, the other product line");
        return found(FailureClass::WrongDatabase, message);
    }
    if low.contains("database has not been cleanly migrated") || low.contains("dirty database version") {
        let message = "refuses to start: a migration of the database was left half done".into();
        return found(FailureClass::DatabaseNotMigrated, message);
    }
    low.contains("database needs migration").then(|| Refusal {
        class: FailureClass::DatabaseNotMigrated,
        message: "refuses to start: the database is older than it, and nothing has migrated it".into(),
    })
}

/// The word that follows a text.
fn after<'a>(line: &'a str, text: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(text)?;
    let word = rest.split(|c: char| !c.is_ascii_alphanumeric()).next()?;
    (!word.is_empty()).then_some(word)
}

/// A step of the start of a server.
enum Step {
    /// With the database.
    At(Said),
    /// After it.
    Past,
}

/// The step that a line tells of; none if it tells of none, and the one before is to be looked at.
fn step(line: &str) -> Option<Step> {
    let low = line.to_lowercase();
    let has = |texts: &[&str]| texts.iter().any(|text| low.contains(text));
    if has(&["migrated database", "no migration needed", "migrations complete", "view the web ui", "is ready"]) {
        return Some(Step::Past);
    }
    Some(Step::At(if low.contains("lock") && has(&["waiting", "lock wait", "wait for"]) {
        Said::WaitsForLock
    } else if low.contains("migrat") {
        Said::Migrates
    } else if has(&["connect to postgres", "ping postgres", "dial postgres", "connecting to postgres"]) {
        Said::WaitsForDatabase(words(line).to_owned())
    } else if low.contains("started http listener") {
        Said::Silent
    } else {
        return None;
    }))
}

/// A line of log without its time and level.
fn words(line: &str) -> &str {
    line.split_once("]  ").map_or(line, |(_, words)| words).trim()
}

/// What a pod that is not ready is doing, as the end of a sentence that begins with the pod: "migrating the database for
/// 2m10s". None if nothing is known beyond its not being ready.
#[must_use]
pub fn activity(pod: &PodFacts, log: Option<&str>, now: Timestamp) -> Option<String> {
    let said = log.and_then(said);
    if let Some(trouble) = pod.trouble() {
        return Some(match (said, log) {
            (Some(Said::Refuses(refusal)), _) => refusal.message,
            (_, Some(log)) if pod.unschedulable.is_none() => format!("{trouble}; it said: {}", last_words(log)),
            _ => trouble,
        });
    }
    let container = pod.containers.iter().find(|container| !container.ready && container.since.is_some())?;
    let time = elapsed(container.since?, now);
    Some(match said {
        Some(Said::Refuses(refusal)) => refusal.message,
        _ if migrates_by_name(container) => format!("migrating the database for {time}"),
        Some(Said::Migrates) => format!("migrating the database for {time}"),
        Some(Said::WaitsForLock) => format!("waiting for {time} until another pod has migrated the database"),
        Some(Said::WaitsForDatabase(line)) => format!("cannot reach its database for {time} ({line})"),
        Some(Said::Silent) => {
            format!("silent for {time} since it opened its listener: it migrates the database, or waits for it")
        }
        None => return None,
    })
}

/// The init container of Coder Classic that does nothing but migrate.
fn migrates_by_name(container: &ContainerFacts) -> bool {
    container.name == "migrations"
}

/// Whether a server that was ended with this log behind it was in the middle of a migration.
#[must_use]
pub fn was_migrating(log: &str) -> bool {
    matches!(said(log), Some(Said::Migrates | Said::WaitsForLock | Said::Silent))
}

/// The last line that speaks of an error, else the last one: what is written to stdout may come after what ended the program.
fn last_words(log: &str) -> &str {
    let mut lines = log.lines().rev().filter(|line| !line.trim().is_empty());
    let complains = |line: &&str| {
        let low = line.to_lowercase();
        ["erro", "fatal", "panic", "crit"].iter().any(|word| low.contains(word))
    };
    words(lines.clone().find(complains).or_else(|| lines.next()).unwrap_or_default())
}

/// A span of time as people write it: 2m10s.
fn elapsed(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).max(SignedDuration::ZERO).as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, _) => format!("{hours}h{minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const START: &str = "Coder v2.32.0 - your platform\nStarted HTTP listener at http://0.0.0.0:8080\n";

    #[rstest]
    #[case::newer(
        "error: connect to postgres: migrate up: up: no migration found for version 371: read down for version 371 .: file does not exist",
        FailureClass::SchemaTooNew,
        "schema version 371"
    )]
    #[case::classic(
        "currently connected to a Coder v1 database, aborting database setup",
        FailureClass::WrongDatabase,
        "a database of Coder v1"
    )]
    #[case::unclean("database has not been cleanly migrated", FailureClass::DatabaseNotMigrated, "half done")]
    #[case::dirty("Dirty database version 1. Fix and force version.", FailureClass::DatabaseNotMigrated, "half done")]
    #[case::old("database needs migration", FailureClass::DatabaseNotMigrated, "nothing has migrated it")]
    fn a_refusal_is_known_by_its_words(#[case] line: &str, #[case] class: FailureClass, #[case] part: &str) {
        let log = format!("{START}2026-01-01 00:00:00.000 [erro]  {line}\nsee the docs\n");
        let Some(Said::Refuses(refusal)) = said(&log) else { panic!("no refusal: {:?}", said(&log)) };
        assert!(refusal.class == class && refusal.message.contains(part), "{refusal:?}");
    }

    #[rstest]
    #[case::silent("", Some(Said::Silent))]
    #[case::migrates("[info]  migrating database from 1 to 2\n", Some(Said::Migrates))]
    #[case::waits("[info]  waiting for the migration lock\n", Some(Said::WaitsForLock))]
    #[case::interrupted(
        "[info]  migrating: 1 of 2\n[info]  interrupt caught, gracefully exiting\n",
        Some(Said::Migrates)
    )]
    #[case::done("[info]  migrating database\n[info]  migrated database in 3 s\n", None)]
    #[case::not_needed("[info]  database schema is at 3, no migration needed\n", None)]
    #[case::up("[info]  migrating\nView the Web UI: http://x\nloading templates\n", None)]
    fn the_last_word_about_the_database_counts(#[case] log: &str, #[case] expected: Option<Said>) {
        assert_eq!(said(&format!("{START}{log}")), expected);
    }

    fn pod(container: ContainerFacts) -> PodFacts {
        PodFacts { name: "coder-1".into(), containers: vec![container], ..PodFacts::default() }
    }

    #[test]
    fn a_pod_that_starts_says_what_it_does() {
        let since: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let now = since + SignedDuration::from_secs(130);
        let running = |name: &str| pod(ContainerFacts { name: name.into(), since: Some(since), ..Default::default() });
        let does = |pod: &PodFacts, log: Option<&str>| activity(pod, log, now).unwrap_or_default();
        assert_eq!(does(&running("coder"), Some("migrating")), "migrating the database for 2m10s");
        assert_eq!(does(&running("migrations"), None), "migrating the database for 2m10s");
        assert!(does(&running("coder"), Some(START)).starts_with("silent for 2m10s"));
        assert_eq!(does(&running("coder"), None), "");
        let log = "x [warn]  connect to postgres: ping postgres: dial tcp db: refused; trying again";
        assert!(does(&running("coder"), Some(log)).contains("(connect to postgres: ping postgres: dial tcp db"));
    }

    #[test]
    fn a_pod_that_crashes_says_what_it_said_last() {
        let waiting = Some(("CrashLoopBackOff".to_owned(), String::new()));
        let crashed = pod(ContainerFacts {
            name: "coder".into(),
            waiting,
            last_exit: Some(1),
            restarts: 2,
            ..Default::default()
        });
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(
            activity(&crashed, Some("a\nx [erro]  flag is unknown\nbanner\n\n"), now).unwrap(),
            "container coder keeps ending with exit code 1 and was started 3 times; it said: flag is unknown"
        );
        let refused = activity(&crashed, Some("no migration found for version 9: x"), now).unwrap();
        assert!(refused.starts_with("refuses to start"), "{refused}");
    }

    #[test]
    fn times_are_written_as_people_do() {
        let spans = [(9, "9s"), (130, "2m10s"), (3700, "1h1m"), (-5, "0s")];
        for (seconds, text) in spans {
            let now = Timestamp::from_second(10_000 + seconds).unwrap();
            assert_eq!(elapsed(Timestamp::from_second(10_000).unwrap(), now), text);
        }
    }
}
