//! Answering.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use axum::Router;

use super::listen::{Listeners, Selective};
use super::settings::{Part, Settings};
use super::{SimError, faults, log, texts, watchdog};
use crate::charts::tls::{ServerIdentity, TlsListener};

/// Answers until the program is stopped. `routes` are those behind TLS, or those without it.
pub(super) async fn answer(
    listeners: Listeners,
    routes: impl Fn(bool) -> Router,
    settings: &Settings,
) -> Result<(), SimError> {
    let deaf = faults::text(settings, None, "CODER_SIM_DEAF").is_some();
    let plain = async {
        let Some(listener) = listeners.plain else { return std::future::pending().await };
        run(Some(settings.listen), axum::serve(Selective { listener, deaf }, routes(false)).into_future()).await
    };
    let tls = async {
        let Some(listener) = listeners.tls else { return std::future::pending().await };
        // Without files of its own Coder makes itself a certificate.
        let listener = ServerIdentity::generate()
            .and_then(|identity| TlsListener::new(listener, &identity))
            .map_err(|error| SimError::Settings(error.to_string()))?;
        run(settings.listen_tls, axum::serve(listener, routes(true)).into_future()).await
    };
    let served = async { tokio::try_join!(plain, tls).map(drop) };
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

async fn run(address: Option<SocketAddr>, server: impl Future<Output = io::Result<()>>) -> Result<(), SimError> {
    let address = address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    server.await.map_err(|source| SimError::Listen { address, source })
}
