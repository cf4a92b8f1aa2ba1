//! Recreating a workload without taking its pods away: which labels they need to be found by the successor, too.
//!
//! A selector cannot be changed. Whoever deletes the workload and leaves its pods alone still loses them to the outside:
//! the chart changes the Service's selector together with the workload's. Pods that carry the labels of both serve on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Labels or a selector by equality.
pub type Labels = BTreeMap<String, String>;

/// What the pods of the old workload need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridge {
    /// Labels that they get, so that the new selectors match them.
    pub labels: Labels,
    /// A label changes by which their owner knows them. It would let go of them and start others in their place, so it
    /// has to go first.
    pub release: bool,
}

impl Bridge {
    /// From the old workload as it is, the new one as it is rendered, and the rendered Services.
    pub fn between(old: &Value, new: &Value, services: &[&Value]) -> Self {
        let template = labels(&new["spec"]["template"]["metadata"]["labels"]);
        let mut keys = selector_keys(&new["spec"]["selector"]);
        for selector in services.iter().map(|service| labels(&service["spec"]["selector"])) {
            if selects(&selector, &template) {
                keys.extend(selector.into_keys());
            }
        }
        let had = labels(&old["spec"]["template"]["metadata"]["labels"]);
        let labels: Labels =
            template.into_iter().filter(|(key, value)| keys.contains(key) && had.get(key) != Some(value)).collect();
        let owner = selector_keys(&old["spec"]["selector"]);
        let release = labels.keys().any(|key| owner.contains(key));
        Self { labels, release }
    }
}

/// Whether the name of a `ReplicaSet` or pod is one that Kubernetes makes for a workload: its own name, and then a part for
/// each controller in between.
pub fn is_made_by(name: &str, workload: &str) -> bool {
    let parent = |name: &str| name.rsplit_once('-').map(|(parent, _)| parent.to_owned());
    let set = parent(name);
    set.as_deref() == Some(workload) || set.and_then(|set| parent(&set)).as_deref() == Some(workload)
}

/// Whether a Service with this selector has pods with these labels. One without a selector has none of its own.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// A JSON map of strings; whatever is no string is left out.
pub fn labels(map: &Value) -> Labels {
    let entries = map.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The labels that a selector looks at.
fn selector_keys(selector: &Value) -> BTreeSet<String> {
    let expressions = selector["matchExpressions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let expressions = expressions.iter().filter_map(|expression| Some(expression["key"].as_str()?.to_owned()));
    labels(&selector["matchLabels"]).into_keys().chain(expressions).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn workload(selector: &Value, more: &Value) -> Value {
        let mut labels = selector.clone();
        labels.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"spec": {"selector": {"matchLabels": selector}, "template": {"metadata": {"labels": labels}}}})
    }

    fn bridge(old: &Value, new: &Value) -> (Value, bool) {
        let none = json!({"version": "new"});
        let Bridge { labels, release } = Bridge::between(&workload(old, &json!({})), &workload(new, &none), &[]);
        (json!(labels), release)
    }

    #[rstest]
    #[case::added(json!({"a": "1"}), json!({"a": "1", "b": "2"}), json!({"b": "2"}), false)]
    #[case::removed(json!({"a": "1", "b": "2"}), json!({"a": "1"}), json!({}), false)]
    #[case::changed(json!({"a": "1"}), json!({"a": "2"}), json!({"a": "2"}), true)]
    #[case::renamed(json!({"a": "1"}), json!({"b": "1"}), json!({"b": "1"}), false)]
    fn pods_get_what_the_new_selector_asks_for(
        #[case] old: Value,
        #[case] new: Value,
        #[case] labels: Value,
        #[case] release: bool,
    ) {
        assert_eq!(bridge(&old, &new), (labels, release));
    }

    #[test]
    fn a_service_may_ask_for_more_than_the_workload() {
        let old = workload(&json!({"a": "1"}), &json!({}));
        let new = workload(&json!({"a": "1", "b": "2"}), &json!({"tier": "api", "version": "9"}));
        let service = json!({"spec": {"selector": {"a": "1", "tier": "api"}}});
        let other = json!({"spec": {"selector": {"version": "8"}}});
        let bridge = Bridge::between(&old, &new, &[&service, &other]);
        assert_eq!(json!(bridge.labels), json!({"b": "2", "tier": "api"}));
    }

    #[test]
    fn expressions_count_as_well() {
        let mut old = workload(&json!({"a": "1"}), &json!({"b": "1"}));
        old["spec"]["selector"]["matchExpressions"] = json!([{"key": "b", "operator": "Exists"}]);
        let new = workload(&json!({"a": "1", "b": "2"}), &json!({}));
        assert_eq!(Bridge::between(&old, &new, &[]), Bridge { labels: labels(&json!({"b": "2"})), release: true });
    }

    #[rstest]
    #[case::set("coder-6b7f", true)]
    #[case::pod("coder-6b7f-x2x", true)]
    #[case::pod_of_a_stateful_set("coder-0", true)]
    #[case::other_workload("coder-provisioner-6b7f-x2x", false)]
    #[case::itself("coder", false)]
    fn names_tell_the_workload(#[case] name: &str, #[case] expected: bool) {
        assert_eq!(is_made_by(name, "coder"), expected);
        assert!(!is_made_by(name, "other"));
    }

    #[test]
    fn a_service_without_selector_has_no_pods() {
        assert!(!selects(&Labels::new(), &labels(&json!({"a": "1"}))));
    }

    fn some_labels() -> impl Strategy<Value = Labels> {
        prop::collection::btree_map("[a-d]", "[1-3]", 1..4)
    }

    proptest! {
        /// The promise: with the labels added, the new selector matches; and the old one still does unless the owner has
        /// to go first.
        #[test]
        fn the_pods_are_found_by_both(old in some_labels(), new in some_labels()) {
            let bridge = Bridge::between(&workload(&json!(old), &json!({})), &workload(&json!(new), &json!({})), &[]);
            let mut pod = old.clone();
            pod.extend(bridge.labels.clone());
            prop_assert!(selects(&new, &pod));
            prop_assert_eq!(selects(&old, &pod), !bridge.release);
        }
    }
}
