//! Objects without pods that helm waits for, and whether they are ready as helm judges it.

use serde_json::Value;

use crate::api::FailureClass;
use crate::core::helm::failures::Cause;
use crate::core::object::ObjectRef;
use crate::core::object::is_built_in;

/// Kinds that run pods, or are pods: what is wrong with them, their pods tell.
const PODS: [&str; 7] = ["DaemonSet", "Deployment", "Job", "Pod", "ReplicaSet", "ReplicationController", "StatefulSet"];

/// Whether helm waits for an object that runs no pods. helm 4 waits for custom resources, helm 3 for the address of a
/// `LoadBalancer` Service, and both for claims.
pub fn is_waited_for(object: &ObjectRef, helm_waits_for_all: bool) -> bool {
    match (object.group(), object.kind.as_str()) {
        ("", "PersistentVolumeClaim") => true,
        ("", "Service") => !helm_waits_for_all,
        (group, _) => helm_waits_for_all && !is_built_in(group),
    }
}

/// Why helm takes a live object for one that is not ready; none if it is ready, or says nothing about it.
pub fn unready(live: &Value) -> Option<String> {
    let (metadata, status) = (&live["metadata"], &live["status"]);
    if !metadata["deletionTimestamp"].is_null() {
        return Some("it is being deleted".into());
    }
    match (live["apiVersion"].as_str(), live["kind"].as_str()) {
        (Some("v1"), Some("PersistentVolumeClaim")) => {
            let phase = status["phase"].as_str().unwrap_or("unknown");
            return (phase != "Bound").then(|| format!("its phase is {phase}"));
        }
        (Some("v1"), Some("Service")) => {
            let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
            let spec = &live["spec"];
            let open = spec["type"] == "LoadBalancer"
                && empty(&spec["externalIPs"])
                && empty(&status["loadBalancer"]["ingress"]);
            return open.then(|| "it has no address of a load balancer".into());
        }
        _ => {}
    }
    let seen = status["observedGeneration"].as_i64();
    if seen.is_some_and(|seen| metadata["generation"].as_i64().is_some_and(|generation| seen < generation)) {
        return Some("its controller has not seen its newest change".into());
    }
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let open = conditions.iter().find(|condition| {
        let state = condition["status"].as_str().unwrap_or_default();
        match condition["type"].as_str() {
            Some("Ready") => state != "True",
            Some("Reconciling" | "Stalled") => state == "True",
            _ => false,
        }
    })?;
    let word = |key: &str| open[key].as_str().unwrap_or_default();
    let more = [word("reason"), word("message")].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>();
    let more = if more.is_empty() { String::new() } else { format!(": {}", more.join(", ")) };
    Some(format!("{} is {}{more}", word("type"), word("status")))
}

/// The object without pods that helm has waited for in vain; none if it has waited for pods as well, or has failed otherwise.
pub fn waited_for(causes: &[Cause]) -> Option<Cause> {
    let waited = |cause: &Cause| cause.class == Some(FailureClass::RolloutTimedOut);
    let with_pods = |cause: &Cause| cause.object.as_ref().is_some_and(|object| PODS.contains(&object.kind.as_str()));
    if causes.iter().any(|cause| !waited(cause) || with_pods(cause)) {
        return None;
    }
    let cause = causes.iter().find(|cause| cause.object.is_some())?;
    Some(Cause { class: Some(FailureClass::ObjectNotReady), ..cause.clone() })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::core::helm::failures::causes;
    use crate::core::object::KindName;

    #[rstest]
    #[case::ready(json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}), None)]
    #[case::nothing_said(json!({"spec": {}}), None)]
    #[case::not_ready(
        json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Pending", "message": "no issuer"}]}}),
        Some("Ready is False: Pending, no issuer")
    )]
    #[case::unknown(json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}), Some("Ready is Unknown"))]
    #[case::stalled(json!({"status": {"conditions": [{"type": "Stalled", "status": "True"}]}}), Some("Stalled is True"))]
    #[case::other_condition(json!({"status": {"conditions": [{"type": "Issuing", "status": "True"}]}}), None)]
    #[case::not_seen(json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 1}}), Some("has not seen"))]
    #[case::going(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), Some("being deleted"))]
    #[case::claim(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": "Pending"}}), Some("its phase is Pending"))]
    #[case::bound(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": "Bound"}}), None)]
    #[case::no_address(json!({"apiVersion": "v1", "kind": "Service", "spec": {"type": "LoadBalancer"}}), Some("no address"))]
    #[case::inside(json!({"apiVersion": "v1", "kind": "Service", "spec": {"type": "ClusterIP"}}), None)]
    fn helm_judges_what_is_not_ready(#[case] live: Value, #[case] expected: Option<&str>) {
        let found = unready(&live);
        assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
        assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()));
    }

    #[rstest]
    #[case::custom(
        "resource Certificate/ns/coder-tls not ready. status: InProgress, message: no issuer\ncontext deadline exceeded",
        Some("Certificate/coder-tls")
    )]
    #[case::pods_too(
        "resource Deployment/ns/coder not ready. status: InProgress, message: 0/1\nresource Certificate/ns/coder-tls not ready. status: InProgress, message: no issuer\ncontext deadline exceeded",
        None
    )]
    #[case::nobody("context deadline exceeded", None)]
    #[case::refused("Deployment.apps \"coder\" is invalid: spec.selector: Invalid value: field is immutable", None)]
    fn the_object_that_helm_waited_for_is_named(#[case] text: &str, #[case] expected: Option<&str>) {
        let found = waited_for(&causes(text));
        assert_eq!(
            found.as_ref().and_then(|cause| cause.object.clone()),
            expected.and_then(KindName::read),
            "{found:?}"
        );
        assert!(found.is_none_or(|cause| cause.class == Some(FailureClass::ObjectNotReady)));
    }
}
