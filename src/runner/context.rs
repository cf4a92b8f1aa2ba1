//! What every part of a step needs.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::{Request, header::DATE};
use jiff::{Timestamp, fmt::rfc2822};
use kube::client::Body;
use kube::core::ApiResource;
use kube::discovery::Scope;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::helm::Helm;
use super::report::Reporter;
use super::secrets::Secrets;
use crate::access::Access;
use crate::api::FailureClass;
use crate::core::report::Problem;

/// How long one request to the API server may take. kube has no limit of its own for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The kinds of a version of an API group.
pub type Served = Vec<(ApiResource, Scope)>;

/// The surroundings of a step.
#[derive(Clone)]
pub struct Context {
    /// Client with the rights of the runner's ServiceAccount.
    pub client: Client,
    /// Namespace of the release, of the `CoderUpgrade` and of the Job.
    pub namespace: String,
    /// Name of the `CoderUpgrade`.
    pub upgrade: String,
    /// UID of the `CoderUpgrade`.
    pub uid: String,
    /// Name of the Job that runs this.
    pub job: String,
    /// Directory for scratch files.
    pub work_dir: PathBuf,
    /// The helm in PATH.
    pub helm: Helm,
    /// What must not be said.
    pub secrets: Secrets,
    /// Where progress goes.
    pub reporter: Reporter,
    /// Cancelled when the runner is told to stop.
    pub stop: CancellationToken,
    /// What the API server has said of its kinds, by API version.
    pub served: Arc<Mutex<HashMap<String, Arc<Served>>>>,
}

impl Context {
    /// An API for a kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// A client for the cluster that flags or the environment name.
pub async fn client(access: &Access) -> Result<Client, Error> {
    let mut config = access.config().await.map_err(|e| Error::NoCluster(e.to_string()))?;
    config.connect_timeout = Some(REQUEST_TIMEOUT);
    // For a server that is overloaded or about to end. Its sleeps can add up to minutes; `request` bounds them.
    config.default_retry = true;
    Client::try_from(config).map_err(|e| Error::NoCluster(e.to_string()))
}

/// Sends a request, bounded in time, again while the API server cannot be reached at all. `doing` completes "cannot …", as
/// in "read Secret/x".
///
/// Only for requests that may be sent twice: reads, and writes with a precondition.
pub async fn request<T, F>(doing: &str, call: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = kube::Result<T>>,
{
    let end = Instant::now() + REQUEST_TIMEOUT;
    let mut pause = Duration::from_millis(100);
    loop {
        match timeout_at(end, call()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if is_unreachable(&error) && Instant::now() + pause < end => {
                tracing::debug!("cannot {doing} yet: {error}");
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            Ok(Err(error)) => return Err(Error::api(doing, error)),
            Err(_) => return Err(Error::ApiSilent { doing: doing.to_owned(), seconds: REQUEST_TIMEOUT.as_secs() }),
        }
    }
}

/// The time by the API server's clock: that of this machine may be wrong.
pub async fn server_time(ctx: &Context) -> Result<Timestamp, Error> {
    let doing = "ask the API server for its time";
    let answer = request(doing, async || {
        let request = Request::get("/version").body(Body::empty()).map_err(kube::Error::HttpError)?;
        ctx.client.send(request).await
    });
    let answer = answer.await?;
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    date.and_then(|date| rfc2822::parse(date).ok()).map(|date| date.timestamp()).ok_or_else(|| {
        Problem::new(FailureClass::ApiUnavailable, "the API server does not tell its time (header Date)").into()
    })
}

/// There was no answer, because there was no connection or it broke.
pub fn is_unreachable(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_))
}
