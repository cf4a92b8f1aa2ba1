//! The database: a record behind HTTP instead of tables behind SQL, at `PostgreSQL`'s port.
//!
//! As measured on `PostgreSQL` 15: a migration of Coder v2 is one transaction under a lock. Who comes second waits for the lock,
//! without limit and without a word. When a server is killed, what it has begun goes on to its end and keeps the lock until
//! then; only then is it taken back.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::record::{Line, Record, RecordFile, WriteError};
use super::schema::Mismatch;
use super::settings::Settings;
use super::{SimError, listen, log};

/// The header with the login.
pub(super) const LOGIN: &str = "x-login";

/// Who logs in, and to which database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    user: String,
    password: String,
    database: String,
}

impl Login {
    /// What a connection URL says; none if it names no user.
    pub(super) fn of(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let user = Some(url.username()).filter(|user| !user.is_empty())?.to_owned();
        let database = url.path().trim_start_matches('/').to_owned();
        Some(Self { user, password: url.password().unwrap_or_default().to_owned(), database })
    }

    /// Those that a database is initialised with; none if it lets everybody in.
    fn initial(settings: &Settings) -> Option<Self> {
        let get = |name: &str| settings.get(name).map(str::to_owned);
        let user = get("POSTGRES_USER")?;
        let database = get("POSTGRES_DB").unwrap_or_else(|| user.clone());
        Some(Self { password: get("POSTGRES_PASSWORD")?, user, database })
    }

    /// Why this one is not let in by a database with that one.
    fn refused(&self, right: &Self) -> Option<String> {
        if (&self.user, &self.password) != (&right.user, &right.password) {
            return Some(format!("password authentication failed for user {:?}", self.user));
        }
        (self.database != right.database).then(|| format!("database {:?} does not exist", self.database))
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// A migration, as a server asks for it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Transaction {
    /// The schema that it leads to.
    pub schema: u64,
    /// How long it takes.
    pub milliseconds: u64,
    /// What it ends with instead of a commit.
    pub error: Option<String>,
    /// How many migrations end so before one does not; all if it is not set.
    pub errors: Option<u64>,
    /// An earlier migration was left half done.
    pub dirty: bool,
}

struct Database {
    file: Mutex<RecordFile>,
    /// Held while a migration runs.
    migration: tokio::sync::Mutex<()>,
    /// How many migrations have ended with an error.
    failed: AtomicU64,
    login: Option<Login>,
}

/// Serves the record in the data directory (see [`Settings::data_dir`]).
pub(super) async fn serve(settings: &Settings) -> Result<(), SimError> {
    let path = settings.data_dir();
    let unusable = |source| SimError::File { path: path.clone(), source };
    let file = RecordFile::open(&path).map_err(unusable)?;
    let login = initialised(&path, settings).map_err(unusable)?;
    log("info", &format!("database system is ready, data directory {}", path.display()));
    let listener = listen::one(settings).await?;
    let database =
        Database { file: Mutex::new(file), migration: tokio::sync::Mutex::default(), failed: AtomicU64::new(0), login };
    let routes = Router::new()
        .route("/record", get(read).put(write))
        .route("/migrate", post(migrate))
        .with_state(Arc::new(database));
    axum::serve(listener, routes).await.map_err(|source| SimError::Listen { address: settings.listen, source })
}

/// The login of the database: `PostgreSQL` takes it from its environment once, when there is no data yet.
fn initialised(directory: &Path, settings: &Settings) -> io::Result<Option<Login>> {
    let path = directory.join("login.json");
    if !path.exists() {
        fs::write(&path, serde_json::to_vec(&Login::initial(settings))?)?;
    }
    Ok(serde_json::from_slice(&fs::read(&path)?)?)
}

type Shared = State<Arc<Database>>;

async fn read(State(database): Shared, headers: HeaderMap) -> Response {
    if let Some(why) = database.refuses(&headers) {
        return refused(why);
    }
    match database.file.lock().unwrap_or_else(PoisonError::into_inner).read() {
        Ok(record) => Json(record).into_response(),
        Err(error) => broken(&error),
    }
}

// One writer at a time: the check of the revision and the change belong together.
async fn write(State(database): Shared, Json(record): Json<Record>) -> Response {
    match database.file.lock().unwrap_or_else(PoisonError::into_inner).write(&record) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(WriteError::Conflict) => StatusCode::CONFLICT.into_response(),
        Err(WriteError::File(error)) => broken(&error),
    }
}

async fn migrate(State(database): Shared, Json(work): Json<Transaction>) -> Response {
    // Dropped, and so cancelled, when the server has closed its connection.
    let gone = CancellationToken::new();
    let _connected = gone.clone().drop_guard();
    let ended = tokio::spawn(async move { database.transaction(&work, &gone).await }).await;
    match ended {
        Ok(Ok(record)) => Json(record).into_response(),
        Ok(Err(why)) => refused(why),
        Err(error) => broken(&io::Error::other(error)),
    }
}

