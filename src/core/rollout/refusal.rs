//! Why a server of Coder does not start on its database, by its own words.

use crate::api::FailureClass;
use crate::core::text::redact::head;

/// Longest reason that is repeated, in bytes: one line for people.
const REASON: usize = 400;

/// Why a server does not start on its database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartRefusal {
    /// Class of the failure.
    pub class: FailureClass,
    /// What is the matter, as the end of a sentence that begins with the pod.
    pub message: String,
}

impl StartRefusal {
    fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// A liveness probe has ended the server in the middle of a migration.
    pub fn killed() -> Self {
        let message = "was killed by its liveness probe in the middle of a migration of the database; PostgreSQL first ends \
                       the interrupted statement and takes it back, and only then the migration begins again";
        Self::new(FailureClass::MigrationKilled, message)
    }

    /// Whether starting the same version again cannot help, so that nothing is gained by waiting.
    pub fn is_final(&self) -> bool {
        matches!(
            self.class,
            FailureClass::SchemaTooNew
                | FailureClass::WrongDatabase
                | FailureClass::DatabaseNotMigrated
                | FailureClass::MigrationFailed
                | FailureClass::DatabaseRefused
        )
    }
}

/// Why a server has ended, as the end of its log tells; none if it says nothing of its database.
pub fn of_log(log: &str) -> Option<StartRefusal> {
    // The end of a failed migration's text may be all that is left of it, and its last line tells nothing.
    let failed = |line: &str| line.contains("pq: Could not complete operation in a failed transaction");
    let unknown = || {
        let message =
            "refuses to start: a migration of the database failed, for a reason that stands further up in its log";
        log.lines().rev().take(5).any(failed).then(|| StartRefusal::new(FailureClass::MigrationBlocked, message))
    };
    log.lines().rev().find_map(of_line).or_else(unknown)
}

/// The refusal in a line.
fn of_line(line: &str) -> Option<StartRefusal> {
    let low = line.to_ascii_lowercase();
    // Letters keep their number of bytes, so a place in one text is the same place in the other.
    let after = |text: &str| low.find(text).map(|at| line[at + text.len()..].trim());
    if let Some(version) = after("no migration found for version ").and_then(word) {
        let message = format!(
            "refuses to start: the database has schema version {version}, which this version of Coder does not know"
        );
        return Some(StartRefusal::new(FailureClass::SchemaTooNew, message));
    }
    if let Some(line) = after("currently connected to a coder ").and_then(word) {
        let message =
            format!("refuses to start: it is connected to a database of Coder {line}, the other product line");
        return Some(StartRefusal::new(FailureClass::WrongDatabase, message));
    }
    if low.contains("database has not been cleanly migrated") || low.contains("dirty database version") {
        let message = "refuses to start: a migration of the database was left half done";
        return Some(StartRefusal::new(FailureClass::DatabaseNotMigrated, message));
    }
    if low.contains("database needs migration") {
        let message = "refuses to start: the database is older than it, and nothing has migrated it";
        return Some(StartRefusal::new(FailureClass::DatabaseNotMigrated, message));
    }
    if low.contains("can't acquire database lock") {
        let message = "gave up waiting for the lock of the migration, which another server holds; it starts again";
        return Some(StartRefusal::new(FailureClass::MigrationBlocked, message));
    }
    if let Some(reason) = after("(details: pq: ") {
        return Some(failed(reason.strip_suffix(')').unwrap_or(reason)));
    }
    if let Some(reason) = after("migration failed: ") {
        return Some(failed(reason.split(" in line ").next().unwrap_or(reason)));
    }
    if let Some(reason) = after("; last error: ") {
        return Some(unconnected(reason));
    }
    if let Some(reason) = after("postgresql version must be ") {
        let message = format!(
            "refuses to start: PostgreSQL is too old for this version of Coder (its version must be {})",
            head(reason, REASON)
        );
        return Some(StartRefusal::new(FailureClass::DatabaseRefused, message));
    }
    // Whatever else it ends for while it prepares its database.
    after("error: connect to postgres: ").map(unconnected)
}

/// The word at the beginning of a text.
fn word(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).next().filter(|word| !word.is_empty())
}

