//! The node's control port, plain HTTP on loopback: faults on request, and the stand-in for cluster DNS.
//!
//! `EndpointSlice`s refuse loopback addresses, so Services have no endpoints on this node. Whoever wants to reach a Service
//! asks `GET /resolve/NAMESPACE/SERVICE` for the addresses of the ready pods it selects.

use std::path::Path as FilePath;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::ListParams;
use serde::Deserialize;
use tokio::net::TcpListener;

use super::NodeError;
use super::context::Node;
use super::running::Running;

/// The file in the node's directory that holds the URL of the control port.
const ADDRESS_FILE: &str = "control-url";

/// The control port before it serves.
pub struct ControlListener {
    listener: TcpListener,
    port: u16,
}

impl ControlListener {
    /// The URL it is reached at.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Opens the port and writes its URL into the node's directory.
pub async fn bind(directory: &FilePath) -> Result<ControlListener, NodeError> {
    let listen = |source| NodeError::Listen { server: "control", source };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(listen)?;
    let port = listener.local_addr().map_err(listen)?.port();
    let listener = ControlListener { listener, port };
    std::fs::create_dir_all(directory).map_err(NodeError::file(directory))?;
    let file = directory.join(ADDRESS_FILE);
    std::fs::write(&file, listener.url()).map_err(NodeError::file(&file))?;
    Ok(listener)
}

/// Serves until it is dropped.
pub async fn serve(listener: ControlListener, node: Arc<Node>, running: Arc<Running>) -> Result<(), NodeError> {
    let routes = Router::new()
        .route("/resolve/{namespace}/{service}", get(resolve))
        .route("/lose", post(|State(node): State<Arc<Node>>| async move { set_online(&node, false) }))
        .route("/return", post(|State(node): State<Arc<Node>>| async move { set_online(&node, true) }))
        .with_state(node)
        .merge(Router::new().route("/kill/{namespace}/{pod}/{container}", post(kill)).with_state(running));
    axum::serve(listener.listener, routes).await.map_err(|source| NodeError::Listen { server: "control", source })
}

fn set_online(node: &Node, online: bool) {
    node.online.send_replace(online);
}

async fn resolve(State(node): State<Arc<Node>>, Path((namespace, name)): Path<(String, String)>) -> Response {
    match addresses(&node, &namespace, &name).await {
        Ok(Some(addresses)) => Json(addresses).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, format!("no Service {namespace}/{name} with a selector")).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// The addresses of the ready pods that the Service selects; `None` if there is no such Service.
async fn addresses(node: &Node, namespace: &str, name: &str) -> Result<Option<Vec<String>>, NodeError> {
    let services: Api<Service> = Api::namespaced(node.client.clone(), namespace);
    let service = services.get_opt(name).await.map_err(NodeError::api("read Service", name))?;
    let spec = service.and_then(|service| service.spec);
    let Some(selector) = spec.and_then(|spec| spec.selector) else { return Ok(None) };
    let selector: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let pods: Api<Pod> = Api::namespaced(node.client.clone(), namespace);
    let here = ListParams::default().labels(&selector.join(",")).fields(&format!("spec.nodeName={}", node.name));
    let found = pods.list(&here).await.map_err(NodeError::api("list the Pods of Service", name))?;
    Ok(Some(found.items.into_iter().filter(is_ready).filter_map(|pod| pod.status?.pod_ip).collect()))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready =
        conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

#[derive(Deserialize)]
struct KillQuery {
    reason: Option<String>,
}

async fn kill(
    State(running): State<Arc<Running>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<KillQuery>,
) -> Response {
    let killed = running.get(&namespace, &pod).is_some_and(|pod| pod.kill(&container, query.reason));
    if killed {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let message = format!("container {container} of pod {namespace}/{pod} does not run on this node");
        (StatusCode::NOT_FOUND, message).into_response()
    }
}

/// Faults on request, for tests: a client of a node's control port.
#[derive(Debug, Clone)]
pub struct Control {
    url: String,
    http: reqwest::Client,
}

impl Control {
    /// The control port of the node that runs in `directory`.
    ///
    /// # Errors
    /// If no node was started there.
    pub fn of(directory: &FilePath) -> Result<Self, NodeError> {
        let file = directory.join(ADDRESS_FILE);
        let url = std::fs::read_to_string(&file).map_err(NodeError::file(&file))?;
        // An error says that the process has a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build();
        let http = http.map_err(|source| NodeError::Http { what: "the client of the control port".into(), source })?;
        Ok(Self { url, http })
    }

    /// Kills a container's processes with SIGKILL. Its status shows `reason` (such as `OOMKilled`), or `Error`.
    ///
    /// # Errors
    /// If the container does not run on the node.
    pub async fn kill(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        reason: Option<&str>,
    ) -> Result<(), NodeError> {
        let query = reason.map(|reason| format!("?reason={reason}")).unwrap_or_default();
        self.post(&format!("/kill/{namespace}/{pod}/{container}{query}")).await
    }

    /// Loses the node: it tells and hears nothing any more, while its processes go on.
    ///
    /// # Errors
    /// If the node does not run.
    pub async fn lose(&self) -> Result<(), NodeError> {
        self.post("/lose").await
    }

    /// Ends what [`Control::lose`] began.
    ///
    /// # Errors
    /// If the node does not run.
    pub async fn bring_back(&self) -> Result<(), NodeError> {
        self.post("/return").await
    }

    /// The addresses of the ready pods that a Service selects.
    ///
    /// # Errors
    /// If there is no such Service, or it has no selector.
    pub async fn resolve(&self, namespace: &str, service: &str) -> Result<Vec<String>, NodeError> {
        let url = format!("{}/resolve/{namespace}/{service}", self.url);
        let failed = |source| NodeError::Http { what: format!("resolving Service {namespace}/{service}"), source };
        let answer = self.http.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        answer.json().await.map_err(failed)
    }

    async fn post(&self, path: &str) -> Result<(), NodeError> {
        let sent = self.http.post(format!("{}{path}", self.url)).send().await;
        let answered = sent.and_then(reqwest::Response::error_for_status).map(drop);
        answered.map_err(|source| NodeError::Http { what: format!("POST {path} on the node's control port"), source })
    }
}
