//! Listening and answering.

use axum::Router;
use tokio::net::TcpListener;

use super::settings::Settings;
use super::{SimError, faults, log};

/// Opens the listener. Connections wait from now on; nobody answers them before [`answer`].
pub(super) async fn listen(settings: &Settings) -> Result<TcpListener, SimError> {
    tokio::time::sleep(faults::time(settings, None, "CODER_SIM_START_DELAY")?).await;
    let address = settings.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| SimError::Listen { address, source })?;
    println!("Started HTTP listener at http://{address}");
    Ok(listener)
}

/// Answers until the program is stopped.
pub(super) async fn answer(listener: TcpListener, routes: Router, settings: &Settings) -> Result<(), SimError> {
    log("info", &format!("Coder v{} is ready", settings.version));
    let address = settings.listen;
    axum::serve(listener, routes).await.map_err(|source| SimError::Listen { address, source })
}
