//! The migration of the schema: one transaction, so that a killed one leaves the old schema.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::record::Record;
use super::settings::Settings;
use super::store::{RETRY_AFTER, Store, StoreError, check};
use super::{SimError, faults, log, schema};

/// How often a running migration says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Brings the schema to that of this version and returns the record. Several servers may do it at once: one is first, and
/// the others find it done.
///
/// # Errors
/// If this version must not run on the database, or was asked to fail.
pub async fn up(store: &Store, settings: &Settings) -> Result<Record, SimError> {
    loop {
        let (record, wanted) = check(store, settings).await?;
        faults::crash(settings, Some(&record))?;
        let Some(schema) = wanted else {
            log("info", &format!("database schema is at {}, no migration needed", record.schema));
            return Ok(record);
        };
        let began = Instant::now();
        run(settings, &record, schema).await?;
        let line = Some(schema::line_of(&settings.version));
        match store.write(&Record { line, schema, ..record.clone() }).await {
            Ok(()) => {
                log("info", &format!("migrated database from {} to {schema} in {:?}", record.schema, began.elapsed()));
                return Ok(store.read().await);
            }
            Err(StoreError::Conflict) => log("info", "another server has migrated the database meanwhile"),
            Err(error) => {
                log("warn", &format!("migration rolled back: {error}; trying again"));
                sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// The work of the migration, which here is time.
async fn run(settings: &Settings, record: &Record, schema: u64) -> Result<(), SimError> {
    let takes = faults::time(settings, Some(record), "CODER_SIM_MIGRATION")?;
    log("info", &format!("migrating database from {} to {schema}, holding the migration lock", record.schema));
    let end = Instant::now() + takes;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        sleep(left.min(PROGRESS_EVERY)).await;
        let done = takes.saturating_sub(end.saturating_duration_since(Instant::now()));
        log("info", &format!("migrating database: {:.0} of {:.0} s", done.as_secs_f64(), takes.as_secs_f64()));
    }
}
