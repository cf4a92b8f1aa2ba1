//! What Coder v2 tells an owner: how many builds run, and how well it is. Both are looked up anew for each question, so that
//! a test can change them while Coder runs (see the module `faults`).

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::faults;
use super::record::Record;
use super::settings::Settings;
use super::store::Store;

/// The owner's session token, unless another one was asked for.
pub const TOKEN: &str = "sim-owner-session-token";
/// Where the token comes.
const HEADER: &str = "coder-session-token";

struct Server {
    store: Store,
    settings: Settings,
}

pub(super) fn routes(store: Store, settings: &Settings) -> Router {
    Router::new()
        .route("/api/v2/deployment/stats", get(stats))
        .route("/api/v2/debug/health", get(health))
        .with_state(Arc::new(Server { store, settings: settings.clone() }))
}

async fn stats(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    server
        .answer(&headers, |server, record| {
            let builds = faults::text(&server.settings, Some(record), "CODER_SIM_BUILDS").unwrap_or_default();
            let building: u64 = builds.parse().unwrap_or_default();
            json!({
                "aggregated_from": jiff::Timestamp::now(),
                "workspaces": {"pending": 0, "building": building, "running": 1, "failed": 0, "stopped": 0},
                "session_count": {"vscode": 0, "ssh": 0, "jetbrains": 0, "reconnecting_pty": 0},
            })
        })
        .await
}

async fn health(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    server.answer(&headers, report).await
}

fn report(server: &Server, record: &Record) -> Value {
    let asked = faults::text(&server.settings, Some(record), "CODER_SIM_HEALTH").unwrap_or_else(|| "ok".to_owned());
    let (severity, code) = asked.split_once(' ').unwrap_or((&asked, ""));
    let well = json!({"severity": "ok", "error": null, "warnings": []});
    let database = match severity {
        "error" => json!({"severity": "error", "error": format!("{code}: as asked for"), "warnings": []}),
        "warning" => {
            json!({"severity": "warning", "error": null, "warnings": [{"code": code, "message": "as asked for"}]})
        }
        _ => well.clone(),
    };
    json!({
        "time": jiff::Timestamp::now(), "healthy": severity != "error", "severity": severity, "database": database,
        "access_url": well, "derp": well, "websocket": well, "workspace_proxy": well, "provisioner_daemons": well,
        "coder_version": format!("v{}", server.settings.version),
    })
}

impl Server {
    /// The answer for an owner; a refusal for everybody else.
    async fn answer(&self, headers: &HeaderMap, answer: impl Fn(&Self, &Record) -> Value) -> Response {
        let record = self.store.read().await;
        let owner = faults::text(&self.settings, Some(&record), "CODER_SIM_TOKEN").unwrap_or_else(|| TOKEN.to_owned());
        if headers.get(HEADER).is_none_or(|token| token.as_bytes() != owner.as_bytes()) {
            let refusal = json!({"message": "You are signed out or your session has expired. Please sign in again."});
            return (StatusCode::UNAUTHORIZED, Json(refusal)).into_response();
        }
        Json(answer(self, &record)).into_response()
    }
}
