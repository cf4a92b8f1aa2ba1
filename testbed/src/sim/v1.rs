//! The services of Coder Classic.

use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::settings::{Service, Settings};
use super::store::{Store, check};
use super::{SimError, faults, listen, log, migration, schema, serve};

/// `migrate up`: the init container that migrates before the services start.
pub(super) async fn migrate(settings: &Settings) -> Result<(), SimError> {
    faults::crash(settings, None)?;
    migration::up(&Store::new(settings)?, settings).await.map(drop)
}

/// Answers as `service`. Only the API has a database; with `SKIP_MIGRATIONS` it expects it to be migrated already.
pub(super) async fn serve(settings: &Settings, service: Service) -> Result<(), SimError> {
    println!("Coder Classic {} {service:?} (simulated)", settings.version);
    faults::crash(settings, None)?;
    let listeners = listen::all(settings).await?;
    let record = match service {
        Service::Api => Some(database(settings).await?),
        Service::EnvProxy | Service::Dashboard => None,
    };
    if faults::hangs(settings, record.as_ref()) {
        log("info", "hanging, as asked for");
        return std::future::pending().await;
    }
    let version = faults::answered_version(settings, record.as_ref());
    let routes = routes(service, version);
    serve::answer(listeners, |_| routes.clone(), settings).await
}

async fn database(settings: &Settings) -> Result<super::record::Record, SimError> {
    let store = Store::new(settings)?;
    if !settings.is_on("SKIP_MIGRATIONS") {
        return migration::up(&store, settings).await;
    }
    let (record, wanted) = check(&store, settings).await?;
    faults::crash(settings, Some(&record))?;
    match wanted {
        None => Ok(record),
        Some(wanted) => Err(schema::Mismatch::NeedsMigration { found: record.schema, wanted }.into()),
    }
}

fn routes(service: Service, version: String) -> Router {
    let health = Router::new().route("/healthz", get(async || "OK"));
    if service != Service::Api {
        return health;
    }
    let header = version.clone();
    health
        .route("/cem-healthz", get(async || "OK"))
        .route("/api", get(async move || ([("coder-version", header)], Json(json!({"message": "Coder API"})))))
        .route("/api/private/version", get(async move || Json(json!({"version": version}))))
}
