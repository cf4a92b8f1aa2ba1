//! Telling the API server about a pod: its status, and that it may be removed.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::PodRuntime;
use crate::node::backoff;
use crate::node::status::compute;

/// Sends the pod's status whenever it changes. Never ends.
pub(super) async fn keep_reporting(pod: &PodRuntime, sent: &mut Option<PodStatus>) {
    let mut changes = pod.changed.subscribe();
    loop {
        report(pod, sent).await;
        // The sender lives as long as the pod, so waiting cannot fail.
        let _ = changes.changed().await;
    }
}

/// Sends the status, unless it is the one `sent` before, again and again until the API server has it or the pod is gone.
pub(super) async fn report(pod: &PodRuntime, sent: &mut Option<PodStatus>) {
    let api: Api<Pod> = Api::namespaced(pod.node.client.clone(), &pod.namespace);
    let mut failures = 0;
    loop {
        pod.node.online().await;
        // Transition times are kept from what was sent last, because the watch may not have shown it yet.
        let mut object = (*pod.object()).clone();
        if sent.is_some() {
            object.status.clone_from(sent);
        }
        let status = compute(&object, &pod.view(), Timestamp::now());
        if sent.as_ref() == Some(&status) {
            return;
        }
        let patch = json!({ "metadata": { "uid": pod.uid }, "status": with_removals(&status) });
        match api.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(_) => *sent = Some(status),
            Err(error) if is_gone(&error) => return,
            Err(error) => {
                tracing::warn!(pod = pod.name, %error, "pod status not sent; trying again");
                failures += 1;
                sleep(backoff::REQUESTS.pause(failures)).await;
            }
        }
    }
}

/// Whether another pod has the name by now, or none.
fn is_gone(error: &kube::Error) -> bool {
    let kube::Error::Api(answer) = error else { return false };
    let mut causes = answer.details.iter().flat_map(|details| &details.causes);
    answer.is_not_found() || answer.is_conflict() || causes.any(|cause| cause.field == "metadata.uid")
}

/// The status as a patch. Conditions are merged one by one, so that those of others stay; a reason or message that a
/// condition no longer has must be removed by name. Lists of addresses replace what was there.
fn with_removals(status: &PodStatus) -> Value {
    let mut patch = json!(status);
    for condition in patch["conditions"].as_array_mut().into_iter().flatten() {
        for field in ["reason", "message"] {
            if condition[field].is_null() {
                condition[field] = Value::Null;
            }
        }
    }
    for field in ["podIPs", "hostIPs"] {
        if let Some(addresses) = patch[field].as_array_mut() {
            addresses.insert(0, json!({ "$patch": "replace" }));
        }
    }
    patch
}

/// Removes the object of a pod whose containers have all ended.
pub(super) async fn remove(pod: &PodRuntime) {
    let api: Api<Pod> = Api::namespaced(pod.node.client.clone(), &pod.namespace);
    let preconditions = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
    let parameters =
        DeleteParams { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..Default::default() };
    let mut failures = 0;
    loop {
        pod.node.online().await;
        match api.delete(&pod.name, &parameters).await {
            Ok(_) => return,
            Err(error) if is_gone(&error) => return,
            Err(error) => {
                tracing::warn!(pod = pod.name, %error, "pod not removed; trying again");
                failures += 1;
                sleep(backoff::REQUESTS.pause(failures)).await;
            }
        }
    }
}