impl Database {
    /// Why a server is not let in, in `PostgreSQL`'s words.
    fn refuses(&self, headers: &HeaderMap) -> Option<String> {
        let login: Login = serde_json::from_slice(headers.get(LOGIN)?.as_bytes()).ok()?;
        login.refused(self.login.as_ref()?)
    }

    /// Runs under the lock, to its end, whatever becomes of the server; it is committed only if that is still there.
    async fn transaction(&self, work: &Transaction, gone: &CancellationToken) -> Result<Record, String> {
        let _lock = self.migration.lock().await;
        let record = self.record(RecordFile::read)?;
        if work.dirty {
            return Err(format!("Dirty database version {}. Fix and force version.", record.schema));
        }
        if record.schema > work.schema {
            return Err(Mismatch::Newer(record.schema).to_string());
        }
        if record.schema == work.schema || gone.is_cancelled() {
            return Ok(record);
        }
        tokio::time::sleep(Duration::from_millis(work.milliseconds)).await;
        let fails = |_: &&String| work.errors.is_none_or(|most| self.failed.load(Ordering::Acquire) < most);
        if let Some(error) = work.error.as_ref().filter(fails) {
            self.failed.fetch_add(1, Ordering::AcqRel);
            return Err(error.clone());
        }
        if gone.is_cancelled() {
            return Err("unexpected EOF on client connection with an open transaction".to_owned());
        }
        let record = Record { line: Some(Line::V2), schema: work.schema, ..self.record(RecordFile::read)? };
        self.record(|file| file.write(&record).map_err(io::Error::other))?;
        self.record(RecordFile::read)
    }

    fn record<T>(&self, work: impl FnOnce(&RecordFile) -> io::Result<T>) -> Result<T, String> {
        work(&self.file.lock().unwrap_or_else(PoisonError::into_inner)).map_err(|error| error.to_string())
    }
}

fn refused(why: String) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, why).into_response()
}

fn broken(error: &std::io::Error) -> Response {
    log("erro", &format!("the data directory cannot be used: {error}"));
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(schema: u64) -> (tempfile::TempDir, Database) {
        let directory = tempfile::tempdir().unwrap();
        let file = RecordFile::open(directory.path()).unwrap();
        file.write(&Record { schema, line: Some(Line::V2), ..file.read().unwrap() }).unwrap();
        let (file, migration) = (Mutex::new(file), tokio::sync::Mutex::default());
        (directory, Database { file, migration, failed: AtomicU64::new(0), login: Login::of("postgres://a:b@x/c") })
    }

    fn schema(database: &Database) -> u64 {
        database.record(RecordFile::read).unwrap().schema
    }

    #[tokio::test]
    async fn a_killed_server_leaves_the_old_schema_and_the_lock_until_its_statement_ends() {
        let (_directory, database) = database(413);
        let work = Transaction { schema: 421, milliseconds: 600, ..Transaction::default() };
        let (killed, alive) = (CancellationToken::new(), CancellationToken::new());
        let begun = tokio::time::Instant::now();
        let first = database.transaction(&work, &killed);
        let second = async {
            tokio::task::yield_now().await;
            killed.cancel();
            database.transaction(&Transaction { milliseconds: 0, ..work.clone() }, &alive).await
        };
        let (first, second) = tokio::join!(first, second);
        assert!(first.is_err());
        assert_eq!(second.unwrap().schema, 421);
        assert!(begun.elapsed() >= Duration::from_millis(600), "the second has waited for the lock");
    }

    #[tokio::test]
    async fn a_failed_migration_changes_nothing_and_a_deadlock_may_pass() {
        let (_directory, database) = database(413);
        let gone = CancellationToken::new();
        let error = Some("deadlock detected".to_owned());
        let work = Transaction { schema: 421, error, errors: Some(1), ..Transaction::default() };
        assert_eq!(database.transaction(&work, &gone).await.unwrap_err(), "deadlock detected");
        assert_eq!(schema(&database), 413);
        assert_eq!(database.transaction(&work, &gone).await.unwrap().schema, 421);
        let dirty = Transaction { dirty: true, ..work };
        let refused = database.transaction(&dirty, &gone).await.unwrap_err();
        assert_eq!(refused, "Dirty database version 421. Fix and force version.");
    }

    #[test]
    fn a_login_is_checked_as_postgresql_does() {
        let right = Login::of("postgres://coder:geheim@database:5432/coder?sslmode=disable").unwrap();
        let refused = |url: &str| Login::of(url).unwrap().refused(&right);
        assert_eq!(refused("postgres://coder:geheim@other/coder"), None);
        let password = refused("postgres://coder:wrong@database/coder").unwrap();
        assert_eq!(password, "password authentication failed for user \"coder\"");
        assert_eq!(refused("postgres://coder:geheim@d/nosuchdb").unwrap(), "database \"nosuchdb\" does not exist");
    }
}
