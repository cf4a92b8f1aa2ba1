//! The downward API: what a container may learn about its own pod.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

use super::quantity::divide;
use super::sources::Unmet;

/// What the node adds to the pod object.
#[derive(Debug, Clone)]
pub struct PodFacts {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// The node's address.
    pub host: Ipv4Addr,
    /// The node's name.
    pub node: String,
    /// What the node offers, by resource: the value of a limit that is not set.
    pub capacity: BTreeMap<String, Quantity>,
}

/// The value of a `fieldRef`.
pub(super) fn field(pod: &Pod, facts: &PodFacts, selector: &ObjectFieldSelector) -> Result<String, Unmet> {
    let path = selector.field_path.as_str();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let map = match map {
            "metadata.labels" => pod.labels(),
            "metadata.annotations" => pod.annotations(),
            _ => return Err(Unmet::new(format!("fieldPath `{path}` is not supported"))),
        };
        return Ok(map.get(key).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    Ok(match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "metadata.labels" => lines(pod.labels()),
        "metadata.annotations" => lines(pod.annotations()),
        "spec.nodeName" => facts.node.clone(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.podIP" | "status.podIPs" => facts.address.to_string(),
        "status.hostIP" | "status.hostIPs" => facts.host.to_string(),
        _ => return Err(Unmet::new(format!("fieldPath `{path}` is not supported"))),
    })
}

/// The value of a `resourceFieldRef`; `own` is the container it stands in.
pub(super) fn resource(
    pod: &Pod,
    own: Option<&Container>,
    facts: &PodFacts,
    selector: &ResourceFieldSelector,
) -> Result<String, Unmet> {
    let of = selector.container_name.as_deref().unwrap_or_default();
    let container = match own {
        Some(own) if of.is_empty() || of == own.name => Some(own),
        _ => pod.spec.iter().flat_map(|spec| &spec.containers).find(|container| container.name == of),
    };
    let resources = container.and_then(|container| container.resources.as_ref());
    let path = selector.resource.as_str();
    let unknown = || Unmet::new(format!("resource `{path}` of container `{of}` is not supported"));
    let (list, name) = path.split_once('.').ok_or_else(unknown)?;
    let limits = resources.and_then(|resources| resources.limits.as_ref()).and_then(|limits| limits.get(name));
    let set = match list {
        "limits" => limits.or_else(|| facts.capacity.get(name)),
        "requests" => {
            let requests = resources.and_then(|resources| resources.requests.as_ref());
            requests.and_then(|requests| requests.get(name)).or(limits)
        }
        _ => return Err(unknown()),
    };
    let zero = Quantity("0".to_owned());
    divide(set.unwrap_or(&zero), selector.divisor.as_ref()).map(|value| value.to_string()).ok_or_else(unknown)
}

/// Labels or annotations as lines `key="value"`.
fn lines(map: &BTreeMap<String, String>) -> String {
    map.iter().fold(String::new(), |mut text, (key, value)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key}={value:?}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn pod() -> Pod {
        from_value(json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "labels": {"app": "x"}, "annotations": {"a/b": "c"}},
            "spec": {"serviceAccountName": "sa", "containers": [
                {"name": "main", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}}]},
        }))
        .unwrap()
    }

    fn facts() -> PodFacts {
        PodFacts {
            address: Ipv4Addr::new(127, 1, 0, 10),
            host: Ipv4Addr::LOCALHOST,
            node: "node-1".into(),
            capacity: BTreeMap::from([("memory".into(), Quantity("1Gi".into()))]),
        }
    }

    #[test]
    fn fields() {
        for (path, expected) in [
            ("metadata.name", "a"),
            ("metadata.labels['app']", "x"),
            ("metadata.annotations['a/b']", "c"),
            ("metadata.annotations['none']", ""),
            ("metadata.labels", "app=\"x\"\n"),
            ("status.podIP", "127.1.0.10"),
            ("status.hostIP", "127.0.0.1"),
            ("spec.nodeName", "node-1"),
            ("spec.serviceAccountName", "sa"),
        ] {
            let selector = ObjectFieldSelector { field_path: path.into(), api_version: None };
            assert_eq!(field(&pod(), &facts(), &selector).as_deref(), Ok(expected), "{path}");
        }
        let selector = ObjectFieldSelector { field_path: "spec.x".into(), api_version: None };
        assert!(field(&pod(), &facts(), &selector).unwrap_err().message.contains("spec.x"));
    }

    #[test]
    fn resources_fall_back_to_limit_and_node() {
        for (resource_name, expected) in [
            ("limits.cpu", "2"),
            ("requests.cpu", "2"),
            ("requests.memory", "67108864"),
            ("limits.memory", "1073741824"),
        ] {
            let selector = ResourceFieldSelector {
                container_name: Some("main".into()),
                divisor: None,
                resource: resource_name.into(),
            };
            assert_eq!(resource(&pod(), None, &facts(), &selector).as_deref(), Ok(expected), "{resource_name}");
        }
    }
}
