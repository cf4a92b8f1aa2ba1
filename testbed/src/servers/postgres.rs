//! A `PostgreSQL` of the distribution, for as long as somebody holds it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::sleep;
use tokio_postgres::{Client, Config, NoTls};

use super::ServersError;
use crate::{ports, process, secret, tail};

/// `PostgreSQL` refuses to run as root: then it runs as the user `nobody`, who has this number on all Linux distributions.
const NOBODY: u32 = 65534;
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The superuser.
const USER: &str = "testbed";

/// A running server with a directory of its own. Dropping it kills the server and removes the directory.
#[derive(Debug)]
pub struct Postgres {
    url: String,
    _server: Child,
    _directory: TempDir,
}

impl Postgres {
    /// Starts one on loopback, from the programs in the PATH or where Debian keeps them.
    ///
    /// # Errors
    /// If there is none on this machine, or it does not come up.
    pub async fn start() -> Result<Self, ServersError> {
        let programs = programs().ok_or(ServersError::NoPostgres)?;
        let directory = tempfile::Builder::new().prefix("coder-upgrade-postgres-").tempdir();
        let directory = directory.map_err(|source| ServersError::File { path: std::env::temp_dir(), source })?;
        let path = directory.path();
        let failed = |source| ServersError::File { path: path.to_owned(), source };
        let (data, log, password_file) = (path.join("data"), path.join("log"), path.join("password"));
        let password = secret::token().map_err(failed)?;
        fs::write(&password_file, &password).map_err(failed)?;
        fs::write(&log, "").map_err(failed)?;
        if geteuid().is_root() {
            for path in [path, &password_file, &log] {
                chown(path, Some(NOBODY), Some(NOBODY)).map_err(failed)?;
            }
        }
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600)).map_err(failed)?;

        let mut init = unprivileged(&programs.join("initdb"));
        init.arg("--pgdata").arg(&data).arg("--pwfile").arg(&password_file).args(["--username", USER]);
        init.args(["--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync"]);
        let made = init.stdin(Stdio::null()).output().map_err(failed)?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).trim().to_owned();
            return Err(ServersError::Postgres { program: "initdb", said });
        }

        let [port] = ports::free_ports().map_err(failed)?;
        let mut server = unprivileged(&programs.join("postgres"));
        server.arg("-D").arg(&data);
        let settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=200"];
        server.args(settings.iter().flat_map(|setting| ["-c", setting])).args(["-c", &format!("port={port}")]);
        process::log_to(&mut server, &log).map_err(failed)?;
        let mut child = process::spawn(server).await.map_err(failed)?;
        let began = Instant::now();
        loop {
            let ready = Command::new(programs.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
                .status();
            if ready.map_err(failed)?.success() {
                break;
            }
            if child.try_wait().map_err(failed)?.is_some() || began.elapsed() > PATIENCE {
                return Err(ServersError::Postgres { program: "postgres", said: tail::of_file(&log) });
            }
            sleep(Duration::from_millis(100)).await;
        }
        let url = format!("postgres://{USER}:{password}@127.0.0.1:{port}/postgres?sslmode=disable");
        Ok(Self { url, _server: child, _directory: directory })
    }

    /// Where its superuser reaches it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// A session with a database, which ends when the client is dropped.
///
/// # Errors
/// If nobody answers, or the server refuses.
pub async fn connect(url: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = url.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A program as an ordinary user.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    // The directory of whoever calls may be closed to that user.
    command.current_dir("/");
    command
}

/// The directory with `initdb`, `postgres` and `pg_isready`.
pub(crate) fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<PathBuf> = match fs::read_dir("/usr/lib/postgresql") {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(_) => return None,
    };
    versions.sort();
    let complete =
        |directory: &PathBuf| ["initdb", "postgres", "pg_isready"].iter().all(|name| directory.join(name).exists());
    std::env::split_paths(&path).chain(versions.into_iter().rev()).find(complete)
}
