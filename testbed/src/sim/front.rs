//! What coderd does with every request before it answers: the redirect to its public name, the header with its version, and
//! paths that it does not know. As measured on Coder 2.24.0 to 2.31.7, what concerns TLS by their source.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use reqwest::Url;
use serde_json::{Value, json};

use super::settings::Settings;

/// Where Coder tells its version in every answer of its own.
const VERSION: HeaderName = HeaderName::from_static("x-coder-build-version");
/// Where a proxy tells under which name it was asked.
const FORWARDED: &str = "x-forwarded-host";

struct Front {
    /// The public address, if everything else is redirected to it.
    redirects_to: Option<Url>,
    version: HeaderValue,
    tls: bool,
}

/// Puts it before `routes`. `version` is what the build calls itself.
pub(super) fn before(routes: Router, settings: &Settings, version: &str, tls: bool) -> Router {
    let redirects = settings.is_on("CODER_REDIRECT_TO_ACCESS_URL");
    let redirects_to = settings.get("CODER_ACCESS_URL").filter(|_| redirects).and_then(|url| Url::parse(url).ok());
    let version = HeaderValue::from_str(version).unwrap_or_else(|_| HeaderValue::from_static("v0.0.0"));
    let front = Arc::new(Front { redirects_to, version, tls });
    routes.fallback(unknown).layer(middleware::from_fn_with_state(front, pass))
}

/// A JSON answer as Go's encoder writes it: with a charset, and a newline at the end.
pub(super) fn json_answer(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json; charset=utf-8")], format!("{body}\n")).into_response()
}

/// Below /api/v2 there are only the routes that there are; everything else is the front end's.
async fn unknown(path: Uri) -> Response {
    if path.path().starts_with("/api/v2") {
        return json_answer(StatusCode::NOT_FOUND, &json!({"message": "Route not found."}));
    }
    Html("<!doctype html><title>Coder</title>").into_response()
}

async fn pass(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    if let Some(location) = front.elsewhere(request.uri().path(), request.headers()) {
        return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response();
    }
    let mut response = next.run(request).await;
    response.headers_mut().insert(VERSION, front.version.clone());
    response
}

impl Front {
    /// Where a request is sent instead. Health checks and relays are answered under any name.
    fn elsewhere(&self, path: &str, headers: &HeaderMap) -> Option<String> {
        let url = self.redirects_to.as_ref()?;
        if path == "/healthz" || path == "/derp/latency-check" {
            return None;
        }
        let host = match (url.host_str()?, url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let named = |name: &str| headers.get(name).is_some_and(|value| value.as_bytes() == host.as_bytes());
        let reached = named(HOST.as_str()) || named(FORWARDED);
        (!reached || (url.scheme() == "https" && !self.tls)).then(|| url.as_str().trim_end_matches('/').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(url: &str, tls: bool) -> Front {
        Front { redirects_to: Url::parse(url).ok(), version: HeaderValue::from_static("v2.31.7"), tls }
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn only_the_public_name_gets_an_answer() {
        let path = "/api/v2/buildinfo";
        let (host, forwarded) =
            (headers("host", "coder.example.com"), headers("x-forwarded-host", "coder.example.com"));
        let other = headers("host", "127.0.0.5:8080");
        let https = front("https://coder.example.com", false);
        for headers in [&host, &forwarded, &other] {
            assert_eq!(https.elsewhere(path, headers).as_deref(), Some("https://coder.example.com"));
            assert_eq!(https.elsewhere("/healthz", headers), None);
        }
        let http = front("http://coder.example.com", false);
        assert_eq!((http.elsewhere(path, &host), http.elsewhere(path, &forwarded)), (None, None));
        assert_eq!(http.elsewhere(path, &other).as_deref(), Some("http://coder.example.com"));
        let tls = front("https://coder.example.com", true);
        assert_eq!(tls.elsewhere(path, &host), None);
        assert!(tls.elsewhere(path, &other).is_some());
    }
}
