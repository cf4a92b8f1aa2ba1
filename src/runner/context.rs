//! What every part of a step needs.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use kube::{Api, Client, Config};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::helm::Helm;
use super::report::Reporter;
use super::secrets::Secrets;

/// How long one request to the API server may take. kube has no limit of its own for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

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

/// A client for the cluster that the environment names: KUBECONFIG, or the service account of the pod.
pub async fn client() -> Result<Client, Error> {
    let mut config = Config::infer().await.map_err(|e| Error::NoCluster(e.to_string()))?;
    config.connect_timeout = Some(REQUEST_TIMEOUT);
    // Its sleeps between tries can add up to minutes; `request` bounds them.
    config.default_retry = true;
    Client::try_from(config).map_err(|e| Error::NoCluster(e.to_string()))
}

/// Sends one request, bounded in time. `doing` completes "cannot …", as in "read Secret/x".
pub async fn request<T>(doing: &str, answer: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Error::api(doing, error)),
        Err(_) => Err(Error::ApiSilent { doing: doing.to_owned(), seconds: REQUEST_TIMEOUT.as_secs() }),
    }
}
