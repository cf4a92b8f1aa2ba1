//! How the API server is reached: a kubeconfig, as kubectl chooses it, or the service account of the pod.

use std::path::PathBuf;

use clap::Args;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::core::text::causes::causes;

/// The flags of kubectl that say which cluster is meant, and who asks.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct Access {
    /// Path of the kubeconfig; by default that in KUBECONFIG, or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig; by default its current one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,

    /// Cluster of the kubeconfig; by default that of the context
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,

    /// User of the kubeconfig; by default that of the context
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// User to impersonate
    #[arg(long = "as", value_name = "USER")]
    impersonated: Option<String>,
}

/// The flags and the environment lead to no API server.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AccessError(String);

impl Access {
    /// Whether nothing was said on the command line.
    fn is_default(&self) -> bool {
        [&self.context, &self.cluster, &self.user].iter().all(|flag| flag.is_none()) && self.kubeconfig.is_none()
    }

    /// Where the API server is, and how to speak to it.
    pub async fn config(&self) -> Result<Config, AccessError> {
        let error = |error: &dyn std::error::Error| AccessError(causes(error));
        let options =
            KubeConfigOptions { context: self.context.clone(), cluster: self.cluster.clone(), user: self.user.clone() };
        let mut config = match &self.kubeconfig {
            Some(file) => {
                let read = Kubeconfig::read_from(file).map_err(|e| error(&e))?;
                Config::from_custom_kubeconfig(read, &options).await.map_err(|e| error(&e))?
            }
            // Only this falls back to the service account of a pod.
            None if self.is_default() => Config::infer().await.map_err(|e| AccessError(e.to_string()))?,
            None => Config::from_kubeconfig(&options).await.map_err(|e| error(&e))?,
        };
        if let Some(user) = &self.impersonated {
            config.auth_info.impersonate = Some(user.clone());
        }
        Ok(config)
    }
}
