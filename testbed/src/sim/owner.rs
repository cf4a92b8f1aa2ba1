//! What Coder v2 tells an owner: how many builds run, and how well it is. Both are looked up again for each question, so that
//! a test can change them while Coder runs (see the module `faults`).

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use super::front::json_answer;
use super::record::Record;
use super::settings::Settings;
use super::store::Store;
use super::{faults, schema};

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
        .route("/api/v2/workspaces", get(workspaces))
        .route("/api/v2/templates", get(templates))
        .with_state(Arc::new(Server { store, settings: settings.clone() }))
}

async fn stats(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    server
        .answer(&headers, |server, record| {
            let builds = faults::text(&server.settings, Some(record), "CODER_SIM_BUILDS").unwrap_or_default();
            let building: u64 = builds.parse().unwrap_or_default();
            Ok(json!({
                "aggregated_from": jiff::Timestamp::now(),
                "workspaces": {"pending": 0, "building": building, "running": 1, "failed": 0, "stopped": 0},
                "session_count": {"vscode": 0, "ssh": 0, "jetbrains": 0, "reconnecting_pty": 0},
            }))
        })
        .await
}

async fn health(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    server.answer(&headers, |server, record| Ok(report(server, record))).await
}

async fn workspaces(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    server
        .answer(&headers, |server, record| server.listed(record, "workspaces", json!({"workspaces": [], "count": 0})))
        .await
}

async fn templates(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    server.answer(&headers, |server, record| server.listed(record, "templates", json!([]))).await
}

fn report(server: &Server, record: &Record) -> Value {
    let asked = faults::text(&server.settings, Some(record), "CODER_SIM_HEALTH").unwrap_or_else(|| "ok".to_owned());
    let mut words = asked.split_whitespace();
    let mut severity = words.next().unwrap_or("ok");
    let mut codes: Vec<&str> = words.collect();
    if server.settings.get("CODER_PROVISIONER_DAEMONS") == Some("0") {
        (severity, codes) = ("error", codes.into_iter().chain(["EPD01"]).collect());
    }
    let well = json!({"severity": "ok", "error": null, "warnings": []});
    let mut report = json!({
        "time": jiff::Timestamp::now(), "healthy": severity != "error", "severity": severity, "database": well,
        "access_url": well, "derp": well, "websocket": well, "workspace_proxy": well, "provisioner_daemons": well,
        "coder_version": format!("v{}", server.settings.version),
    });
    for code in codes {
        let (part, what) = part(severity, code);
        report[part] = what;
    }
    report
}

/// The part of Coder that a code speaks of, and what it says; errors as seen on Coder 2.31.7. Its relays give no reason.
fn part(severity: &str, code: &str) -> (&'static str, Value) {
    let error = |text: String| json!({"severity": "error", "error": text, "warnings": []});
    let warning = json!({"severity": severity, "error": null, "warnings": [{"code": code, "message": "as asked for"}]});
    let part = match code {
        "derp" => return ("derp", json!({"severity": severity, "error": null, "warnings": []})),
        _ if code.starts_with("EPD") => return ("provisioner_daemons", warning),
        _ if code.starts_with("EACS") => "access_url",
        _ if code.starts_with("EWS") => "websocket",
        _ if code.starts_with("EWP") => "workspace_proxy",
        _ => "database",
    };
    (part, if severity == "error" { error(format!("{code}: as asked for")) } else { warning })
}

/// An internal error: what was fetched, and the words of the database.
struct Internal(&'static str, String);

/// The migration that renames a column of the table of tokens. A server that does not know it finds no token any more, as seen
/// with 2.24.0 on the schema of 2.30.0.
const TOKENS_RENAMED: u64 = 371;

impl Server {
    /// The list of workspaces or templates. A server whose schema somebody else has migrated does not find its columns there,
    /// while all else goes on; seen with 2.29.0 on the schema of 2.31.7.
    fn listed(&self, record: &Record, what: &'static str, list: Value) -> Result<Value, Internal> {
        let own = faults::own_migrations(&self.settings, record);
        match schema::wanted(&self.settings.version, own, record) {
            Ok(_) => Ok(list),
            Err(_) => Err(Internal(what, "pq: column \"use_terraform_workspace_cache\" does not exist".into())),
        }
    }

    /// The token's own table, as far as the server knows it.
    fn tokens(&self, record: &Record) -> Result<(), &'static str> {
        let known = schema::schema_of(&self.settings.version) >= TOKENS_RENAMED || record.schema < TOKENS_RENAMED;
        if known { Ok(()) } else { Err("pq: column \"scope\" does not exist") }
    }

    /// The answer for an owner; a refusal for everybody else. The database is asked for the token: while it is away, nobody
    /// is known.
    async fn answer(
        &self,
        headers: &HeaderMap,
        answer: impl Fn(&Self, &Record) -> Result<Value, Internal>,
    ) -> Response {
        let signed_out = json!({
            "message": "You are signed out or your session has expired. Please sign in again to continue.",
            "detail": "Cookie \"coder_session_token\" or query parameter must be provided.",
        });
        let Some(token) = headers.get(HEADER) else { return json_answer(StatusCode::UNAUTHORIZED, &signed_out) };
        let unknown = |error: String| {
            let message = "An internal error occurred. Please try again or contact the system administrator.";
            let detail = format!("Internal error fetching API key by id. fetch object: {error}");
            json_answer(StatusCode::UNAUTHORIZED, &json!({"message": message, "detail": detail}))
        };
        let record = match self.store.try_read().await {
            Ok(record) => record,
            Err(error) => return unknown(error.to_string()),
        };
        if let Err(error) = self.tokens(&record) {
            return unknown(error.to_owned());
        }
        let owner = faults::text(&self.settings, Some(&record), "CODER_SIM_TOKEN").unwrap_or_else(|| TOKEN.to_owned());
        if token.as_bytes() != owner.as_bytes() {
            return json_answer(StatusCode::UNAUTHORIZED, &signed_out);
        }
        match answer(self, &record) {
            Ok(body) => json_answer(StatusCode::OK, &body),
            Err(Internal(what, detail)) => {
                let message = format!("Internal error fetching {what}.");
                json_answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({"message": message, "detail": detail}))
            }
        }
    }
}
