//! A request of helm on its way to the API server, and the answer on its way back.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_TYPE, DATE, ETAG, EXPIRES, IF_NONE_MATCH, USER_AGENT, VARY, WARNING,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::Client;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::core::plan::rehearsal::request::{ApiPath, readable};

/// Greatest answer, in bytes: helm asks for all its records of a release at once, each of which may take 1.4 MiB on the way.
const LIMIT: usize = 128 << 20;
/// How long one request to the API server may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Headers of an answer that matter to helm. By those of the cache it asks once, not for each chart and manifest, for the
/// descriptions of the API (`OpenAPI` v3), which are its largest answers.
const KEPT: [HeaderName; 7] = [CONTENT_TYPE, WARNING, CACHE_CONTROL, DATE, ETAG, EXPIRES, VARY];

/// A request of helm.
pub struct ProxiedRequest {
    /// Method, address and headers.
    pub head: Parts,
    /// The body.
    pub body: Bytes,
}

impl ProxiedRequest {
    /// The path.
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The query; empty if there is none.
    pub fn query(&self) -> &str {
        self.head.uri.query().unwrap_or_default()
    }

    /// Whether it is a patch by server-side apply.
    pub fn applies(&self) -> bool {
        let kind = self.head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        self.head.method == Method::PATCH && kind.starts_with("application/apply-patch")
    }

    /// The object in the body, if it is written in JSON, with the namespace that the path names.
    pub fn object(&self) -> Option<Value> {
        let mut object: Value = serde_json::from_slice(&self.body).ok()?;
        let namespace = ApiPath::parse(self.path()).and_then(|target| target.namespace);
        if let (Some(namespace), Some(metadata)) =
            (namespace, object.get_mut("metadata").and_then(Value::as_object_mut))
        {
            metadata.entry("namespace").or_insert_with(|| namespace.into());
        }
        Some(object)
    }
}

/// An answer.
#[derive(Clone)]
pub struct ProxiedResponse {
    /// Status.
    pub status: StatusCode,
    /// The headers that matter to helm.
    headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl ProxiedResponse {
    /// An object as an answer.
    pub fn object(status: StatusCode, object: &Value) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Self { status, headers, body: object.to_string().into() }
    }

    /// A failure in the form in which the API server tells one.
    pub fn failure(status: StatusCode, reason: &str, message: &str) -> Self {
        let failure = json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "reason": reason, "message": message, "code": status.as_u16(),
        });
        Self::object(status, &failure)
    }

    /// The same with another body of the same type. Its mark was that of the first body: helm must not name it again.
    pub fn with_body(mut self, body: &Value) -> Self {
        self.headers.remove(ETAG);
        Self { body: body.to_string().into(), ..self }
    }

    /// The object in it, if it is one in JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// For helm.
    pub fn respond(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// A refusal of the proxy itself.
pub fn refusal(status: StatusCode, reason: &str, message: &str) -> Response {
    ProxiedResponse::failure(status, reason, message).respond()
}

/// Sends a request to the API server with the runner's own rights. No other header of helm's goes along, so that nothing
/// can ask for another identity.
pub async fn send(
    client: &Client,
    asked: &ProxiedRequest,
    method: &Method,
    address: &str,
    body: Bytes,
) -> ProxiedResponse {
    let mut request = Request::builder().method(method).uri(address);
    if let Some(headers) = request.headers_mut() {
        let accept = asked.head.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        if let Ok(accept) = HeaderValue::from_str(&readable(accept)) {
            headers.insert(ACCEPT, accept);
        }
        for name in [CONTENT_TYPE, USER_AGENT, IF_NONE_MATCH] {
            headers.extend(asked.head.headers.get(&name).map(|value| (name, value.clone())));
        }
    }
    let unavailable =
        |message: &str| ProxiedResponse::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message);
    let request = match request.body(kube::client::Body::from(body)) {
        Ok(request) => request,
        Err(error) => return ProxiedResponse::failure(StatusCode::BAD_REQUEST, "BadRequest", &error.to_string()),
    };
    let exchange = async {
        let (head, body) = client.send(request).await?.into_parts();
        let body = Limited::new(body, LIMIT).collect().await;
        Ok::<_, kube::Error>((head, body))
    };
    match timeout(TIMEOUT, exchange).await {
        Ok(Ok((_, Err(error)))) if error.is::<LengthLimitError>() => ProxiedResponse::failure(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            &format!("the answer takes more than {} MiB: helm's records of the release may be too many", LIMIT >> 20),
        ),
        Ok(Ok((_, Err(error)))) => unavailable(&format!("the API server broke off its answer: {error}")),
        Ok(Ok((head, Ok(body)))) => {
            let body = body.to_bytes();
            let kept = head.headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
            let headers = kept.filter(|(name, _)| KEPT.contains(name)).collect();
            ProxiedResponse { status: head.status, headers, body }
        }
        Ok(Err(error)) => unavailable(&format!("the API server could not be asked: {error}")),
        Err(_) => unavailable(&format!("the API server did not answer within {} s", TIMEOUT.as_secs())),
    }
}
