//! etcd: one member, without fsync, because nothing it holds must survive a power cut.

use super::launch::{Running, launch, with_free_ports};
use super::{ControlPlaneError, Settings};
use crate::components::Component;
use crate::ports::free_ports;

/// Starts etcd; returns the URL for its clients.
pub(super) async fn start(settings: &Settings<'_>) -> Result<(String, Running), ControlPlaneError> {
    with_free_ports(async || {
        let [clients, peers] =
            free_ports().map_err(|source| ControlPlaneError::System { what: "a free port", source })?;
        let (client_url, peer_url) = (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
        let arguments = [
            "--data-dir".to_owned(),
            settings.dir.join("etcd").display().to_string(),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--listen-client-urls={client_url}"),
            format!("--advertise-client-urls={client_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
        ];
        let program = settings.program(Component::Etcd, arguments.into())?;
        let health = format!("{client_url}/health");
        let running = launch(program, async || is_healthy(&health).await).await?;
        Ok((client_url, running))
    })
    .await
}

async fn is_healthy(url: &str) -> bool {
    reqwest::get(url).await.is_ok_and(|answer| answer.status().is_success())
}
