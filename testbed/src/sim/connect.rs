//! How coderd of Coder v2 gets to its database, as measured on Coder 2.31.7: eleven tries within 30 s, then it gives up.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::record::Record;
use super::settings::Settings;
use super::store::Store;
use super::{SimError, faults, log};

/// How long it tries.
const LIMIT: Duration = Duration::from_secs(30);
/// How often it tries in that time.
const TRIES: usize = 11;
/// The pauses after the first two tries, and after each other one.
const PAUSES: [Duration; 3] = [Duration::from_millis(1600), Duration::from_millis(2600), Duration::from_secs(3)];
/// The oldest `PostgreSQL` that it takes, as `server_version_num`.
const OLDEST: u64 = 130_000;

/// Connects, and looks at who answers. SIGTERM does not shorten this.
pub(super) async fn connected(store: &Store, settings: &Settings) -> Result<Record, SimError> {
    let record = reached(store).await?;
    let version = faults::text(settings, Some(&record), "CODER_SIM_POSTGRES_VERSION");
    if let Some(old) = version.and_then(|text| text.parse().ok()).filter(|number: &u64| *number < OLDEST) {
        return Err(SimError::Database(format!("PostgreSQL version must be v13.0.0 or higher! Got: {old}")));
    }
    Ok(record)
}

async fn reached(store: &Store) -> Result<Record, SimError> {
    let begun = Instant::now();
    for tried in 1.. {
        let error = match store.try_read().await {
            Ok(record) => return Ok(record),
            Err(error) => error,
        };
        log("warn", &format!("ping postgres: retrying  error={:?}  try={tried}", error.to_string()));
        if tried >= TRIES || begun.elapsed() >= LIMIT {
            sleep_until(begun + LIMIT).await;
            return Err(SimError::Database(format!("unable to connect after {tried} tries; last error: {error}")));
        }
        sleep(PAUSES[(tried - 1).min(PAUSES.len() - 1)]).await;
    }
    unreachable!("tries are counted up to {TRIES}")
}
