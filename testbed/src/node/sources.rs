//! The Secrets and `ConfigMap`s a pod uses.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Container, Secret};
use kube::{Api, Client};

use super::NodeError;
use super::relation::once_known;

/// Why a container or volume cannot be made from what is there now; it is tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unmet {
    /// What is missing, for the pod's status and its events.
    pub message: String,
}

impl Unmet {
    /// Something is missing.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl From<NodeError> for Unmet {
    fn from(error: NodeError) -> Self {
        Self::new(error.to_string())
    }
}

/// Contents by key.
pub type Payload = BTreeMap<String, Vec<u8>>;

/// What the Secrets and `ConfigMap`s a container's environment refers to hold; those that do not exist are absent.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Secrets by name.
    pub secrets: BTreeMap<String, Payload>,
    /// `ConfigMap`s by name.
    pub config_maps: BTreeMap<String, Payload>,
}

impl Sources {
    /// Reads what the environment of `container` refers to.
    ///
    /// # Errors
    /// If the API server does not answer, or refuses.
    pub async fn read(client: &Client, namespace: &str, container: &Container) -> Result<Self, NodeError> {
        let (secrets, config_maps) = references(container);
        let mut sources = Self::default();
        for name in secrets {
            if let Some(payload) = secret(client, namespace, &name).await? {
                sources.secrets.insert(name, payload);
            }
        }
        for name in config_maps {
            if let Some(payload) = config_map(client, namespace, &name).await? {
                sources.config_maps.insert(name, payload);
            }
        }
        Ok(sources)
    }
}

/// The content of a Secret, or `None` if there is none of that name.
pub(super) async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Option<Payload>, NodeError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = once_known(|| api.get_opt(name)).await.map_err(NodeError::unread("secret", name))?;
    Ok(found.map(|secret| secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0)).collect()))
}

/// The content of a `ConfigMap`, or `None` if there is none of that name.
pub(super) async fn config_map(client: &Client, namespace: &str, name: &str) -> Result<Option<Payload>, NodeError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = once_known(|| api.get_opt(name)).await.map_err(NodeError::unread("configmap", name))?;
    Ok(found.map(|map| {
        let text = map.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
        text.chain(map.binary_data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0))).collect()
    }))
}

/// Names of the Secrets and of the `ConfigMap`s in `env` and `envFrom`.
fn references(container: &Container) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut secrets, mut config_maps) = (BTreeSet::new(), BTreeSet::new());
    for source in container.env_from.iter().flatten() {
        secrets.extend(source.secret_ref.iter().map(|reference| reference.name.clone()));
        config_maps.extend(source.config_map_ref.iter().map(|reference| reference.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        secrets.extend(source.secret_key_ref.iter().map(|reference| reference.name.clone()));
        config_maps.extend(source.config_map_key_ref.iter().map(|reference| reference.name.clone()));
    }
    (secrets, config_maps)
}
