//! Real servers for those who have the programs: Coder, and the `PostgreSQL` that it needs.
//!
//! They stand beside coder-sim, not in its place: an image of [`REPOSITORY`] is a real server, every other image of Coder is
//! the stand-in. A story that runs on both shows whether the stand-in is true.

pub mod coder;
pub mod postgres;

use std::io;
use std::path::PathBuf;

pub use coder::{CoderServers, REPOSITORY};
pub(crate) use coder::{SETTINGS, image};
pub(crate) use postgres::programs as postgres_programs;
pub use postgres::{Postgres, connect};

/// Names the directory with the servers' programs for tests; set by `cargo xtask test --coder-binaries`.
pub const SERVERS_VARIABLE: &str = "CODER_UPGRADE_CODER_BINARIES";

/// The URL of a `PostgreSQL` in which tests may create databases; set by `cargo xtask test --coder-binaries`.
pub const POSTGRES_VARIABLE: &str = "CODER_UPGRADE_POSTGRES";

/// Why real servers cannot be used; names what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// A directory or file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The directory or file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A directory with fewer servers than an upgrade takes.
    #[error(
        "{} has {found} servers of Coder; an upgrade takes two: put programs named coder-VERSION there, such as coder-2.30.0",
        path.display()
    )]
    TooFew {
        /// The directory.
        path: PathBuf,
        /// How many servers are there.
        found: usize,
    },
    /// No `PostgreSQL` on this machine.
    #[error(
        "no PostgreSQL was found: neither initdb and postgres in the PATH nor in /usr/lib/postgresql/*/bin; install the \
         distribution's package (Debian: postgresql), or give the URL of a running server with --postgres"
    )]
    NoPostgres,
    /// `PostgreSQL` does not come up; the end of what it said.
    #[error("{program} failed: {said}")]
    Postgres {
        /// `initdb` or `postgres`.
        program: &'static str,
        /// The end of its output.
        said: String,
    },
}
