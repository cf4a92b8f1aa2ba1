//! The database: a record behind HTTP instead of tables behind SQL, at `PostgreSQL`'s port.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::record::{Record, RecordFile, WriteError};
use super::settings::Settings;
use super::{SimError, log, serve};

/// Serves the record in the data directory (see [`Settings::data_dir`]).
pub(super) async fn serve(settings: &Settings) -> Result<(), SimError> {
    let path = settings.data_dir();
    let file = RecordFile::open(&path).map_err(|source| SimError::File { path: path.clone(), source })?;
    log("info", &format!("database system is ready, data directory {}", path.display()));
    let listener = serve::listen(settings).await?;
    // One writer at a time: the check of the revision and the change belong together.
    let routes = Router::new().route("/record", get(read).put(write)).with_state(Arc::new(Mutex::new(file)));
    axum::serve(listener, routes).await.map_err(|source| SimError::Listen { address: settings.listen, source })
}

type Shared = State<Arc<Mutex<RecordFile>>>;

async fn read(State(file): Shared) -> Response {
    match file.lock().unwrap_or_else(PoisonError::into_inner).read() {
        Ok(record) => Json(record).into_response(),
        Err(error) => broken(&error),
    }
}

async fn write(State(file): Shared, Json(record): Json<Record>) -> Response {
    match file.lock().unwrap_or_else(PoisonError::into_inner).write(&record) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(WriteError::Conflict) => StatusCode::CONFLICT.into_response(),
        Err(WriteError::File(error)) => broken(&error),
    }
}

fn broken(error: &std::io::Error) -> Response {
    log("erro", &format!("the data directory cannot be used: {error}"));
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}
