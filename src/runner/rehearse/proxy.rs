//! The proxy between helm and the API server: on loopback only, with a random token, for the time of one rehearsal.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::forward::{Asked, refusal};
use super::stage::Stage;
use crate::core::digest::hex;
use crate::runner::context::Context;
use crate::runner::error::Error;

/// Name by which helm presents the token.
const USER: &str = "rehearsal";
/// Length of the token in bytes.
const TOKEN_LENGTH: usize = 32;
/// Greatest size of a request in bytes: more than the API server takes (3 MiB).
const BODY_LIMIT: usize = 4 << 20;

/// The proxy. It ends when this is dropped.
pub struct Proxy {
    /// What is rehearsed, and what was seen.
    pub stage: Arc<Stage>,
    address: SocketAddr,
    token: String,
    _open: DropGuard,
}

/// What the requests are answered from.
#[derive(Clone)]
struct Door {
    stage: Arc<Stage>,
    /// Digest of what a request must present: to compare digests tells nothing about how much of a guess is right.
    expected: [u8; 32],
    closed: CancellationToken,
}

impl Proxy {
    /// Listens, on a port that is free.
    pub async fn start(ctx: &Context, release: &str) -> Result<Self, Error> {
        let io = |source| Error::Io { doing: "listen on", path: "a port of 127.0.0.1".into(), source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(io)?;
        let address = listener.local_addr().map_err(io)?;
        let token = token()?;
        ctx.secrets.hide([token.clone()]);
        let stage = Arc::new(Stage::new(ctx.client.clone(), &ctx.namespace, release));
        let closed = CancellationToken::new();
        let expected = Sha256::digest(presented(&token)).into();
        let door = Door { stage: Arc::clone(&stage), expected, closed: closed.clone() };
        let router = Router::new().fallback(enter).with_state(door);
        let end = closed.clone().cancelled_owned();
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(end).await {
                tracing::warn!("the proxy of the rehearsal ended: {error}");
            }
        });
        Ok(Self { stage, address, token, _open: closed.drop_guard() })
    }

    /// A kubeconfig that leads to the proxy. Clients send no token of a kubeconfig to a server without TLS, so it is a
    /// part of the address.
    pub fn kubeconfig(&self, namespace: &str) -> String {
        let server = format!("http://{USER}:{}@{}", self.token, self.address);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": USER, "cluster": {"server": server}}],
            "users": [{"name": USER, "user": {}}],
            "contexts": [{"name": USER, "context": {"cluster": USER, "user": USER, "namespace": namespace}}],
            "current-context": USER,
        });
        config.to_string()
    }
}

/// A random token, in hex.
fn token() -> Result<String, Error> {
    let mut bytes = [0; TOKEN_LENGTH];
    let random = rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes);
    random.map_err(|_| Error::Io {
        doing: "read",
        path: "random bytes".into(),
        source: std::io::Error::other("the system gives none"),
    })?;
    Ok(hex(&bytes))
}

/// The header with which a client presents the token.
fn presented(token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{USER}:{token}")))
}

async fn enter(State(door): State<Door>, request: Request) -> Response {
    let header = request.headers().get(AUTHORIZATION).map(axum::http::HeaderValue::as_bytes).unwrap_or_default();
    if <[u8; 32]>::from(Sha256::digest(header)) != door.expected {
        return refusal(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "this proxy is for the rehearsal of one runner alone",
        );
    }
    if door.closed.is_cancelled() {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "the rehearsal is over");
    }
    let (head, body) = request.into_parts();
    match to_bytes(body, BODY_LIMIT).await {
        Ok(body) => door.stage.answer(Asked { head, body }).await,
        Err(error) => refusal(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &error.to_string()),
    }
}
