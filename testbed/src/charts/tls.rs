//! HTTPS on loopback with a certificate authority made for one cluster.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use super::ChartError;

/// How long a client may take for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A server certificate with its key and the authority that signed it, all PEM.
pub struct ServerIdentity {
    /// The certificate of the authority.
    pub ca_pem: String,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl ServerIdentity {
    /// One for 127.0.0.1 and `localhost`.
    pub(crate) fn generate() -> Result<Self, ChartError> {
        Self::of(&["127.0.0.1", "localhost"])
    }

    /// Makes a certificate authority and a server certificate of it for these names. The authority's key is thrown away.
    ///
    /// # Errors
    /// If a name is none.
    pub fn of(names: &[&str]) -> Result<Self, ChartError> {
        Self::try_generate(names).map_err(|error| ChartError::Certificate(error.to_string()))
    }

    /// What shakes hands with it.
    ///
    /// # Errors
    /// If the certificate cannot be used.
    pub fn acceptor(&self) -> Result<TlsAcceptor, ChartError> {
        let config = self.server_config().map_err(|error| ChartError::Certificate(error.to_string()))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn try_generate(names: &[&str]) -> Result<Self, rcgen::Error> {
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "chart repositories of the test bed");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        let certificate = certificate.signed_by(&key, &authority)?;
        Ok(Self {
            ca_pem: authority.pem(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate,
            key,
        })
    }

    fn server_config(&self) -> Result<ServerConfig, tokio_rustls::rustls::Error> {
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)
    }
}

/// A listener for [`axum::serve()`] whose connections have shaken hands already.
pub(crate) struct TlsListener {
    connections: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl TlsListener {
    /// Wraps `tcp`. Handshakes run beside each other, so that a slow client keeps nobody waiting.
    pub(crate) fn new(tcp: TcpListener, identity: &ServerIdentity) -> Result<Self, ChartError> {
        let acceptor = identity.acceptor()?;
        let address = tcp.local_addr().map_err(ChartError::Listen)?;
        let (sender, connections) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut tcp = tcp;
            loop {
                let (stream, peer) = tokio::select! {
                    () = sender.closed() => return,
                    accepted = Listener::accept(&mut tcp) => accepted,
                };
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        // A failed send says that the server has stopped.
                        Ok(Ok(stream)) => drop(sender.send((stream, peer)).await),
                        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
                    }
                });
            }
        });
        Ok(Self { connections, address })
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            // The accepting task ends only after this listener: nothing will come any more.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
