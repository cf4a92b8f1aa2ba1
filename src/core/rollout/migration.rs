//! What a server of Coder that does not become ready is doing: migrating, waiting, or refusing to start.
//!
//! Coder Classic migrates in an init container of its own. Coder v2 migrates when it starts, and no version up to 2.31 says
//! anything about that: it opens its listener, prints the address of its web interface, connects to its database, waits for
//! its turn and migrates without a word, and answers only then. So silence after the listener is the sign of a migration, and
//! the lines that only a started server writes are the sign of its end.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::refusal;
use super::refusal::StartRefusal;
use super::workload::{ContainerFacts, PodFacts};
use crate::core::text::duration::elapsed;

/// How long after a failed try the next one is at most: who is silent for longer has reached its database.
const TRIES: SignedDuration = SignedDuration::from_secs(10);

/// What the log of a starting server says last about its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartupState {
    /// It does not start, and says why.
    Refuses(StartRefusal),
    /// The database does not answer yet, or does not let it in; the line that says so.
    WaitsForDatabase(String),
    /// It has opened its listener and been silent since.
    Silent,
}

/// What a log says last about the database; none if it says nothing, or the server has got past it.
pub fn said(log: &str) -> Option<StartupState> {
    if let Some(refusal) = refusal::of_log(log) {
        return Some(StartupState::Refuses(refusal));
    }
    // The two streams of a container are not always told in the order in which they were written.
    if log.lines().any(is_past) { None } else { log.lines().rev().find_map(step) }
}

/// Whether a line is one that only a server writes whose database is migrated.
fn is_past(line: &str) -> bool {
    let low = line.to_ascii_lowercase();
    ["logs will stream in below", "telemetry disabled", "notifications.manager"].iter().any(|text| low.contains(text))
}

/// What a line tells of the database; none if it tells nothing, and the one before is to be looked at.
fn step(line: &str) -> Option<StartupState> {
    let low = line.to_ascii_lowercase();
    if low.contains("ping postgres: retrying") || low.contains("connect to postgres: retrying") {
        return Some(StartupState::WaitsForDatabase(line.trim().to_owned()));
    }
    low.contains("started http listener").then_some(StartupState::Silent)
}

/// A line of log without its time and level.
fn words(line: &str) -> &str {
    line.split_once("]  ").map_or(line, |(_, words)| words).trim()
}

