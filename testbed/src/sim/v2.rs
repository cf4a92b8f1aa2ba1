//! coderd of Coder v2.

use axum::routing::get;
use axum::{Json, Router};
use semver::Version;
use serde_json::{Value, json};

use super::record::Record;
use super::settings::Settings;
use super::store::Store;
use super::{SimError, faults, log, migration, owner, serve};

/// The last version whose build information has no `deployment_id`.
const SHORT_BUILD_INFO: Version = Version::new(2, 3, u64::MAX);

/// Listens, migrates, and only then answers.
pub(super) async fn serve(settings: &Settings) -> Result<(), SimError> {
    faults::crash(settings, None)?;
    let listener = serve::listen(settings).await?;
    let store = Store::new(settings)?;
    let record = migration::up(&store, settings).await?;
    if faults::hangs(settings, Some(&record)) {
        log("info", "hanging, as asked for");
        return std::future::pending().await;
    }
    let routes = routes(settings, &record).merge(owner::routes(store, settings));
    serve::answer(listener, routes, settings).await
}

fn routes(settings: &Settings, record: &Record) -> Router {
    let version = faults::answered_version(settings, Some(record));
    let info = build_info(settings, &version, record);
    let update = json!({"current": true, "version": format!("v{version}"), "url": "https://coder.com"});
    Router::new()
        .route("/healthz", get(async || "OK"))
        .route("/api/v2/buildinfo", get(async move || Json(info)))
        .route("/api/v2/updatecheck", get(async move || Json(update)))
}

/// What `/api/v2/buildinfo` answers: older servers tell less.
fn build_info(settings: &Settings, version: &str, record: &Record) -> Value {
    let mut info = json!({
        "external_url": "https://github.com/coder/coder/commit/simulated",
        "version": format!("v{version}+sim"),
        "dashboard_url": settings.get("CODER_ACCESS_URL").unwrap_or_default(),
        "workspace_proxy": false,
    });
    if settings.version > SHORT_BUILD_INFO {
        info["telemetry"] = settings.is_on("CODER_TELEMETRY_ENABLE").into();
        info["agent_api_version"] = "2.0".into();
        info["provisioner_api_version"] = "1.16".into();
        info["upgrade_message"] = "".into();
        info["deployment_id"] = record.deployment_id.clone().into();
    }
    info
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
            let info = build_info(&settings, version, &record);
            assert_eq!(info["version"], format!("v{version}+sim"));
            assert_eq!(info.get("deployment_id").is_some(), has_id, "{version}");
        }
    }
}
