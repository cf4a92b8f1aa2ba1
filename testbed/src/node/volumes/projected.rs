//! Projected volumes: several sources in one directory, among them the pod's token.

use k8s_openapi::api::core::v1::ProjectedVolumeSource;

use super::super::pod::PodRuntime;
use super::super::sources::{Unmet, config_map, secret};
use super::files::Files;
use super::payload::{self, DEFAULT_MODE, bits};

/// The files of all sources of the volume `name`. A token is asked for again when most of its life is over.
pub(super) async fn content(pod: &PodRuntime, name: &str, volume: &ProjectedVolumeSource) -> Result<Files, Unmet> {
    let client = &pod.node.client;
    let mode = volume.default_mode.unwrap_or(DEFAULT_MODE);
    let mut files = Files::new();
    for source in volume.sources.iter().flatten() {
        if let Some(token_source) = &source.service_account_token {
            let token = pod.token(name, token_source).await?;
            files.insert(token_source.path.clone(), (token.into_bytes(), bits(mode)));
        } else if let Some(source) = &source.config_map {
            let found = config_map(client, &pod.namespace, &source.name).await?;
            let optional = source.optional == Some(true);
            files.extend(payload::items("configmap", &source.name, found, source.items.as_deref(), mode, optional)?);
        } else if let Some(source) = &source.secret {
            let found = secret(client, &pod.namespace, &source.name).await?;
            let optional = source.optional == Some(true);
            files.extend(payload::items("secret", &source.name, found, source.items.as_deref(), mode, optional)?);
        } else if let Some(source) = &source.downward_api {
            files.extend(payload::fields(pod, source.items.as_deref().unwrap_or_default(), mode)?);
        } else {
            pod.not_supported(&format!("volume {name}: a projected source of it is not supported and left out")).await;
        }
    }
    Ok(files)
}
