//! When a cluster is ready for its first object.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node, ServiceAccount};
use kube::runtime::conditions::Condition;
use kube::runtime::wait::{self, await_condition};
use kube::{Api, Client};
use tokio::time::timeout;

/// The controllers need a few seconds to start; much more only on a very busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Why a cluster did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// Nothing happened for too long.
    #[error("{what} did not come within {} s; see the log of {look_at}", TIMEOUT.as_secs())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// The component that should have brought it.
        look_at: &'static str,
    },
    /// The API server did not answer.
    #[error("waiting for {what}: {source}")]
    Watch {
        /// What was waited for.
        what: &'static str,
        /// The reason.
        source: wait::Error,
    },
}

/// Waits until pods can be created: their service account and the cluster's certificate are there.
pub(super) async fn controllers_work(client: &Client) -> Result<(), NotReady> {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    let certificates = Api::<ConfigMap>::namespaced(client.clone(), "default");
    let controllers = "kube-controller-manager";
    until(accounts, "default", exists, "ServiceAccount default/default", controllers).await?;
    until(certificates, "kube-root-ca.crt", exists, "ConfigMap default/kube-root-ca.crt", controllers).await
}

/// Waits until the scheduler may put pods on the node `name`.
pub(super) async fn node_is_ready(client: &Client, name: &str) -> Result<(), NotReady> {
    until(Api::<Node>::all(client.clone()), name, takes_pods, "a Ready node", "supervisor").await
}

fn exists<K>(object: Option<&K>) -> bool {
    object.is_some()
}

/// Ready, and without the taints that the controller-manager sets until it has seen that.
fn takes_pods(node: Option<&Node>) -> bool {
    let Some(node) = node else { return false };
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.filter(|condition| condition.type_ == "Ready").any(|condition| condition.status == "True");
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    ready && taints.filter(|taint| taint.key.starts_with("node.kubernetes.io/")).count() == 0
}

async fn until<K>(
    objects: Api<K>,
    name: &str,
    condition: impl Condition<K>,
    what: &'static str,
    look_at: &'static str,
) -> Result<(), NotReady>
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    match timeout(TIMEOUT, await_condition(objects, name, condition)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(source)) => Err(NotReady::Watch { what, source }),
        Err(_) => Err(NotReady::Timeout { what, look_at }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(ready: &str, taints: &serde_json::Value) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "node-1"},
            "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_node_takes_pods_when_it_is_ready_and_untainted() {
        let tainted = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
        let reserved = json!([{"key": "example.org/reserved", "effect": "NoSchedule"}]);
        assert!(takes_pods(Some(&node("True", &json!([])))));
        assert!(takes_pods(Some(&node("True", &reserved))));
        assert!(!takes_pods(Some(&node("True", &tainted))));
        assert!(!takes_pods(Some(&node("False", &json!([])))));
        assert!(!takes_pods(None));
    }
}
