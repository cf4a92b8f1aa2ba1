//! Listening and answering.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};

use super::settings::{Part, Settings};
use super::{SimError, faults, log, texts, watchdog};
use crate::charts::tls::{ServerIdentity, TlsListener};

/// What opens its listeners to nobody but the kubelet looks at so much of a request, for so long.
const LOOK: (usize, Duration) = (2048, Duration::from_secs(2));

/// The open listeners.
pub(super) struct Listeners {
    plain: Option<TcpListener>,
    tls: Option<TcpListener>,
}

/// Opens the one listener of a part without TLS. Connections wait from now on.
pub(super) async fn listen(settings: &Settings) -> Result<TcpListener, SimError> {
    delayed(settings).await?;
    open("HTTP", "http", settings.listen).await
}

async fn delayed(settings: &Settings) -> Result<(), SimError> {
    tokio::time::sleep(faults::time(settings, None, "CODER_SIM_START_DELAY")?).await;
    Ok(())
}

/// Opens the listeners of a server. Connections wait from now on; nobody answers them before [`answer`].
pub(super) async fn listen_all(settings: &Settings) -> Result<Listeners, SimError> {
    delayed(settings).await?;
    let v2 = settings.part == Part::CoderV2;
    if v2 {
        texts::deprecated();
    }
    let plain = if settings.answers_http { Some(open("HTTP", "http", settings.listen).await?) } else { None };
    let tls = match settings.listen_tls {
        Some(address) => Some(open("TLS/HTTPS", "https", address).await?),
        None => None,
    };
    if v2 {
        texts::web_ui(settings);
    }
    Ok(Listeners { plain, tls })
}

async fn open(name: &str, scheme: &str, address: SocketAddr) -> Result<TcpListener, SimError> {
    let listener = TcpListener::bind(address).await.map_err(|source| SimError::Listen { address, source })?;
    println!("Started {name} listener at {scheme}://{address}");
    Ok(listener)
}

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

/// A listener that may close every connection but the kubelet's without an answer: what is left of a server behind a mesh that
/// wants to see certificates, or a network policy.
struct Selective {
    listener: TcpListener,
    deaf: bool,
}

impl Listener for Selective {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            if !self.deaf || from_kubelet(&stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

async fn from_kubelet(stream: &TcpStream) -> bool {
    let mut head = [0; LOOK.0];
    let peeked = tokio::time::timeout(LOOK.1, stream.peek(&mut head)).await;
    peeked.is_ok_and(|read| {
        read.is_ok_and(|length| head[..length].to_ascii_lowercase().windows(10).any(|word| word == b"kube-probe"))
    })
}
