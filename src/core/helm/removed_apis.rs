//! APIs that Kubernetes has removed, and what took their place.
//!
//! helm keeps the manifest of what it has installed, and can do nothing with a release any more whose manifest names an API
//! that the cluster does not serve: neither upgrade, nor roll back, nor uninstall. The objects themselves are there, under
//! another version of their API.

use serde_json::{Value, json};

const INGRESS: &str = "networking.k8s.io/v1";
const RBAC: &str = "rbac.authorization.k8s.io/v1";
const APPS: &str = "apps/v1";
const ADMISSION: &str = "admissionregistration.k8s.io/v1";

/// Removed API versions: those that a kind had, and the one that it has now.
const SUCCESSORS: &[(&str, &[&str], &str)] = &[
    ("Ingress", &["extensions/v1beta1", "networking.k8s.io/v1beta1"], INGRESS),
    ("IngressClass", &["networking.k8s.io/v1beta1"], INGRESS),
    ("NetworkPolicy", &["extensions/v1beta1"], INGRESS),
    ("Deployment", &["extensions/v1beta1", "apps/v1beta1", "apps/v1beta2"], APPS),
    ("StatefulSet", &["apps/v1beta1", "apps/v1beta2"], APPS),
    ("DaemonSet", &["extensions/v1beta1", "apps/v1beta2"], APPS),
    ("ReplicaSet", &["extensions/v1beta1", "apps/v1beta2"], APPS),
    ("Role", &["rbac.authorization.k8s.io/v1alpha1", "rbac.authorization.k8s.io/v1beta1"], RBAC),
    ("RoleBinding", &["rbac.authorization.k8s.io/v1alpha1", "rbac.authorization.k8s.io/v1beta1"], RBAC),
    ("ClusterRole", &["rbac.authorization.k8s.io/v1alpha1", "rbac.authorization.k8s.io/v1beta1"], RBAC),
    ("ClusterRoleBinding", &["rbac.authorization.k8s.io/v1alpha1", "rbac.authorization.k8s.io/v1beta1"], RBAC),
    ("PodDisruptionBudget", &["policy/v1beta1"], "policy/v1"),
    ("CronJob", &["batch/v2alpha1", "batch/v1beta1"], "batch/v1"),
    ("HorizontalPodAutoscaler", &["autoscaling/v2beta1", "autoscaling/v2beta2"], "autoscaling/v2"),
    ("CustomResourceDefinition", &["apiextensions.k8s.io/v1beta1"], "apiextensions.k8s.io/v1"),
    ("ValidatingWebhookConfiguration", &["admissionregistration.k8s.io/v1beta1"], ADMISSION),
    ("MutatingWebhookConfiguration", &["admissionregistration.k8s.io/v1beta1"], ADMISSION),
    ("APIService", &["apiregistration.k8s.io/v1beta1"], "apiregistration.k8s.io/v1"),
    ("StorageClass", &["storage.k8s.io/v1beta1"], "storage.k8s.io/v1"),
    ("PriorityClass", &["scheduling.k8s.io/v1alpha1", "scheduling.k8s.io/v1beta1"], "scheduling.k8s.io/v1"),
    ("Lease", &["coordination.k8s.io/v1beta1"], "coordination.k8s.io/v1"),
    ("RuntimeClass", &["node.k8s.io/v1beta1"], "node.k8s.io/v1"),
];

/// The API version that took the place of one that this kind had; none if none is known, or none exists
/// (`PodSecurityPolicy`).
pub fn successor(api_version: &str, kind: &str) -> Option<&'static str> {
    let known = SUCCESSORS.iter().find(|(known, versions, _)| *known == kind && versions.contains(&api_version));
    known.map(|(_, _, successor)| *successor)
}

/// The same object in the successor of its API, with the fields that have other names there.
pub fn translate(object: &Value, successor: &str) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = successor.into();
    match object["kind"].as_str() {
        Some("Ingress") => ingress(&mut object["spec"]),
        Some("Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") => workload(&mut object["spec"]),
        Some("HorizontalPodAutoscaler") => autoscaler(&mut object["spec"]),
        _ => {}
    }
    object
}

fn ingress(spec: &mut Value) {
    if let Some(mut backend) = spec.as_object_mut().and_then(|spec| spec.remove("backend")) {
        service(&mut backend);
        spec["defaultBackend"] = backend;
    }
    let rules = spec.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten();
    for rule in rules {
        let paths = rule.pointer_mut("/http/paths").and_then(Value::as_array_mut).into_iter().flatten();
        for path in paths.filter_map(Value::as_object_mut) {
            // What the server answered for a path without a type.
            path.entry("pathType").or_insert_with(|| "ImplementationSpecific".into());
            if let Some(backend) = path.get_mut("backend") {
                service(backend);
            }
        }
    }
}