/// When a line was written, if it says. The clock is that of the server, mostly UTC.
fn written(line: &str) -> Option<Timestamp> {
    let time: DateTime = line.get(..23)?.parse().ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Why a server that still tries to reach its database does not, as far as a line tells.
pub fn why_it_waits(line: &str) -> StartRefusal {
    let words = words(line);
    let error = words.split_once("error=").map_or(words, |(_, error)| error);
    let error = error.rsplit_once(" try=").map_or(error, |(error, _)| error).trim();
    refusal::unconnected(&error.trim_matches('"').replace("\\\"", "\""))
}

/// What a pod that is not ready is doing, as the end of a sentence that begins with the pod: "migrating the database for
/// 2m10s". None if nothing is known beyond its not being ready.
pub fn activity(pod: &PodFacts, log: Option<&str>, now: Timestamp) -> Option<String> {
    let said = log.and_then(said);
    if let Some(trouble) = pod.trouble() {
        return Some(match (said, log) {
            (Some(StartupState::Refuses(refusal)), _) => refusal.message,
            (_, Some(log)) if pod.unschedulable.is_none() => format!("{trouble}; it said: {}", last_words(log)),
            _ => trouble,
        });
    }
    let container = pod.containers.iter().find(|container| !container.ready && container.since.is_some())?;
    let since = container.since?;
    let time = elapsed(since, now);
    Some(match said {
        Some(StartupState::Refuses(refusal)) => refusal.message,
        _ if migrates_by_name(container) => format!("migrating the database for {time}"),
        Some(StartupState::WaitsForDatabase(line)) => match written(&line).filter(|written| *written >= since) {
            Some(last) if now.duration_since(last) > TRIES => {
                format!("silent for {} since it reached its database: {SILENCE}", elapsed(last, now))
            }
            _ => format!("cannot reach its database for {time} ({})", words(&line)),
        },
        Some(StartupState::Silent) => format!("silent for {time} since it opened its listener: {SILENCE}"),
        None => return None,
    })
}

/// What the silence of a server that has opened its listener means.
const SILENCE: &str = "it migrates the database, or waits for a lock in it that another server or query holds";

/// The init container of Coder Classic that does nothing but migrate.
fn migrates_by_name(container: &ContainerFacts) -> bool {
    container.name == "migrations"
}

/// Whether a server that was ended with this log behind it was in the middle of a migration.
pub fn was_migrating(log: &str) -> bool {
    matches!(said(log), Some(StartupState::Silent))
}

/// Whether a server has ended itself, as it does 5 minutes after its database was away for a moment: that says nothing about
/// its version.
pub fn lost_its_database(log: &str) -> bool {
    log.to_ascii_lowercase().contains("pubsub watchdog time")
}

/// The last line that speaks of an error, with what it introduces, else the last one: what is written to stdout may come after
/// what ended the program. Warnings about settings and the box with the address are no last words.
fn last_words(log: &str) -> String {
    let speaks =
        |line: &&str| line.contains(char::is_alphabetic) && !line.starts_with("WARN: ") && !line.starts_with('║');
    let lines: Vec<&str> = log.lines().map(str::trim).filter(speaks).collect();
    let complains = |line: &&str| {
        let low = line.to_lowercase();
        ["erro", "fatal", "panic", "crit"].iter().any(|word| low.contains(word))
    };
    let Some(at) = lines.iter().rposition(complains).or_else(|| lines.len().checked_sub(1)) else {
        return String::new();
    };
    let last = words(lines[at]);
    match lines.get(at + 1).filter(|_| last.ends_with(':')) {
        Some(next) => format!("{last} {}", next.trim_start_matches("* ")),
        None => last.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::FailureClass;

    /// As measured on Coder 2.31.7.
    const START: &str = "\
WARN: `CODER_TELEMETRY` is deprecated, please use `CODER_TELEMETRY_ENABLE` instead.
Started HTTP listener at http://0.0.0.0:8080
WARN: The access URL  https://coder.example.com  could not be resolved, this may cause unexpected problems
╔══════════════════════════════════╗
║         View the Web UI:         ║
║   https://coder.example.com   ║
╚══════════════════════════════════╝
";
    const RETRY: &str = "2026-01-01 00:00:09.000 [warn]  ping postgres: retrying  error=\"dial tcp db: refused\" try=4";

    #[rstest]
    #[case::silent("", Some(StartupState::Silent))]
    #[case::waits("2026-01-01 00:00:09.000 [warn]  ping postgres: retrying  error=\"dial tcp db: refused\" try=4\n",
        Some(StartupState::WaitsForDatabase(RETRY.into())))]
    #[case::telemetry("2026-11-28 11:57:30.996 [warn]  telemetry disabled, unable to notify\n", None)]
    #[case::with_telemetry("2026-11-28 11:57:30.998 [info]  notifications.manager.notifier: started\n", None)]
    #[case::up("==> Logs will stream in below (press ctrl+c to gracefully exit):\n[info]  a request\n", None)]
    #[case::streams_out_of_order(
        "2026-11-28 11:57:30.996 [warn]  telemetry disabled\nStarted HTTP listener at http://0.0.0.0:8080\n",
        None
    )]
    #[case::ended_after_it_migrated(
        "[info]  notifications.manager.notifier: started\nStop caught, waiting for provisioner jobs to complete\n",
        None
    )]
    fn the_last_word_about_the_database_counts(#[case] log: &str, #[case] expected: Option<StartupState>) {
        assert_eq!(said(&format!("{START}{log}")), expected);
        assert_eq!(was_migrating(&format!("{START}{log}")), expected == Some(StartupState::Silent));
    }

    #[test]
    fn what_ended_the_server_counts_more_than_what_it_tried() {
        let log = format!(
            "{START}{RETRY}\nEncountered an error\nerror: connect to postgres: connect to postgres: unable to connect after 11 tries; last error: dial tcp db: refused\n"
        );
        let Some(StartupState::Refuses(refusal)) = said(&log) else { panic!("{:?}", said(&log)) };
        assert_eq!(refusal.class, FailureClass::DatabaseUnreachable);
        let waits =
            why_it_waits("x [warn]  ping postgres: retrying  error=\"pq: database \\\"n\\\" does not exist\" try=2");
        assert_eq!(waits.message, "is refused by its database: pq: database \"n\" does not exist");
    }

    fn pod(container: ContainerFacts) -> PodFacts {
        PodFacts { name: "coder-1".into(), containers: vec![container], ..PodFacts::default() }
    }

    #[test]
    fn a_pod_that_starts_says_what_it_does() {
        let since: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let running = |name: &str| pod(ContainerFacts { name: name.into(), since: Some(since), ..Default::default() });
        let after = |seconds: i64, name: &str, log: Option<&str>| {
            activity(&running(name), log, since + SignedDuration::from_secs(seconds)).unwrap_or_default()
        };
        assert_eq!(after(130, "migrations", None), "migrating the database for 2m10s");
        assert!(after(130, "coder", Some(START)).starts_with("silent for 2m10s since it opened its listener"));
        assert_eq!(after(130, "coder", None), "");
        let log = format!("{START}{RETRY}\n");
        assert_eq!(
            after(10, "coder", Some(&log)),
            "cannot reach its database for 10s (ping postgres: retrying  error=\"dial tcp db: refused\" try=4)"
        );
        assert!(after(40, "coder", Some(&log)).starts_with("silent for 31s since it reached its database"));
        // A clock of another zone tells nothing.
        let other = log.replace("2026-01-01 00:", "2025-12-31 19:");
        assert!(after(40, "coder", Some(&other)).starts_with("cannot reach its database for 40s"));
    }

    fn crashed(log: &str) -> String {
        let waiting = Some(("CrashLoopBackOff".to_owned(), String::new()));
        let crashed = pod(ContainerFacts {
            name: "coder".into(),
            waiting,
            last_exit: Some(1),
            restarts: 2,
            ..Default::default()
        });
        activity(&crashed, Some(log), Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_pod_that_crashes_says_what_it_said_last() {
        let ends = "container coder keeps ending with exit code 1 and was started 3 times; it said: ";
        assert_eq!(crashed("a\nx [erro]  flag is unknown\nbanner\n\n"), format!("{ends}flag is unknown"));
        assert_eq!(crashed(START), format!("{ends}Started HTTP listener at http://0.0.0.0:8080"));
        assert_eq!(
            crashed("parsing env: 1 error occurred:\n\t* parse \"Provisioner Daemons\": invalid syntax\n"),
            format!("{ends}parsing env: 1 error occurred: parse \"Provisioner Daemons\": invalid syntax")
        );
        assert!(crashed("no migration found for version 9: x").starts_with("refuses to start"));
        assert_eq!(crashed("╚══╝\n\n"), ends);
    }

    #[test]
    fn a_server_that_its_watchdog_ended_is_known() {
        let log = "[crit]  pswatch: pubsub watchdog timeout\nERROR: Unexpected error, shutting down server: pubsub Watchdog timed out\n";
        assert!(lost_its_database(log) && !lost_its_database(START));
    }
}
