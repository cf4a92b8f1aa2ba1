//! coder-sim: what an upgrade meets of Coder, in one small program.
//!
//! It answers the endpoints that tell version, health and deployment; it migrates a schema before it answers; it refuses a
//! newer schema, or that of the other product line, with Coder's own words; it fails on request. What a container gets
//! says which part of Coder it plays:
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

pub mod database;
mod faults;
pub mod migration;
pub mod owner;
pub mod record;
pub mod schema;
mod serve;
pub mod settings;
pub mod store;
pub mod v1;
pub mod v2;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

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
}

/// Plays the part that arguments and environment ask for, until it ends or SIGTERM comes.
pub async fn run(arguments: Vec<String>, environment: Variables) -> ExitCode {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => return fail(&format!("cannot listen for SIGTERM: {error}")),
    };
    tokio::select! {
        ended = play(&arguments, environment) => match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        },
        _ = terminate.recv() => {
            log("info", "interrupt caught, gracefully exiting");
            ExitCode::SUCCESS
        }
    }
}

async fn play(arguments: &[String], environment: Variables) -> Result<(), SimError> {
    let settings = Settings::new(arguments, environment).map_err(SimError::Settings)?;
    match settings.part {
        Part::Database => database::serve(&settings).await,
        Part::CoderV2 => v2::serve(&settings).await,
        Part::Migrate => v1::migrate(&settings).await,
        Part::Classic(service) => v1::serve(&settings, service).await,
        Part::Idle => std::future::pending().await,
    }
}

fn fail(message: &str) -> ExitCode {
    log("erro", message);
    ExitCode::FAILURE
}

/// Writes a line of log to stderr, as coderd does.
fn log(level: &str, message: &str) {
    eprintln!("{:.3} [{level}]  coder-sim: {message}", jiff::Timestamp::now());
}
