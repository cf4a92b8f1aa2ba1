//! The API server of the cluster, behind a front that fails some requests.

use std::net::Ipv4Addr;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::Router;
use axum::body::Body as Answer;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use kube::Client;
use kube::client::Body;
use tokio::net::TcpListener;

/// Fails the first requests that look at an object by its name, as a watch does.
#[derive(Clone)]
pub struct FailingWatches {
    pub url: String,
    client: Client,
    /// Plural and name, as in `deployments/coder`.
    object: String,
    left: Arc<AtomicUsize>,
}

impl FailingWatches {
    /// Requests are passed on with the rights of the client.
    pub async fn start(client: Client, object: &str, failures: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let front = Self { url, client, object: object.to_owned(), left: Arc::new(AtomicUsize::new(failures)) };
        let router = Router::new().fallback(answer).with_state(front.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        front
    }

    /// How many requests will still fail.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }

    fn fails(&self, request: &Request) -> bool {
        let (plural, name) = self.object.split_once('/').unwrap();
        let selector = format!("fieldSelector=metadata.name%3D{name}");
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let watches = path.ends_with(&format!("/{plural}")) && query.contains(&selector);
        let taken = |left: usize| left.checked_sub(1);
        watches && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken).is_ok()
    }
}

async fn answer(State(front): State<FailingWatches>, request: Request) -> Response {
    if front.fails(&request) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "etcdserver: leader changed").into_response();
    }
    let (mut head, body) = request.into_parts();
    head.headers.remove(header::AUTHORIZATION);
    head.headers.remove(header::HOST);
    head.uri = head.uri.path_and_query().unwrap().as_str().parse().unwrap();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    match front.client.send(http::Request::from_parts(head, Body::from(body.to_vec()))).await {
        Ok(answer) => answer.map(Answer::new).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
