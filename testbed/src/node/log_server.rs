//! The TLS server that the API server asks for `kubectl logs`, as it would ask a kubelet.

use std::io::SeekFrom;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::{Stream, stream};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::logs::{Selection, find};
use super::running::Running;
use super::{LogServerConfig, NodeError};

/// How long a client may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The server before it serves.
pub struct LogListener {
    /// The port it listens on.
    pub port: u16,
    listener: TcpListener,
    tls: TlsAcceptor,
}

/// Opens the port.
pub async fn bind(config: &LogServerConfig) -> Result<LogListener, NodeError> {
    let listen = |source| NodeError::Listen { server: "log", source };
    let tls = TlsAcceptor::from(Arc::new(tls(config)?));
    let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
    let port = listener.local_addr().map_err(listen)?.port();
    Ok(LogListener { port, listener, tls })
}

fn tls(config: &LogServerConfig) -> Result<ServerConfig, NodeError> {
    let certificates = |what, pem: &str| {
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        parsed.map_err(|error| unusable(what, &error))
    };
    let chain = certificates("log server certificate", &config.cert_pem)?;
    let key = PrivateKeyDer::from_pem_slice(config.key_pem.as_bytes());
    let key = key.map_err(|error| unusable("log server key", &error))?;
    let mut clients = RootCertStore::empty();
    for certificate in certificates("log client authority", &config.client_ca_pem)? {
        clients.add(certificate).map_err(|error| unusable("log client authority", &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients), provider.clone());
    let verifier = verifier.build().map_err(|error| unusable("log client authority", &error))?;
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("log server certificate", &error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| unusable("log server certificate", &error))
}

fn unusable(what: &'static str, error: &dyn std::error::Error) -> NodeError {
    NodeError::Tls { what, message: error.to_string() }
}

/// Serves until it is dropped.
pub async fn serve(listener: LogListener, running: Arc<Running>) -> Result<(), NodeError> {
    let routes = Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs))
        .fallback(not_supported)
        .with_state(running);
    let (shake_hands, accepted) = handshakes(listener);
    tokio::select! {
        () = shake_hands => Ok(()),
        served = axum::serve(accepted, routes) => served.map_err(|source| NodeError::Listen { server: "log", source }),
    }
}

/// Accepts connections and shakes hands with several clients at once: a slow one must not keep the others waiting.
fn handshakes(listener: LogListener) -> (impl Future<Output = ()>, Accepted) {
    let LogListener { listener, tls, port } = listener;
    let (sender, receiver) = mpsc::channel(16);
    let accept = async move {
        loop {
            let (tcp, from) = match listener.accept().await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!(%error, "a connection to the log server is not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (sender, tls) = (sender.clone(), tls.clone());
            tokio::spawn(async move {
                match timeout(HANDSHAKE, tls.accept(tcp)).await {
                    // An error says that the server has ended.
                    Ok(Ok(stream)) => drop(sender.send((stream, from)).await),
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake with the log server failed"),
                    Err(_) => tracing::debug!(%from, "TLS handshake with the log server took too long"),
                }
            });
        }
    };
    (accept, Accepted { receiver, local: SocketAddr::from(([127, 0, 0, 1], port)) })
}

/// Connections after their handshake.
struct Accepted {
    receiver: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
}

impl axum::serve::Listener for Accepted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.receiver.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.local)
    }
}

/// The query of a log request, in a kubelet's words.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LogQuery {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail_lines: Option<usize>,
    limit_bytes: Option<usize>,
    since_seconds: Option<i64>,
    since_time: Option<Timestamp>,
}

/// Exec, attach and port-forward need a container; a process is reached in other ways.
async fn not_supported() -> Response {
    let message = "the process node serves logs only; run the command on this machine, or call the pod's address";
    (StatusCode::NOT_IMPLEMENTED, message).into_response()
}

async fn logs(
    State(running): State<Arc<Running>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<LogQuery>,
) -> Response {
    let Some(runtime) = running.get(&namespace, &pod) else {
        return (StatusCode::NOT_FOUND, format!("pod \"{pod}\" does not run on this node")).into_response();
    };
    let Some(state) = runtime.container(&container) else {
        return (StatusCode::NOT_FOUND, format!("container \"{container}\" not found in pod \"{pod}\""))
            .into_response();
    };
    let Some(file) = find(&runtime.log_dir(&container), query.previous) else {
        let which = if query.previous { "previous terminated container" } else { "container" };
        let message = format!("{which} \"{}\" in pod \"{pod}\" has no log", state.name);
        return (StatusCode::BAD_REQUEST, message).into_response();
    };
    let live = runtime.live_log(&container).filter(|_| query.follow && !query.previous);
    let ago = query.since_seconds.map(SignedDuration::from_secs);
    let selection = Selection {
        tail: query.tail_lines,
        since: query.since_time.or_else(|| ago.and_then(|ago| Timestamp::now().checked_sub(ago).ok())),
        timestamps: query.timestamps,
        limit: query.limit_bytes,
    };
    Body::from_stream(chunks(Reader { file, selection, at: 0, live })).into_response()
}

/// A log on its way to somebody.
struct Reader {
    file: PathBuf,
    selection: Selection,
    /// What was read so far, in bytes.
    at: u64,
    /// Growth of the log, if it is followed.
    live: Option<watch::Receiver<u64>>,
}

/// The log so far in one piece, and then each piece that is added, until the container has ended.
fn chunks(reader: Reader) -> impl Stream<Item = std::io::Result<Bytes>> {
    stream::try_unfold(Some(reader), |reader| async move {
        let Some(mut reader) = reader else { return Ok(None) };
        // Learnt before reading: what is written after it is news.
        let ended = match &mut reader.live {
            None => true,
            Some(live) if reader.at == 0 => live.has_changed().is_err(),
            Some(live) => live.changed().await.is_err(),
        };
        let piece = reader.read().await?;
        reader.selection.tail = None;
        Ok(Some((piece, (!ended).then_some(reader))))
    })
}

impl Reader {
    async fn read(&mut self) -> std::io::Result<Bytes> {
        let mut file = tokio::fs::File::open(&self.file).await?;
        file.seek(SeekFrom::Start(self.at)).await?;
        let mut stored = Vec::new();
        file.read_to_end(&mut stored).await?;
        // Half a line is read again when it is whole.
        let whole = stored.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        stored.truncate(whole);
        self.at += whole as u64;
        let piece = self.selection.apply(&stored);
        if let Some(limit) = &mut self.selection.limit {
            *limit = limit.saturating_sub(piece.len());
        }
        Ok(Bytes::from(piece))
    }
}
