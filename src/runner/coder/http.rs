//! Asking one pod by its address. One request per connection: the answer must be this pod's, now.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::core::rollout::endpoint::Port;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Greatest length of an answer, in bytes: a report of Coder's health lists every relay and proxy.
const LIMIT: usize = 4 * 1024 * 1024;
/// Where Coder looks for a session token.
const TOKEN_HEADER: &str = "coder-session-token";

/// What is asked.
#[derive(Clone, Copy)]
pub struct HttpRequest<'a> {
    /// Path, with its query.
    pub path: &'a str,
    /// The name under which the server is asked, with its port if it is no usual one; none for the address itself.
    pub host: Option<&'a str>,
    /// Session token of a user of Coder.
    pub token: Option<&'a str>,
    /// How long the answer may take.
    pub patience: Duration,
}

impl<'a> HttpRequest<'a> {
    /// A question that takes no token and no patience.
    pub fn of(path: &'a str) -> Self {
        Self { path, host: None, token: None, patience: TIMEOUT }
    }
}

/// What was answered.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// A header, if it is a text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// GET of a path of a pod. The error is the end of a sentence that begins with the pod.
pub async fn ask(address: IpAddr, port: Port, question: HttpRequest<'_>) -> Result<Reply, String> {
    let HttpRequest { path, patience, .. } = question;
    let socket = SocketAddr::new(address, port.number);
    let asked = async {
        let stream =
            TcpStream::connect(socket).await.map_err(|e| format!("does not accept connections at {socket}: {e}"))?;
        if port.tls {
            let name = server_name(address, question.host);
            let stream = TlsConnector::from(unverified()?).connect(name, stream).await;
            exchange(stream.map_err(|e| format!("does not speak TLS at {socket}: {e}"))?, socket, question).await
        } else {
            exchange(stream, socket, question).await
        }
    };
    tokio::time::timeout(patience, asked)
        .await
        .unwrap_or_else(|_| Err(format!("does not answer {path} within {} s", patience.as_secs())))
}

/// The name that the server chooses its certificate by.
fn server_name(address: IpAddr, host: Option<&str>) -> ServerName<'static> {
    let name = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
    let name = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
    name.unwrap_or_else(|| ServerName::IpAddress(address.into()))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    socket: SocketAddr,
    question: HttpRequest<'_>,
) -> Result<Reply, String> {
    let path = question.path;
    let failed = |e: hyper::Error| format!("does not answer {path} in HTTP: {e}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut request = Request::get(path)
        .header("host", question.host.map_or_else(|| socket.to_string(), ToOwned::to_owned))
        .header("accept", "application/json")
        .header("connection", "close");
    if let Some(token) = question.token {
        request = request.header(TOKEN_HEADER, token);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| format!("cannot be asked for {path}: {e}"))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = Limited::new(answer.into_body(), LIMIT).collect().await.map_err(|e| match e.downcast_ref() {
            Some(LengthLimitError { .. }) => format!("answers {path} with more than {} MiB", LIMIT >> 20),
            None => format!("breaks off its answer to {path}: {e}"),
        });
        Ok(Reply { status, headers, body: body?.to_bytes() })
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // The connection must be driven; when it ends first, the answer says how.
        _ = connection => answer.await,
    }
}

/// TLS without a check of the certificate: it is for Coder's public name, and the pod is known by its address, which the
/// API server tells. So a token goes where it would go over plain HTTP, too: into a pod of the release.
fn unverified() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("cannot be asked over TLS: {e}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    async fn get(number: u16, tls: bool, path: &str) -> Result<Reply, String> {
        ask(HERE, Port { number, tls }, HttpRequest::of(path)).await
    }

    async fn serve(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(answer).await;
        });
        port
    }

    #[tokio::test]
    async fn an_answer_is_read() {
        let port = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await;
        let reply = get(port, false, "/healthz").await.unwrap();
        assert_eq!((reply.status, &reply.body[..]), (StatusCode::OK, &b"OK"[..]));
    }

    /// Sends a piece again and again, as long as somebody listens.
    async fn serve_for_ever(head: &'static [u8], piece: Vec<u8>, pause: Duration) -> u16 {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(head).await;
            while stream.write_all(&piece).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn an_answer_without_end_ends() {
        let head = b"HTTP/1.1 200 OK\r\n\r\n";
        let endless = serve_for_ever(head, vec![b'x'; 1 << 16], Duration::ZERO).await;
        assert_eq!(get(endless, false, "/x").await.unwrap_err(), "answers /x with more than 4 MiB");
        for (head, piece) in [(&head[..], &b"x"[..]), (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"), (b"", b"")] {
            let slow = serve_for_ever(head, piece.to_vec(), Duration::from_millis(50)).await;
            let question = HttpRequest { patience: Duration::from_secs(1), ..HttpRequest::of("/x") };
            let error = ask(HERE, Port { number: slow, tls: false }, question).await.unwrap_err();
            assert_eq!(error, "does not answer /x within 1 s");
        }
        let headers = serve_for_ever(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n".repeat(1000), Duration::ZERO).await;
        let error = get(headers, false, "/x").await.unwrap_err();
        assert!(error.starts_with("does not answer /x "), "{error}");
    }

    #[tokio::test]
    async fn what_goes_wrong_is_said_about_the_pod() {
        let port = serve(b"not http\r\n\r\n").await;
        assert!(get(port, false, "/x").await.unwrap_err().contains("does not answer /x in HTTP"));
        assert!(get(port, false, "/x").await.unwrap_err().contains("does not accept connections"));
        let port = serve(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n").await;
        let reply = get(port, false, "/x").await.unwrap();
        assert_eq!(reply.status, StatusCode::FOUND, "nobody is asked elsewhere");
        assert_eq!(reply.header("location"), Some("http://127.0.0.1:1/"));
        let port = serve(b"no tls").await;
        assert!(get(port, true, "/x").await.unwrap_err().contains("does not speak TLS"));
    }
}
