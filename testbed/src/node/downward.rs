//! The downward API: what a container may learn about its own pod.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{ObjectFieldSelector, Pod};
use kube::ResourceExt;

use super::sources::Unmet;

/// The value of a `fieldRef` in a pod with this address.
pub(super) fn field(pod: &Pod, address: Ipv4Addr, selector: &ObjectFieldSelector) -> Result<String, Unmet> {
    let path = selector.field_path.as_str();
    if let Some(label) = path.strip_prefix("metadata.labels['").and_then(|rest| rest.strip_suffix("']")) {
        return Ok(pod.labels().get(label).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "status.podIP" => address.to_string(),
        _ => return Err(Unmet::new(format!("fieldPath `{path}` is not supported"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn fields() {
        let pod: Pod =
            from_value(json!({"metadata": {"name": "a", "namespace": "n", "labels": {"app": "x"}}})).unwrap();
        let value = |path: &str| {
            let selector = ObjectFieldSelector { field_path: path.into(), api_version: None };
            field(&pod, Ipv4Addr::new(127, 1, 0, 10), &selector)
        };
        for (path, expected) in [
            ("metadata.name", "a"),
            ("metadata.namespace", "n"),
            ("metadata.labels['app']", "x"),
            ("metadata.labels['none']", ""),
            ("status.podIP", "127.1.0.10"),
        ] {
            assert_eq!(value(path).as_deref(), Ok(expected), "{path}");
        }
        assert!(value("spec.x").unwrap_err().message.contains("spec.x"));
    }
}