/// A migration that `PostgreSQL` has refused, and taken back.
fn failed(reason: &str) -> StartRefusal {
    let reason = head(reason, REASON);
    if is_passing(&reason) {
        let message = format!(
            "could not migrate the database: {reason}; nothing of the migration was kept, and it begins again when the \
             container starts again"
        );
        return StartRefusal::new(FailureClass::MigrationBlocked, message);
    }
    let message = format!(
        "refuses to start: a migration of the database failed: {reason}; nothing of the migration was kept, and the \
         database has its old schema"
    );
    StartRefusal::new(FailureClass::MigrationFailed, message)
}

/// What a server says about a database that it cannot use, at one of its tries or at the last one.
pub fn unconnected(reason: &str) -> StartRefusal {
    let reason = reason.rsplit("connect to postgres: ").next().unwrap_or(reason).trim();
    let (low, reason) = (reason.to_ascii_lowercase(), head(reason, REASON));
    if low.contains("connection info string") || low.contains("parse connection string") {
        let message = format!("cannot read the address of its database (CODER_PG_CONNECTION_URL): {reason}");
        return StartRefusal::new(FailureClass::DatabaseRefused, message);
    }
    let refuses = ["pq: ", "x509: ", "tls: ", "ssl is not enabled"].iter().any(|text| low.contains(text));
    if refuses && !is_passing(&low) {
        let message = format!("is refused by its database: {reason}");
        return StartRefusal::new(FailureClass::DatabaseRefused, message);
    }
    StartRefusal::new(FailureClass::DatabaseUnreachable, format!("cannot reach its database: {reason}"))
}

