//! The watchdog of coderd's notifications, as measured on Coder 2.31.7: a heartbeat goes to the database every 15 s; once one has
//! failed no other is sent, and 5 minutes after the last good one the server ends itself, whatever the database does by then.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::settings::Settings;
use super::store::Store;
use super::{SimError, faults, log};

/// How long after the last heartbeat it ends itself, unless another time was asked for.
const TIMEOUT: Duration = Duration::from_secs(300);
/// How many heartbeats go into that time.
const BEATS: u32 = 20;

/// Returns why the server ends itself; never, as long as its database answers.
pub(super) async fn watch(settings: &Settings) -> SimError {
    let asked = match faults::time(settings, None, "CODER_SIM_WATCHDOG") {
        Ok(asked) => asked,
        Err(error) => return error,
    };
    let timeout = if asked.is_zero() { TIMEOUT } else { asked };
    let store = match Store::new(settings) {
        Ok(Store::Embedded(_)) => return std::future::pending().await,
        Ok(store) => store,
        Err(error) => return error,
    };
    let mut last = Instant::now();
    while store.try_read().await.is_ok() {
        last = Instant::now();
        sleep(timeout / BEATS).await;
    }
    sleep_until(last + timeout).await;
    log("crit", "pswatch: pubsub watchdog timeout");
    println!("ERROR: Unexpected error, shutting down server: pubsub Watchdog timed out");
    SimError::Watchdog
}
