//! Real servers of Coder for `tests/it/upgrade/servers.rs` and `tests/it/upgrade/stand_in.rs`, if the command line names some.

use std::path::{Path, PathBuf};

use testbed::servers::{CoderServers, POSTGRES_VARIABLE, Postgres, SERVERS_VARIABLE};

use super::binaries::Suite;
use super::command::Invocation;
use crate::Result;

/// The integration tests that run on real servers, too.
const FILES: [&str; 2] = ["upgrade::servers", "upgrade::stand_in"];
/// What is said where no servers are named.
const SKIPPED: &str = "    skipped: what asks for real servers of Coder, which --coder-binaries DIR would name";

/// Which real servers to test with.
#[derive(Debug, clap::Args)]
pub struct ServerArgs {
    /// Test with real servers of Coder, too: a directory with programs named coder-VERSION, two versions or more. The files
    /// servers and `stand_in` use them; without them, the stand-in alone is tested.
    #[arg(long, value_name = "DIR")]
    coder_binaries: Option<PathBuf>,
    /// The database server for them: the URL of a superuser, postgres://USER:PASSWORD@HOST:PORT/NAME. Without it, that of
    /// the distribution is started (initdb and postgres in the PATH or in /usr/lib/postgresql).
    #[arg(long, value_name = "URL", requires = "coder_binaries")]
    postgres: Option<String>,
}

/// Real servers, ready to be used.
pub struct Servers {
    directory: PathBuf,
    url: String,
    _postgres: Option<Postgres>,
}

impl Servers {
    /// Finds the programs, and starts a `PostgreSQL` if none is named; `None` if the command line names no servers.
    pub async fn start(args: &ServerArgs) -> Result<Option<Self>> {
        let Some(directory) = &args.coder_binaries else { return Ok(None) };
        let servers = CoderServers::open(directory)?;
        let started = if args.postgres.is_none() { Some(Postgres::start().await?) } else { None };
        let url = started.as_ref().map(Postgres::url).or(args.postgres.as_deref()).unwrap_or_default().to_owned();
        let (oldest, newest) = servers.ends();
        println!("    real servers of Coder: {oldest} to {newest}, from {}", directory.display());
        let directory = directory.canonicalize()?;
        Ok(Some(Self { directory, url, _postgres: started }))
    }

    /// Where the programs are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// The command of integration tests; that of the stories among them gets the real servers, or says that they are left out.
pub fn invocation(servers: Option<&Servers>, suites: &[Suite], invocation: Invocation) -> Invocation {
    match servers {
        _ if !suites.iter().any(|suite| FILES.contains(&suite.name.as_str())) => invocation,
        None => {
            println!("{SKIPPED}");
            invocation
        }
        Some(servers) => invocation
            // No other tests are ignored.
            .argument("--include-ignored")
            .env(SERVERS_VARIABLE, &servers.directory)
            .env(POSTGRES_VARIABLE, &servers.url),
    }
}
