//! Argo CD's scripts in `deploy/gitops/argocd`, run by its interpreter over what the API server showed.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::reader::lua;
use super::story::{holds, is_verified, phase, shown, speaks_of_this_spec};
use crate::common::World;

/// The scripts of the ConfigMap.
struct Scripts {
    health: String,
    discovery: String,
    actions: Vec<(String, String)>,
}

impl Scripts {
    fn read() -> Self {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/gitops/argocd/argocd-cm.yaml");
        let map: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let of =
            |what: &str| text(&map["data"][format!("resource.customizations.{what}.coderupgrade.dev_CoderUpgrade")]);
        let actions: Value = serde_saphyr::from_str(&of("actions")).unwrap();
        let definitions = actions["definitions"].as_array().unwrap();
        Self {
            health: of("health"),
            discovery: text(&actions["discovery.lua"]),
            actions: definitions.iter().map(|action| (text(&action["name"]), text(&action["action.lua"]))).collect(),
        }
    }
}

/// Performs an action on the object as Argo CD does: the script changes it, and the difference is sent as a merge patch.
pub async fn perform(world: &World, action: &str) {
    let scripts = Scripts::read();
    let (_, script) = scripts.actions.iter().find(|(name, _)| name == action).expect("an action of that name");
    let before = serde_json::to_value(world.get("coder").await).unwrap();
    let offered = lua(&scripts.discovery, std::slice::from_ref(&before)).await.remove(0);
    assert_eq!(offered[action]["disabled"], false, "{action} is offered in phase {}: {offered}", phase(&before));
    let after = lua(script, std::slice::from_ref(&before)).await.remove(0);
    let patch = difference(&before, &after).expect("an action that changes something").to_string();
    world.kubectl(&["patch", "coderupgrade", "coder", "--type=merge", "--patch", &patch]).await;
}

/// The merge patch that makes the one of the other. A script cannot tell an empty list from an empty object.
fn difference(before: &Value, after: &Value) -> Option<Value> {
    let is_empty = |value: &Value| *value == json!({}) || *value == json!([]) || value.is_null();
    if before == after || (is_empty(before) && is_empty(after)) {
        return None;
    }
    let (Value::Object(from), Value::Object(to)) = (before, after) else { return Some(after.clone()) };
    let mut patch: Map<String, Value> = to
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), difference(from.get(key).unwrap_or(&Value::Null), value)?)))
        .collect();
    patch.extend(from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), Value::Null)));
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[tokio::test]
async fn argo_cd_takes_only_the_verified_version_for_healthy() {
    let shown = shown().await;
    let mut seen = BTreeSet::new();
    for (object, read) in shown.iter().zip(lua(&Scripts::read().health, shown).await) {
        let asks = phase(object) == "AwaitingApproval" && object["status"]["failure"].is_null();
        let wanted = match object {
            _ if is_verified(object) => "Healthy",
            _ if !speaks_of_this_spec(object) => "Progressing",
            _ if phase(object) == "Suspended" || asks => "Suspended",
            _ if holds(object, "Stalled") => "Degraded",
            _ => "Progressing",
        };
        assert_eq!(read["status"], wanted, "{}: {read} of {object:#}", phase(object));
        assert!(read["message"].as_str().is_some_and(|message| !message.is_empty()), "{}: {read}", phase(object));
        seen.insert(wanted);
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

/// The actions that are offered are those that would do something; the story has performed each (`story.rs`).
#[tokio::test]
async fn argo_cd_offers_an_action_only_where_it_does_something() {
    let (shown, scripts) = (shown().await, Scripts::read());
    for (object, offered) in shown.iter().zip(lua(&scripts.discovery, shown).await) {
        let suspended = object["spec"]["suspend"] == true;
        let waits = &object["status"]["approval"]["value"];
        let asks = waits.is_string() && *waits != object["metadata"]["annotations"]["coderupgrade.dev/approve"];
        let wanted =
            [("approve", asks), ("retry", phase(object) == "Failed"), ("suspend", !suspended), ("resume", suspended)];
        for (action, wanted) in wanted {
            assert_eq!(offered[action]["disabled"], !wanted, "{action} in {}: {offered}", phase(object));
        }
        let names: Vec<_> = scripts.actions.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, wanted.map(|(name, _)| name));
    }
}

#[test]
fn a_difference_is_a_merge_patch() {
    let before = json!({"a": {"kept": {}, "gone": 1}, "b": [1], "c": "x"});
    let after = json!({"a": {"kept": [], "new": "y"}, "b": [1], "c": "x"});
    assert_eq!(difference(&before, &after), Some(json!({"a": {"new": "y", "gone": null}})));
    assert_eq!(difference(&before, &before), None);
}
