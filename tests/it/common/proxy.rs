//! A forward proxy of a test: the only one that knows where some hosts are.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use testbed::charts::ServerIdentity;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

#[derive(Default)]
struct Desk {
    /// Where a host lies.
    hosts: HashMap<String, String>,
    /// What it wants to be given.
    authorization: Option<String>,
    /// Opens the tunnels, if it shows a certificate of its own for every host.
    intercepts: Option<TlsAcceptor>,
    /// The first lines of all requests, those within opened tunnels included.
    asked: Mutex<Vec<String>>,
}

pub struct ForwardProxy {
    /// Host and port.
    pub address: String,
    desk: Arc<Desk>,
}

impl ForwardProxy {
    /// Knows these hosts, each as host:port and the loopback address that it stands for.
    pub async fn start(hosts: &[(&str, &str)], authorization: Option<&str>) -> Self {
        Self::serve(hosts, authorization, None).await
    }

    /// As [`ForwardProxy::start`], but it reads what goes through its tunnels, as a company's proxy does, and hands it on without
    /// TLS.
    pub async fn intercepting(hosts: &[(&str, &str)], authorization: Option<&str>, identity: &ServerIdentity) -> Self {
        Self::serve(hosts, authorization, Some(identity.acceptor().unwrap())).await
    }

    async fn serve(hosts: &[(&str, &str)], authorization: Option<&str>, intercepts: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let hosts = hosts.iter().map(|(host, lies)| ((*host).to_owned(), (*lies).to_owned())).collect();
        let desk = Desk { hosts, authorization: authorization.map(ToOwned::to_owned), intercepts, ..Desk::default() };
        let desk = Arc::new(desk);
        let served = desk.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(served.clone(), client));
            }
        });
        Self { address, desk }
    }

    /// The first lines of all that it was asked.
    pub fn asked(&self) -> Vec<String> {
        self.desk.asked.lock().unwrap().clone()
    }
}

/// Serves one request: a tunnel, or one that names the whole address.
async fn serve(desk: Arc<Desk>, mut client: TcpStream) -> Option<()> {
    let (first, head) = heard(&desk, &mut client).await?;
    let given =
        head.lines().find_map(|line| line.to_lowercase().starts_with("proxy-authorization:").then(|| line.to_owned()));
    let given = given.as_deref().and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned());
    if desk.authorization.is_some() && given != desk.authorization {
        client
            .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await
            .ok()?;
        return None;
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let (host, path) = match target.strip_prefix("http://") {
        Some(rest) => rest.split_once('/').map(|(host, path)| (host, format!("/{path}")))?,
        None => (target, String::new()),
    };
    let Some(lies) = desk.hosts.get(host) else {
        client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.ok()?;
        return None;
    };
    let mut server = TcpStream::connect(lies).await.ok()?;
    if method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
        if let Some(acceptor) = &desk.intercepts {
            let mut client = acceptor.accept(client).await.ok()?;
            let (_, head) = heard(&desk, &mut client).await?;
            let request = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
            server.write_all(request.as_bytes()).await.ok()?;
            return copy_bidirectional(&mut client, &mut server).await.ok().map(|_| ());
        }
    } else {
        let rest: Vec<&str> = head
            .lines()
            .skip(1)
            .filter(|line| !line.is_empty() && !line.to_lowercase().starts_with("proxy-"))
            .collect();
        let request = format!("{method} {path} HTTP/1.1\r\n{}\r\nConnection: close\r\n\r\n", rest.join("\r\n"));
        server.write_all(request.as_bytes()).await.ok()?;
    }
    copy_bidirectional(&mut client, &mut server).await.ok().map(|_| ())
}

/// The first line of a request, and all up to its body.
async fn heard(desk: &Desk, client: &mut (impl AsyncRead + Unpin)) -> Option<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let first = head.lines().next()?.to_owned();
    desk.asked.lock().unwrap().push(first.clone());
    Some((first, head))
}
