//! All fields that any of several versions of an object sets.
//!
//! helm 3 takes a field away from a live object only if the version that it compares with has it. After failed upgrades the
//! live object may hold fields of each of them, so the version to compare with has to have them all. Which value it gives
//! them does not matter.

use serde_json::Value;

/// Lists whose items Kubernetes tells apart by a key, and the keys: the first that an item has. All other lists count as
/// one value.
const KEYED: [(&str, &[&str]); 10] = [
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("env", &["name"]),
    ("volumes", &["name"]),
    ("imagePullSecrets", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("volumeDevices", &["devicePath"]),
    ("ports", &["containerPort", "port"]),
    ("hostAliases", &["ip"]),
    ("topologySpreadConstraints", &["topologyKey"]),
];

/// The keys by which the items of the list of this name are told apart; none for a list that counts as one value.
pub fn item_keys(list: &str) -> Option<&'static [&'static str]> {
    KEYED.iter().find(|(name, _)| *name == list).map(|(_, keys)| *keys)
}

/// Adds what only `other` has.
pub fn add_fields(object: &mut Value, other: &Value) {
    let (Value::Object(object), Value::Object(other)) = (object, other) else { return };
    for (name, theirs) in other {
        let Some(mine) = object.get_mut(name) else {
            object.insert(name.clone(), theirs.clone());
            continue;
        };
        match (&mut *mine, theirs, item_keys(name)) {
            (Value::Array(mine), Value::Array(theirs), Some(keys)) => add_items(mine, theirs, keys),
            _ => add_fields(mine, theirs),
        }
    }
}

/// Adds the items whose key the list does not have, and the fields of the others.
fn add_items(list: &mut Vec<Value>, other: &[Value], keys: &[&str]) {
    let key = |item: &Value| keys.iter().map(|key| item[*key].clone()).find(|key| !key.is_null());
    for theirs in other {
        let Some(known) = key(theirs) else { continue };
        match list.iter_mut().find(|mine| key(mine).as_ref() == Some(&known)) {
            Some(mine) => add_fields(mine, theirs),
            None => list.push(theirs.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::fields(json!({"a": 1}), json!({"a": 2, "b": {"c": 3}}), json!({"a": 1, "b": {"c": 3}}))]
    #[case::deeper(json!({"a": {"b": 1}}), json!({"a": {"c": 2}}), json!({"a": {"b": 1, "c": 2}}))]
    #[case::environment(
        json!({"env": [{"name": "A", "value": "1"}]}),
        json!({"env": [{"name": "B", "value": "2"}, {"name": "A", "valueFrom": {}}]}),
        json!({"env": [{"name": "A", "value": "1", "valueFrom": {}}, {"name": "B", "value": "2"}]})
    )]
    #[case::mounts_of_one_volume(
        json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}]}),
        json!({"volumeMounts": [{"name": "v", "mountPath": "/b"}]}),
        json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]})
    )]
    #[case::ports(json!({"ports": [{"port": 80}]}), json!({"ports": [{"port": 443}]}), json!({"ports": [{"port": 80}, {"port": 443}]}))]
    #[case::other_lists_are_one_value(json!({"args": ["a"]}), json!({"args": ["b", "c"]}), json!({"args": ["a"]}))]
    #[case::another_kind_of_value(json!({"a": "text"}), json!({"a": {"b": 1}}), json!({"a": "text"}))]
    fn what_only_the_other_has_is_added(#[case] mut object: Value, #[case] other: Value, #[case] expected: Value) {
        add_fields(&mut object, &other);
        assert_eq!(object, expected);
        add_fields(&mut object, &other);
        assert_eq!(object, expected, "once more changes nothing");
    }
}
