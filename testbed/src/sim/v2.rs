//! coderd of Coder v2.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use semver::Version;
use serde_json::{Value, json};

use super::record::Record;
use super::settings::Settings;
use super::store::Store;
use super::{SimError, faults, front, listen, log, migration, owner, serve};

/// The last version whose build information has no `deployment_id`.
const SHORT_BUILD_INFO: Version = Version::new(2, 3, u64::MAX);

/// The commit that a build says it was made of.
const COMMIT: &str = "5f0e1d2c3b4a";

/// Listens, migrates, and only then answers.
pub(super) async fn serve(settings: &Settings) -> Result<(), SimError> {
    faults::crash(settings, None)?;
    let listeners = listen::all(settings).await?;
    let store = Store::new(settings)?;
    let record = migration::up(&store, settings).await?;
    if faults::hangs(settings, Some(&record)) {
        log("info", "hanging, as asked for");
        return std::future::pending().await;
    }
    let version = version(settings, &record);
    let routes = routes(settings, &version, &record).merge(owner::routes(store, settings));
    let routes = |tls| front::before(routes.clone(), settings, &version, tls);
    serve::answer(listeners, routes, settings).await
}

/// What the build calls itself: its version and the commit that it was made of.
fn version(settings: &Settings, record: &Record) -> String {
    format!("v{}+{COMMIT}", faults::answered_version(settings, Some(record)))
}

fn routes(settings: &Settings, version: &str, record: &Record) -> Router {
    let info = build_info(settings, version, record);
    let plain = version.split('+').next().unwrap_or(version);
    let update = json!({"current": true, "version": plain, "url": "https://coder.com"});
    Router::new()
        .route("/healthz", get(async || "OK"))
        .route("/latency-check", get(async || "OK"))
        .route("/derp/latency-check", get(async || ""))
        .route("/api/v2/buildinfo", get(async move || front::json_answer(StatusCode::OK, &info)))
        .route("/api/v2/updatecheck", get(async move || front::json_answer(StatusCode::OK, &update)))
}

/// What `/api/v2/buildinfo` answers: older servers tell less.
fn build_info(settings: &Settings, version: &str, record: &Record) -> Value {
    let mut info = json!({
        "external_url": format!("https://github.com/coder/coder/commit/{COMMIT}"),
        "version": version,
        "dashboard_url": settings.get("CODER_ACCESS_URL").unwrap_or_default(),
        "workspace_proxy": false,
    });
    if settings.version > SHORT_BUILD_INFO {
        info["telemetry"] = settings.is_on("CODER_TELEMETRY_ENABLE").into();
        info["agent_api_version"] = "1.0".into();
        info["provisioner_api_version"] = provisioner_api(&settings.version).into();
        info["upgrade_message"] = "".into();
        info["deployment_id"] = record.deployment_id.clone().into();
    }
    info
}

/// The version of the API for provisioners, as Coder 2.24.0, 2.29.0, 2.30.0 and 2.31.7 tell it; that of the nearest one before
/// for others.
fn provisioner_api(version: &Version) -> &'static str {
    match (version.major, version.minor) {
        (0..=1, _) | (2, 0..=28) => "1.7",
        (2, 29) => "1.12",
        (2, 30) => "1.14",
        _ => "1.15",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn old_servers_tell_no_deployment_id() {
        let record = Record { deployment_id: "d".into(), line: None, schema: 0, revision: 0, faults: BTreeMap::new() };
        for (version, has_id) in [("2.3.3", false), ("0.27.0", false), ("2.31.7", true)] {
            let variables = BTreeMap::from([("CODER_SIM_VERSION".to_owned(), version.to_owned())]);
            let settings = Settings::new(&["server".to_owned()], variables).unwrap();
            let info = build_info(&settings, &super::version(&settings, &record), &record);
            assert_eq!(info["version"], format!("v{version}+{COMMIT}"));
            assert_eq!(info.get("deployment_id").is_some(), has_id, "{version}");
        }
    }
}
