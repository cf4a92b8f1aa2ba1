//! The listeners of a part, which wait for connections before anybody answers them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};

use super::settings::{Part, Settings};
use super::{SimError, faults, texts};

/// What opens its listeners to nobody but the kubelet looks at so much of a request, for so long.
const LOOK: (usize, Duration) = (2048, Duration::from_secs(2));

/// The open listeners.
pub(super) struct Listeners {
    pub(super) plain: Option<TcpListener>,
    pub(super) tls: Option<TcpListener>,
}

/// Opens the one listener of a part without TLS. Connections wait from now on.
pub(super) async fn one(settings: &Settings) -> Result<TcpListener, SimError> {
    delayed(settings).await?;
    open("HTTP", "http", settings.listen).await
}

async fn delayed(settings: &Settings) -> Result<(), SimError> {
    tokio::time::sleep(faults::time(settings, None, "CODER_SIM_START_DELAY")?).await;
    Ok(())
}

/// Opens the listeners of a server. Connections wait from now on; nobody answers them before the server is told to.
pub(super) async fn all(settings: &Settings) -> Result<Listeners, SimError> {
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

/// A listener that may close every connection but the kubelet's without an answer: what is left of a server behind a mesh that
/// wants to see certificates, or a network policy.
pub(super) struct Selective {
    pub(super) listener: TcpListener,
    pub(super) deaf: bool,
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
