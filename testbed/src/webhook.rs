//! A mutating admission webhook for pods, on loopback: what meshes, registries' mirrors and injectors do to them.

use std::sync::Arc;

use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::charts::ChartError;
use crate::charts::tls::{ServerIdentity, TlsListener};

/// A webhook that answers until it is dropped.
#[derive(Debug)]
pub struct PodWebhook {
    url: String,
    ca_pem: String,
    task: JoinHandle<()>,
}

impl PodWebhook {
    /// Begins to answer. `mutate` gets each pod that is created, and returns the operations of a JSON patch.
    ///
    /// # Errors
    /// If no certificate can be made or no port can be opened.
    pub async fn serve(mutate: impl Fn(&Value) -> Vec<Value> + Send + Sync + 'static) -> Result<Self, ChartError> {
        let identity = ServerIdentity::generate()?;
        let tcp = TcpListener::bind(("127.0.0.1", 0)).await.map_err(ChartError::Listen)?;
        let url = format!("https://{}/", tcp.local_addr().map_err(ChartError::Listen)?);
        let listener = TlsListener::new(tcp, &identity)?;
        let mutate = Arc::new(mutate);
        let routes = Router::new().fallback(post(async move |Json(review): Json<Value>| {
            Json(answer(&review, &mutate(&review["request"]["object"])))
        }));
        let task = tokio::spawn(async move {
            // It ends with the task.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { url, ca_pem: identity.ca_pem, task })
    }

    /// How the API server reaches it.
    pub(crate) fn client_config(&self) -> Value {
        json!({"url": self.url, "caBundle": STANDARD.encode(&self.ca_pem)})
    }

    /// What registers it for the pods of a namespace that have this label. A cluster has one of that name.
    #[must_use]
    pub fn configuration(&self, namespace: &str, label: (&str, &str)) -> Value {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": namespace},
            "webhooks": [{
                "name": "pods.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "failurePolicy": "Fail", "timeoutSeconds": 10,
                "clientConfig": self.client_config(),
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "objectSelector": {"matchLabels": {label.0: label.1}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
            }],
        })
    }
}

impl Drop for PodWebhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(review: &Value, patch: &[Value]) -> Value {
    let patch = STANDARD.encode(Value::from(patch.to_vec()).to_string());
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch", "patch": patch},
    })
}
