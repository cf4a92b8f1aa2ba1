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
use kube::Client;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::forward::{ProxiedRequest, refusal};
use super::state::RehearsalState;
use crate::core::text::digest::hex;
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
    pub state: Arc<RehearsalState>,
    address: SocketAddr,
    token: String,
    _open: DropGuard,
}

/// What the requests are answered from.
#[derive(Clone)]
struct ProxyState {
    state: Arc<RehearsalState>,
    /// Digest of what a request must present: to compare digests tells nothing about how much of a guess is right.
    expected: [u8; 32],
    closed: CancellationToken,
}

impl Proxy {
    /// Listens, on a port that is free.
    pub async fn start(client: Client, namespace: &str, release: &str) -> Result<Self, Error> {
        let io = |source| Error::Io { doing: "listen on", path: "a port of 127.0.0.1".into(), source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(io)?;
        let address = listener.local_addr().map_err(io)?;
        let token = token()?;
        let state = Arc::new(RehearsalState::new(client, namespace, release));
        let closed = CancellationToken::new();
        let expected = Sha256::digest(presented(&token)).into();
        let proxy = ProxyState { state: Arc::clone(&state), expected, closed: closed.clone() };
        let router = Router::new().fallback(enter).with_state(proxy);
        let end = closed.clone().cancelled_owned();
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(end).await {
                tracing::warn!("the proxy of the rehearsal ended: {error}");
            }
        });
        Ok(Self { state, address, token, _open: closed.drop_guard() })
    }

    /// What nobody else may know.
    pub fn token(&self) -> &str {
        &self.token
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

async fn enter(State(proxy): State<ProxyState>, request: Request) -> Response {
    let header = request.headers().get(AUTHORIZATION).map(axum::http::HeaderValue::as_bytes).unwrap_or_default();
    if <[u8; 32]>::from(Sha256::digest(header)) != proxy.expected {
        return refusal(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "this proxy is for the rehearsal of one runner alone",
        );
    }
    if proxy.closed.is_cancelled() {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "the rehearsal is over");
    }
    let (head, body) = request.into_parts();
    match to_bytes(body, BODY_LIMIT).await {
        Ok(body) => proxy.state.answer(ProxiedRequest { head, body }).await,
        Err(error) => refusal(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use kube::Config;
    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    /// A proxy to an API server that is not there.
    async fn proxy() -> Proxy {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let config = Config::new(format!("http://{closed}").parse().unwrap());
        Proxy::start(Client::try_from(config).unwrap(), "coder", "coder").await.unwrap()
    }

    /// The first line of the answer to a request with this header; none if nobody listens.
    async fn ask(address: SocketAddr, authorization: &str) -> Option<String> {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().map(ToOwned::to_owned)
    }

    #[rstest]
    #[case::none(|_: &str| String::new())]
    #[case::a_guess(|_: &str| format!("Authorization: {}\r\n", presented("guess")))]
    #[case::as_a_bearer(|token: &str| format!("Authorization: Bearer {token}\r\n"))]
    #[case::cut(|token: &str| format!("Authorization: {}\r\n", presented(&token[1..])))]
    #[tokio::test]
    async fn whoever_does_not_present_the_token_is_refused(#[case] header: fn(&str) -> String) {
        let proxy = proxy().await;
        assert!(proxy.address.ip().is_loopback());
        let header = header(proxy.token());
        assert_eq!(ask(proxy.address, &header).await.unwrap(), "HTTP/1.1 401 Unauthorized");
    }

    #[tokio::test]
    async fn with_the_token_the_api_server_is_asked_until_the_rehearsal_is_over() {
        let proxy = proxy().await;
        let header = format!("Authorization: {}\r\n", presented(proxy.token()));
        let answer = ask(proxy.address, &header).await.unwrap();
        assert_eq!(answer, "HTTP/1.1 503 Service Unavailable", "there is no API server");
        assert!(proxy.kubeconfig("coder").contains(proxy.token()));
        let address = proxy.address;
        drop(proxy);
        tokio::task::yield_now().await;
        let after = ask(address, &header).await;
        assert!(after.is_none() || after.unwrap().contains("503"), "nobody is let in any more");
    }

    #[tokio::test]
    async fn each_rehearsal_has_a_token_of_its_own() {
        let (one, other) = (proxy().await, proxy().await);
        assert_eq!(one.token().len(), 2 * TOKEN_LENGTH);
        assert_ne!(one.token(), other.token());
    }
}
