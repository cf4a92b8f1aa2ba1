//! What pods ask of a node and of a quota.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use serde_json::Value;

use super::pods::Template;
use crate::core::text::quantity;

/// Amounts by resource as quotas name them (`requests.cpu`), in billionths.
pub type Amounts = BTreeMap<&'static str, i128>;

/// The resources that are counted: list of the container, key in it, name in a quota.
pub const COUNTED: [(&str, &str, &str); 4] = [
    ("requests", "cpu", "requests.cpu"),
    ("requests", "memory", "requests.memory"),
    ("limits", "cpu", "limits.cpu"),
    ("limits", "memory", "limits.memory"),
];

/// What one container asks for; what it leaves out is what the namespace's limit ranges give it.
pub fn of_container(container: &Value, limits: &[LimitRange]) -> Amounts {
    let resources = &container["resources"];
    let said = |list: &str, key: &str| amount(&resources[list][key]);
    let amounts = COUNTED.iter().filter_map(|(list, key, name)| {
        // A request that is left out is the limit that is given.
        let own = said(list, key).or_else(|| said("limits", key).filter(|_| *list == "requests"));
        Some((*name, own.or_else(|| given(limits, list, key))?))
    });
    amounts.collect()
}

/// What a pod asks for: its containers together, or the largest of its init containers.
pub fn of_pod(template: &Template<'_>, limits: &[LimitRange]) -> Amounts {
    let mut amounts = Amounts::from([("pods", 1_000_000_000)]);
    for (section, container) in template.all().collect::<Vec<_>>().into_iter().rev() {
        for (name, amount) in of_container(container, limits) {
            let sum = amounts.entry(name).or_default();
            *sum = if section == "containers" { sum.saturating_add(amount) } else { (*sum).max(amount) };
        }
    }
    amounts
}

/// A quantity of a manifest, which may be a number there.
pub fn amount(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => quantity::parse(text),
        Value::Number(number) => quantity::parse(&number.to_string()),
        _ => None,
    }
}

/// What limit ranges give to a container that says nothing. The API server has filled in each of these fields itself.
fn given(limits: &[LimitRange], list: &str, key: &str) -> Option<i128> {
    items(limits, "Container").find_map(|item| {
        let defaults = if list == "requests" { &item.default_request } else { &item.default };
        quantity::parse(&defaults.as_ref()?.get(key)?.0)
    })
}

/// The rules of limit ranges for a type.
pub fn items<'a>(limits: &'a [LimitRange], kind: &'a str) -> impl Iterator<Item = &'a LimitRangeItem> {
    limits.iter().filter_map(|limit| limit.spec.as_ref()).flat_map(|spec| &spec.limits).filter(move |i| i.type_ == kind)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::plan::checks::pods::templates;
    use crate::core::plan::checks::sample;

    #[test]
    fn a_pod_asks_for_all_of_its_containers() {
        let resources = |cpu: &str| json!({"requests": {"cpu": cpu}, "limits": {"memory": 1024}});
        let mut deployment = sample::deployment("coder", &json!({"name": "coder", "resources": resources("500m")}));
        let pod = &mut deployment["spec"]["template"]["spec"];
        pod["containers"].as_array_mut().unwrap().push(json!({"name": "side", "resources": resources("1")}));
        pod["initContainers"] = json!([{"name": "init", "resources": resources("2")}]);
        let documents = sample::documents(&[deployment]);
        let amounts = of_pod(&templates(&documents).next().unwrap(), &[]);
        let whole = |name: &str| amounts.get(name).map(|amount| amount / 1_000_000);
        assert_eq!((whole("pods"), whole("requests.cpu")), (Some(1000), Some(2000)), "the init container is larger");
        assert_eq!((whole("requests.memory"), whole("limits.memory")), (Some(2_048_000), Some(2_048_000)));
        assert_eq!(whole("limits.cpu"), None);
    }

    #[test]
    fn limit_ranges_fill_in_what_is_left_out() {
        let limits: LimitRange = serde_json::from_value(json!({"spec": {"limits": [
            {"type": "Pod", "max": {"cpu": "9"}},
            {"type": "Container", "default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}},
        ]}}))
        .unwrap();
        let amounts = of_container(&json!({}), &[limits]);
        assert_eq!(amounts, Amounts::from([("requests.cpu", 1_000_000_000), ("limits.cpu", 2_000_000_000)]));
    }
}