/// Whether an error of `PostgreSQL` passes by itself: somebody else's locks, a time limit, or a database that starts, ends or
/// is busy.
fn is_passing(reason: &str) -> bool {
    let low = reason.to_ascii_lowercase();
    [
        "deadlock detected",
        "canceling statement due to",
        "could not obtain lock",
        "could not serialize access",
        "terminating connection",
        "the database system is",
        "too many clients",
        "too many connections",
        "remaining connection slots",
        "read-only transaction",
        "connection reset",
        "broken pipe",
        "bad connection",
        "i/o timeout",
        "unexpected eof",
        "handshake timeout",
    ]
    .iter()
    .any(|text| low.contains(text))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// The two lines in which a server of v2 ends, as measured on 2.31.7.
    fn ended(text: &str) -> StartRefusal {
        let log = format!(
            "Started HTTP listener at http://10.0.0.7:8080\nEncountered an error running \"coder server\", see \"coder \
             server --help\" for more information\nerror: connect to postgres: connect to postgres: {text}\n"
        );
        of_log(&log).unwrap_or_else(|| panic!("no refusal in {log}"))
    }

    const SQL: &str = "\nCREATE TABLE a ();\nCOMMENT ON TABLE a IS 'database needs migration';\n";

    #[rstest]
    #[case::newer(
        "migrate up: up: no migration found for version 421: read down for version 421 .: file does not exist",
        FailureClass::SchemaTooNew,
        "schema version 421"
    )]
    #[case::classic(
        "migrate up: migrate setup: currently connected to a Coder v1 database, aborting database setup",
        FailureClass::WrongDatabase,
        "a database of Coder v1"
    )]
    #[case::dirty(
        "migrate up: up: Dirty database version 421. Fix and force version.",
        FailureClass::DatabaseNotMigrated,
        "half done"
    )]
    #[case::lock("migrate up: up: timeout: can't acquire database lock", FailureClass::MigrationBlocked, "the lock")]
    #[case::rights(
        "migrate up: migrate setup: ensure version table: pq: permission denied for schema public",
        FailureClass::DatabaseRefused,
        "is refused by its database: migrate up: migrate setup: ensure version table: pq: permission denied for schema"
    )]
    #[case::old_postgres(
        "PostgreSQL version must be v13.0.0 or higher! Got: 120000",
        FailureClass::DatabaseRefused,
        "PostgreSQL is too old for this version of Coder (its version must be v13.0.0 or higher! Got: 120000)"
    )]
    #[case::password(
        "unable to connect after 11 tries; last error: pq: password authentication failed for user \"coder\"",
        FailureClass::DatabaseRefused,
        "is refused by its database: pq: password authentication failed for user \"coder\""
    )]
    #[case::name(
        "unable to connect after 11 tries; last error: pq: database \"nosuchdb\" does not exist",
        FailureClass::DatabaseRefused,
        "pq: database \"nosuchdb\" does not exist"
    )]
    #[case::url(
        "unable to connect after 11 tries; last error: missing \"=\" after \"database:5432\" in connection info string\"",
        FailureClass::DatabaseRefused,
        "CODER_PG_CONNECTION_URL"
    )]
    #[case::refused(
        "unable to connect after 11 tries; last error: dial tcp 10.1.2.3:5432: connect: connection refused",
        FailureClass::DatabaseUnreachable,
        "cannot reach its database: dial tcp 10.1.2.3:5432"
    )]
    #[case::no_host(
        "unable to connect after 11 tries; last error: dial tcp: lookup database on 10.96.0.10:53: no such host",
        FailureClass::DatabaseUnreachable,
        "no such host"
    )]
    #[case::starting(
        "unable to connect after 11 tries; last error: pq: the database system is starting up",
        FailureClass::DatabaseUnreachable,
        "starting up"
    )]
    #[case::full(
        "unable to connect after 11 tries; last error: pq: sorry, too many clients already",
        FailureClass::DatabaseUnreachable,
        "too many clients"
    )]
    #[case::broken_off("migrate up: up: unexpected EOF", FailureClass::DatabaseUnreachable, "unexpected EOF")]
    fn the_end_of_a_server_is_known_by_its_words(#[case] text: &str, #[case] class: FailureClass, #[case] part: &str) {
        let refusal = ended(text);
        assert!(refusal.class == class && refusal.message.contains(part), "{refusal:?}");
        assert_eq!(refusal.message.lines().count(), 1);
    }

    #[rstest]
    #[case::exists("relation \"a\" already exists", FailureClass::MigrationFailed)]
    #[case::duplicate("could not create unique index \"u\"", FailureClass::MigrationFailed)]
    #[case::deadlock("deadlock detected", FailureClass::MigrationBlocked)]
    #[case::lock_timeout("canceling statement due to lock timeout", FailureClass::MigrationBlocked)]
    #[case::statement_timeout("canceling statement due to statement timeout", FailureClass::MigrationBlocked)]
    #[case::restart("terminating connection due to administrator command", FailureClass::MigrationBlocked)]
    fn a_failed_migration_tells_the_error_in_one_line(#[case] error: &str, #[case] class: FailureClass) {
        let whole = format!(
            "migrate up: up: 2 errors occurred:\n\t* run statement: migration failed: {error} in line 0: -- Create a{SQL} \
             (details: pq: {error})\n\t* commit tx on unlock: pq: Could not complete operation in a failed transaction\n"
        );
        let without_details = format!("migrate up: up: migration failed: {error} in line 0: -- Create a");
        // The excerpt of a long log has its end only.
        let (_, end) = whole.split_once("CREATE TABLE").unwrap();
        for refusal in [ended(&whole), ended(&without_details), of_log(end).unwrap()] {
            assert_eq!(refusal.class, class, "{refusal:?}");
            assert!(refusal.message.contains(&format!(": {error}; nothing of the migration was kept")), "{refusal:?}");
        }
        assert_eq!(ended(&whole).is_final(), class == FailureClass::MigrationFailed);
        let last =
            of_log("\t* commit tx on unlock: pq: Could not complete operation in a failed transaction\n").unwrap();
        assert!(!last.is_final() && last.message.contains("further up"), "{last:?}");
    }

    #[test]
    fn a_server_that_runs_refuses_nothing() {
        let log =
            "2026-11-28 11:57:30.996 [warn]  telemetry disabled\n==> Logs will stream in below\n[info]  a request\n";
        assert_eq!(of_log(log), None);
        assert_eq!(of_log("ping postgres: retrying  error=\"pq: no\" try=4"), None, "it still tries");
    }
}