/// `serviceName` and `servicePort` became a map.
fn service(backend: &mut Value) {
    let Some(fields) = backend.as_object_mut() else { return };
    let (Some(name), Some(port)) = (fields.remove("serviceName"), fields.remove("servicePort")) else { return };
    let port = if port.is_number() { json!({"number": port}) } else { json!({"name": port}) };
    fields.insert("service".into(), json!({"name": name, "port": port}));
}

/// The selector was optional once, and meant the labels of the template.
fn workload(spec: &mut Value) {
    let labels = spec["template"]["metadata"]["labels"].clone();
    if spec["selector"].is_null() && labels.is_object() {
        spec["selector"] = json!({"matchLabels": labels});
    }
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("rollbackTo");
    }
}

fn autoscaler(spec: &mut Value) {
    let metrics = spec.get_mut("metrics").and_then(Value::as_array_mut).into_iter().flatten();
    for resource in metrics.filter_map(|metric| metric.get_mut("resource")?.as_object_mut()) {
        if let Some(share) = resource.remove("targetAverageUtilization") {
            resource.insert("target".into(), json!({"type": "Utilization", "averageUtilization": share}));
        } else if let Some(amount) = resource.remove("targetAverageValue") {
            resource.insert("target".into(), json!({"type": "AverageValue", "averageValue": amount}));
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
    use k8s_openapi::api::networking::v1::Ingress;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("extensions/v1beta1", "Ingress", Some("networking.k8s.io/v1"))]
    #[case("rbac.authorization.k8s.io/v1beta1", "RoleBinding", Some("rbac.authorization.k8s.io/v1"))]
    #[case("policy/v1beta1", "PodDisruptionBudget", Some("policy/v1"))]
    #[case("policy/v1beta1", "PodSecurityPolicy", None)]
    #[case("apps/v1", "Deployment", None)]
    #[case("example.com/v1", "Ingress", None)]
    fn a_removed_version_has_a_successor(#[case] version: &str, #[case] kind: &str, #[case] expected: Option<&str>) {
        assert_eq!(successor(version, kind), expected);
    }

    #[test]
    fn no_successor_was_removed_itself() {
        for (kind, versions, now) in SUCCESSORS {
            assert_eq!(successor(now, kind), None, "{kind}");
            assert!(!versions.contains(now));
        }
    }

    #[test]
    fn an_ingress_gets_the_fields_of_its_successor() {
        let old = json!({
            "apiVersion": "extensions/v1beta1", "kind": "Ingress", "metadata": {"name": "web"},
            "spec": {
                "backend": {"serviceName": "fallback", "servicePort": 80},
                "rules": [
                    {"host": "a", "http": {"paths": [
                        {"path": "/", "backend": {"serviceName": "coder", "servicePort": "http"}},
                        {"path": "/x", "pathType": "Exact", "backend": {"resource": {"kind": "Bucket", "name": "b"}}},
                    ]}},
                    {"host": "b"},
                ],
            },
        });
        let new = translate(&old, INGRESS);
        assert_eq!(new["apiVersion"], INGRESS);
        let paths = &new["spec"]["rules"][0]["http"]["paths"];
        assert_eq!(paths[0]["backend"], json!({"service": {"name": "coder", "port": {"name": "http"}}}));
        assert_eq!((&paths[0]["pathType"], &paths[1]["pathType"]), (&json!("ImplementationSpecific"), &json!("Exact")));
        let read: Ingress = serde_json::from_value(new).unwrap();
        let port = read.spec.unwrap().default_backend.unwrap().service.unwrap().port.unwrap();
        assert_eq!(port.number, Some(80));
    }

    #[test]
    fn a_deployment_gets_the_selector_that_it_had() {
        let old = json!({"kind": "Deployment", "spec": {"template": {"metadata": {"labels": {"app": "coder"}}, "spec": {"containers": []}}}});
        let read: Deployment = serde_json::from_value(translate(&old, APPS)).unwrap();
        assert_eq!(read.spec.unwrap().selector.match_labels.unwrap()["app"], "coder");
    }

    #[test]
    fn an_autoscaler_gets_a_target() {
        let old = json!({"kind": "HorizontalPodAutoscaler", "spec": {
            "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "coder"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 80}}],
        }});
        let read: HorizontalPodAutoscaler = serde_json::from_value(translate(&old, "autoscaling/v2")).unwrap();
        let metric = read.spec.unwrap().metrics.unwrap().remove(0);
        assert_eq!(metric.resource.unwrap().target.average_utilization, Some(80));
    }

    #[test]
    fn odd_objects_stay_odd() {
        for spec in [json!(null), json!("text"), json!({"rules": "text"}), json!({"rules": [1]})] {
            for kind in ["Ingress", "HorizontalPodAutoscaler", "Role"] {
                assert_eq!(translate(&json!({"kind": kind, "spec": spec}), "x/v1")["apiVersion"], "x/v1");
            }
        }
    }
}
