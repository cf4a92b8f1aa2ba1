//! Listening and answering.

use axum::Router;
use tokio::net::TcpListener;

use super::settings::{Part, Settings};
use super::{SimError, faults, log, texts, watchdog};

/// Opens the listener. Connections wait from now on; nobody answers them before [`answer`].
pub(super) async fn listen(settings: &Settings) -> Result<TcpListener, SimError> {
    tokio::time::sleep(faults::time(settings, None, "CODER_SIM_START_DELAY")?).await;
    let (address, v2) = (settings.listen, settings.part == Part::CoderV2);
    if v2 {
        texts::deprecated();
    }
    let listener = TcpListener::bind(address).await.map_err(|source| SimError::Listen { address, source })?;
    println!("Started HTTP listener at http://{address}");
    if v2 {
        texts::web_ui(settings);
    }
    Ok(listener)
}

/// Answers until the program is stopped.
pub(super) async fn answer(listener: TcpListener, routes: Router, settings: &Settings) -> Result<(), SimError> {
    let address = settings.listen;
    let served = async { axum::serve(listener, routes).await.map_err(|source| SimError::Listen { address, source }) };
    if settings.part != Part::CoderV2 {
        log("info", &format!("Coder v{} is ready", settings.version));
        return served.await;
    }
    texts::started(settings);
    settings.started.cancel();
    tokio::select! {
        ended = served => ended,
        lost = watchdog::watch(settings) => Err(lost),
    }
}
