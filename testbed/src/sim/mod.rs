//! coder-sim: what an upgrade meets of Coder, in one small program.
//!
//! It answers the endpoints that tell version, health and deployment; it migrates a schema before it answers; it refuses a
//! newer schema, or that of the other product line, with Coder's own words; it fails on request. The start, the log and the
//! end of coderd of v2 are as measured on Coder 2.24.0 to 2.31.7 with `PostgreSQL` 15, unless it is said otherwise. What a
//! container gets says which part of Coder it plays:
//!
//! | arguments | part |
//! | --- | --- |
//! | `… server` | coderd of Coder v2: [`v2`] |
//! | `cemanager`, `coderd`, `envproxy`, `dashboard` with version 1 | a service of Coder Classic: [`v1`] |
//! | `… migrate up` | the migration of Coder Classic |
//! | `database …` | `PostgreSQL`: [`database`] |
//! | `pause`, or anything else | a program that runs until it is stopped |
//!
//! [`settings`] lists the variables that it heeds.

mod connect;
mod database;
mod faults;
mod front;
mod listen;
mod migration;
pub mod owner;
pub mod record;
mod schema;
mod serve;
mod settings;
mod store;
mod texts;
mod v1;
mod v2;
mod watchdog;

use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::settings::{Part, Settings, Variables};

/// Why the program ends by itself; printed as its last line.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A variable or argument cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The schema in the database and this version do not go together.
    #[error(transparent)]
    Schema(#[from] schema::Mismatch),
    /// The listener cannot be opened.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or directory.
        path: std::path::PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It was asked to fail.
    #[error("{0}")]
    Crash(String),
    /// The database cannot be used, or not migrated: Coder's own words, with what they quote of `PostgreSQL`.
    #[error("connect to postgres: connect to postgres: {0}")]
    Database(String),
    /// It ends itself, because it has lost its database.
    #[error("graceful shutdown: pubsub Watchdog timed out")]
    Watchdog,
}

/// Its name, unless a link in an image gives it another one.
const PROGRAM: &str = "coder-sim";

/// Plays the part that the command line and the environment ask for, until it ends or SIGTERM comes.
pub async fn run(command_line: Vec<String>, environment: Variables) -> ExitCode {
    let arguments = arguments(command_line);
    let terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => return fail(None, &format!("cannot listen for SIGTERM: {error}")),
    };
    let settings = match Settings::new(&arguments, environment) {
        Ok(settings) => settings,
        Err(message) => return fail(None, &message),
    };
    tokio::select! {
        ended = play(&settings) => match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(Some(settings.part), &error.to_string()),
        },
        () = stopped(terminate, &settings) => ExitCode::SUCCESS,
    }
}

/// What says which part is played: the arguments, and before them the name of a link, such as `dashboard`.
fn arguments(mut command_line: Vec<String>) -> Vec<String> {
    let name = command_line.first().and_then(|program| Path::new(program).file_name());
    if name.is_none_or(|name| name == PROGRAM) {
        command_line.drain(..1.min(command_line.len()));
    }
    command_line
}

/// Returns once SIGTERM has come and is heeded: coderd of v2 looks at it only when its start is done, so that a migration goes
/// on and is committed, and a wait for the database goes on to its end. Everything else ends at once.
async fn stopped(mut terminate: Signal, settings: &Settings) {
    terminate.recv().await;
    if settings.part == Part::CoderV2 {
        settings.started.cancelled().await;
        println!("{}", texts::STOPPED);
    } else {
        log("info", "interrupt caught, gracefully exiting");
    }
}

async fn play(settings: &Settings) -> Result<(), SimError> {
    match settings.part {
        Part::Database => database::serve(settings).await,
        Part::CoderV2 => v2::serve(settings).await,
        Part::Migrate => v1::migrate(settings).await,
        Part::Classic(service) => v1::serve(settings, service).await,
        Part::Idle => std::future::pending().await,
    }
}

/// coderd of v2 tells what it ends for in plain lines, without time and level.
fn fail(part: Option<Part>, message: &str) -> ExitCode {
    if part == Some(Part::CoderV2) {
        eprintln!("{}\nerror: {message}", texts::FATAL);
    } else {
        log("erro", message);
    }
    ExitCode::FAILURE
}

/// Writes a line of log to stderr, as coderd does.
fn log(level: &str, message: &str) {
    eprintln!("{} [{level}]  {message}", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S.%3f"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_says_what_is_played() {
        for (command_line, expected) in [
            ("/bin/coder-sim database", "database"),
            ("dashboard", "dashboard"),
            ("/opt/coder server", "/opt/coder server"),
            ("/bin/coder-sim", ""),
        ] {
            let words = command_line.split(' ').map(str::to_owned).collect();
            assert_eq!(arguments(words).join(" "), expected);
        }
    }
}
