//! The migration of the schema: one transaction, so that a killed one leaves the old schema.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::database::Transaction;
use super::record::Record;
use super::settings::{Part, Settings};
use super::store::{RETRY_AFTER, Store, StoreError, check};
use super::{SimError, connect, faults, log, schema};

/// How often a running migration of Coder Classic says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Brings the schema to that of this version and returns the record. Several servers may do it at once: one is first, and
/// the others find it done.
///
/// # Errors
/// If this version must not run on the database, cannot get to it, or was asked to fail.
pub async fn up(store: &Store, settings: &Settings) -> Result<Record, SimError> {
    if settings.part == Part::CoderV2 { silent(store, settings).await } else { classic(store, settings).await }
}

/// coderd of Coder v2 says nothing, neither while it waits for the lock nor while it migrates; measured on 2.24.0 to 2.31.7.
async fn silent(store: &Store, settings: &Settings) -> Result<Record, SimError> {
    let record = connect::connected(store, settings).await?;
    faults::crash(settings, Some(&record))?;
    let asked = |name: &str| faults::text(settings, Some(&record), name);
    let unusable = |why: &str| SimError::Database(why.to_owned());
    if let Some(why) = asked("CODER_SIM_DENIED") {
        return Err(unusable(&format!("migrate up: migrate setup: ensure version table: pq: {why}")));
    }
    let own = faults::own_migrations(settings, &record);
    let takes = match schema::wanted(&settings.version, own, &record) {
        Ok(Some(_)) => faults::time(settings, Some(&record), "CODER_SIM_MIGRATION")?,
        Ok(None) => Duration::ZERO,
        Err(mismatch) => return Err(unusable(&mismatch.to_string())),
    };
    let (errors, error) = asked("CODER_SIM_MIGRATION_ERROR").map_or((None, None), |asked| times(&asked));
    let work = Transaction {
        schema: schema::schema_of(&settings.version) + own,
        milliseconds: takes.as_millis().try_into().unwrap_or(u64::MAX),
        error: error.clone(),
        errors,
        dirty: asked("CODER_SIM_DIRTY").is_some(),
    };
    match store.migrate(&work).await {
        Ok(record) => Ok(record),
        Err(StoreError::Refused(why)) if Some(&why) == error.as_ref() => Err(unusable(&failed(&why))),
        Err(StoreError::Refused(why)) if why.starts_with("migrate up: ") => Err(unusable(&why)),
        Err(StoreError::Refused(why)) => Err(unusable(&format!("migrate up: up: {why}"))),
        // Not measured: the database went away in the middle.
        Err(error) => Err(unusable(&format!("migrate up: up: {error}"))),
    }
}

/// How often a migration fails, if that is limited, and what for.
fn times(asked: &str) -> (Option<u64>, Option<String>) {
    match asked.split_once(' ').map(|(count, error)| (count.parse().ok(), error)) {
        Some((Some(count), error)) => (Some(count), Some(error.to_owned())),
        _ => (None, Some(asked.to_owned())),
    }
}

/// What is said of a migration that `PostgreSQL` refuses: the whole SQL of it is in the text, and the reason before and after.
fn failed(why: &str) -> String {
    let short = why.split(", Process ").next().unwrap_or(why);
    let sql =
        "CREATE TABLE task_snapshots (\n    task_id uuid NOT NULL\n);\n\nCOMMENT ON TABLE task_snapshots IS 'x';\n"
            .repeat(12);
    format!(
        "migrate up: up: 2 errors occurred:\n\t* run statement: migration failed: {why} in line 0: -- Create \
         task_snapshots table\n{sql} (details: pq: {short})\n\t* commit tx on unlock: pq: Could not complete operation \
         in a failed transaction\n\n"
    )
}

/// Coder Classic tells what it does, and waits for its database as long as that takes.
async fn classic(store: &Store, settings: &Settings) -> Result<Record, SimError> {
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

#[cfg(test)]
mod tests {
    use super::failed;

    #[test]
    fn a_failed_migration_is_told_with_its_sql_and_the_reason_on_both_ends() {
        let text = failed("relation \"task_snapshots\" already exists");
        assert!(text.starts_with("migrate up: up: 2 errors occurred:\n\t* run statement: migration failed: relation"));
        assert!(text.lines().count() > 40, "longer than a short excerpt: only its end remains");
        let end: Vec<&str> = text.trim_end().lines().rev().take(2).collect();
        assert_eq!(end[0], "\t* commit tx on unlock: pq: Could not complete operation in a failed transaction");
        assert_eq!(end[1], " (details: pq: relation \"task_snapshots\" already exists)");
        let deadlock = failed("deadlock detected, Process 5516 waits for AccessExclusiveLock on relation 1");
        assert!(
            deadlock.contains("migration failed: deadlock detected, Process 5516")
                && deadlock.contains("(details: pq: deadlock detected)")
        );
    }
}
