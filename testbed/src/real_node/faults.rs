//! What an admission webhook of the supervisor changes in pods: the faults that their annotations ask for get the form that they
//! have on a real cluster (an image that no registry has, an init container that takes its time), and the processors that Coder's
//! chart asks for by default are requested as a few thousandths, for a machine with two has less to give.

use std::convert::Infallible;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::RealNodeError;
use super::images::TOOLS;
use crate::pod_faults::{PULL_ERROR, START_DELAY};
use crate::webhook::PodWebhook;

/// What the charts of Coder v2 request for each pod by default, as the API server passes it on: two processors.
const DEFAULT_PROCESSORS: [&str; 2] = ["2", "2000m"];
/// What their pods request here.
const PROCESSORS: &str = "10m";
/// A registry that does not exist: the domain is reserved.
const NOBODY: &str = "registry.invalid";

/// The webhook, which answers until it is dropped.
pub(crate) struct PodFaults(PodWebhook);

impl PodFaults {
    /// Registers it: pods that are created from then on have the faults that they ask for.
    pub(crate) async fn register(client: Client) -> Result<Self, RealNodeError> {
        let failed = |error: &dyn std::error::Error| RealNodeError::Faults(error.to_string());
        let webhook = PodWebhook::serve(patch).await.map_err(|error| failed(&error))?;
        let configuration = serde_json::from_value(configuration(&webhook)).map_err(|error| failed(&error))?;
        let configurations = Api::<MutatingWebhookConfiguration>::all(client);
        configurations.create(&PostParams::default(), &configuration).await.map_err(|error| failed(&error))?;
        Ok(Self(webhook))
    }

    /// Answers until `stop`.
    pub(crate) async fn serve(self, stop: CancellationToken) -> Result<(), Infallible> {
        stop.cancelled().await;
        drop(self.0);
        Ok(())
    }
}

/// Asked for pods with one of the annotations, or with the chart's own request, only: no other test depends on it.
fn configuration(webhook: &PodWebhook) -> Value {
    let has = |name: &str| format!("'{name}' in object.metadata.?annotations.orValue({{}})");
    // The list is written in CEL as in Rust.
    let requests = format!(
        "object.spec.containers.exists(c, c.?resources.?requests[?'cpu'].orValue('') in {DEFAULT_PROCESSORS:?})"
    );
    let asks = [has(PULL_ERROR), has(START_DELAY), requests].join(" || ");
    json!({
        "metadata": {"name": "testbed-pod-faults"},
        "webhooks": [{
            "name": "pod-faults.testbed.coderupgrade.dev", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "failurePolicy": "Fail", "clientConfig": webhook.client_config(),
            "matchConditions": [{"name": "is-changed", "expression": asks}],
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
        }],
    })
}

/// The operations that put the faults of a pod into it, and take the chart's own request out.
fn patch(pod: &Value) -> Vec<Value> {
    let annotation = |name: &str| pod["metadata"]["annotations"][name].as_str();
    let mut operations = Vec::new();
    for (index, container) in pod["spec"]["containers"].as_array().into_iter().flatten().enumerate() {
        let mut replace = |field: &str, value: &str| {
            let path = format!("/spec/containers/{index}/{field}");
            operations.push(json!({"op": "replace", "path": path, "value": value}));
        };
        if annotation(PULL_ERROR).is_some() {
            replace("image", &format!("{NOBODY}/{}", container["image"].as_str().unwrap_or_default()));
        }
        if container["resources"]["requests"]["cpu"].as_str().is_some_and(|cpu| DEFAULT_PROCESSORS.contains(&cpu)) {
            replace("resources/requests/cpu", PROCESSORS);
        }
    }
    if let Some(delay) = annotation(START_DELAY) {
        let (path, value) = match &pod["spec"]["initContainers"] {
            Value::Array(_) => ("/spec/initContainers/0", delaying(delay)),
            _ => ("/spec/initContainers", json!([delaying(delay)])),
        };
        operations.push(json!({"op": "add", "path": path, "value": value}));
    }
    operations
}

/// A container that ends after that time, or at once when it is asked to: process 1 ignores SIGTERM unless it handles it.
fn delaying(time: &str) -> Value {
    json!({
        "name": "start-delay", "image": TOOLS,
        "command": ["sh", "-c", "trap 'exit 1' TERM; sleep \"$0\" & wait $!", time],
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 65532, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_put_where_the_pod_has_its_containers() {
        let pod = json!({
            "metadata": {"annotations": {PULL_ERROR: "manifest unknown", START_DELAY: "5s"}},
            "spec": {"initContainers": [{"name": "first"}], "containers": [{"image": "a:1"}, {"image": "b:2"}]},
        });
        let operations = patch(&pod);
        let paths: Vec<_> = operations.iter().map(|operation| operation["path"].as_str().unwrap()).collect();
        assert_eq!(paths, ["/spec/containers/0/image", "/spec/containers/1/image", "/spec/initContainers/0"]);
        assert_eq!(operations[1]["value"], "registry.invalid/b:2");
        assert_eq!(operations[2]["value"]["command"][3], "5s");
        assert_eq!(patch(&json!({"metadata": {}, "spec": {"containers": [{"image": "a:1"}]}})), [Value::Null; 0]);
    }

    #[test]
    fn only_the_request_of_the_charts_of_coder_is_made_small() {
        let pod = |cpu: &str| json!({"spec": {"containers": [{"resources": {"requests": {"cpu": cpu}}}]}});
        let operation = json!({"op": "replace", "path": "/spec/containers/0/resources/requests/cpu", "value": "10m"});
        assert_eq!((patch(&pod("2")), patch(&pod("2000m"))), (vec![operation.clone()], vec![operation]));
        assert_eq!(patch(&pod("200")), [Value::Null; 0], "what no node has is not given here either");
    }
}
