//! Serves the packaged charts as helm repositories, over HTTP and HTTPS.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::hostile::{self, Hostility};
use super::tls::{ServerIdentity, TlsListener};
use super::{ChartError, Repository, charts_dir, package};
use crate::secret;

/// The user of the private repository.
const USER: &str = "reader";

/// What [`serve`] needs.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The helm that packages the charts.
    pub helm: PathBuf,
    /// Where packaged charts are kept between clusters; see [`package()`].
    pub cache: PathBuf,
    /// Where the repositories of single tests lie; see [`ChartRepositories::extra`].
    pub extra: PathBuf,
    /// Where they listen: an address that pods reach.
    pub listen: Ipv4Addr,
}

/// Where the chart repositories of a cluster are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChartRepositories {
    /// Coder v2.
    pub v2: String,
    /// Coder Classic.
    pub v1: String,
    /// Both lines in one index, as in a company's mirror.
    pub mixed: String,
    /// Versions of both lines that are broken on purpose, one break each.
    pub faults: String,
    /// Both lines and the provisioners in the shapes of the public charts, each at some of its versions.
    pub public: String,
    /// Coder v2 over HTTP for those who give `user` and `password`.
    pub private_v2: String,
    /// Coder v2 over HTTPS with a certificate of the authority `ca_pem`.
    pub tls_v2: String,
    /// Over HTTPS and with credentials.
    pub private_tls_v2: String,
    /// Always answers 503.
    pub down: String,
    /// The user of the private repositories.
    pub user: String,
    /// The password of the private repositories, another one in each cluster.
    pub password: String,
    /// The certificate authority of the HTTPS repositories.
    pub ca_pem: String,
    /// URL of the repositories that mean harm.
    hostile_url: String,
    /// URL of the repositories of single tests.
    extra_url: String,
    /// Directory of the repositories of single tests.
    extra_directory: PathBuf,
}

impl ChartRepositories {
    /// A repository that belongs to one test. `name` must be unique in the cluster: letters, digits and dashes.
    #[must_use]
    pub fn extra(&self, name: &str) -> Repository {
        Repository::new(self.extra_directory.join(name), format!("{}/{name}", self.extra_url))
    }

    /// A repository that is broken or means harm.
    #[must_use]
    pub fn hostile(&self, hostility: Hostility) -> String {
        format!("{}/{hostility}", self.hostile_url)
    }
}

/// Packages the charts if need be and serves them until `shutdown`.
pub async fn serve(config: ServerConfig, shutdown: CancellationToken) -> Result<ChartRepositories, ChartError> {
    let packages = package(&config.helm, &charts_dir(), &config.cache).await?;
    let identity = ServerIdentity::of(&[&config.listen.to_string(), "localhost"])?;
    let password = secret::token().map_err(ChartError::Random)?;
    let shelves = Arc::new(Shelves { packages, extra: config.extra.clone() });
    let router = router(shelves, &password);

    let plain = TcpListener::bind((config.listen, 0)).await.map_err(ChartError::Listen)?;
    let plain_url = format!("http://{}", plain.local_addr().map_err(ChartError::Listen)?);
    let secured = TcpListener::bind((config.listen, 0)).await.map_err(ChartError::Listen)?;
    let secured_url = format!("https://{}", secured.local_addr().map_err(ChartError::Listen)?);
    let secured = TlsListener::new(secured, &identity)?;

    let plain = axum::serve(plain, router.clone()).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let secured = axum::serve(secured, router).with_graceful_shutdown(shutdown.cancelled_owned());
    tokio::spawn(async move { report(plain.await) });
    tokio::spawn(async move { report(secured.await) });
    Ok(ChartRepositories {
        v2: format!("{plain_url}/v2"),
        v1: format!("{plain_url}/v1"),
        mixed: format!("{plain_url}/mixed"),
        faults: format!("{plain_url}/faults"),
        public: format!("{plain_url}/public"),
        private_v2: format!("{plain_url}/private/v2"),
        tls_v2: format!("{secured_url}/v2"),
        private_tls_v2: format!("{secured_url}/private/v2"),
        down: format!("{plain_url}/down"),
        user: USER.to_owned(),
        password,
        ca_pem: identity.ca_pem,
        hostile_url: format!("{plain_url}/hostile"),
        extra_url: format!("{plain_url}/extra"),
        extra_directory: config.extra,
    })
}

fn report(end: io::Result<()>) {
    if let Err(error) = end {
        tracing::error!(%error, "a chart repository stopped");
    }
}

/// Where the files of the repositories lie.
struct Shelves {
    packages: PathBuf,
    extra: PathBuf,
}

fn router(shelves: Arc<Shelves>, password: &str) -> Router {
    let expected: Arc<str> = format!("Basic {}", BASE64_STANDARD.encode(format!("{USER}:{password}"))).into();
    let private = Router::new()
        .route("/private/{repository}/{file}", get(packaged))
        .layer(middleware::from_fn_with_state(expected, require_credentials));
    Router::new()
        .route("/{repository}/{file}", get(packaged))
        .route("/extra/{repository}/{file}", get(extra))
        .route("/hostile/{hostility}/{file}", get(hostile::answer))
        .route("/down/{file}", any(|| async { (StatusCode::SERVICE_UNAVAILABLE, "closed for maintenance") }))
        .merge(private)
        .with_state(shelves)
}

async fn require_credentials(State(expected): State<Arc<str>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION);
    if given.is_some_and(|given| given.as_bytes() == expected.as_bytes()) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"charts\"")];
    (StatusCode::UNAUTHORIZED, challenge, "credentials are wrong or missing").into_response()
}

async fn packaged(State(shelves): State<Arc<Shelves>>, Path(names): Path<(String, String)>) -> Response {
    file(&shelves.packages, &names).await
}

async fn extra(State(shelves): State<Arc<Shelves>>, Path(names): Path<(String, String)>) -> Response {
    file(&shelves.extra, &names).await
}

async fn file(shelf: &std::path::Path, (repository, name): &(String, String)) -> Response {
    if !is_plain(repository) || !is_plain(name) {
        return StatusCode::NOT_FOUND.into_response();
    }
    match tokio::fs::read(shelf.join(repository).join(name)).await {
        Ok(contents) => contents.into_response(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => StatusCode::NOT_FOUND.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Whether a name from a URL stays in its directory.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c))
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        assert!(is_plain("coder-2.33.0-rc.1+build.tgz"));
        for name in ["..", ".hidden", "a/b", "a\\b", "a%2fb"] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
