//! What the objects of a release tell of secrets: the Secrets that their pods use, and what stands in them literally.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::core::text::confidential;

/// Fields that name a Secret, directly or in their `name`.
const FIELDS: [&str; 9] = [
    "secretKeyRef",
    "secretRef",
    "secret",
    "imagePullSecrets",
    "nodePublishSecretRef",
    "controllerPublishSecretRef",
    "nodeStageSecretRef",
    "secretFile",
    "secretName",
];

/// Names of the Secrets that a pod, or any object with a pod template, refers to: variables of all its containers, volumes,
/// projections, credentials of registries.
pub fn secrets(object: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect("", object, &mut found);
    found
}

fn collect(key: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(name) if FIELDS.contains(&key) => drop(found.insert(name.clone())),
        Value::Array(items) => items.iter().for_each(|item| collect(key, item, found)),
        Value::Object(map) => {
            for (name, value) in map {
                let names = name == "name" && FIELDS.contains(&key);
                collect(if names { key } else { name }, value, found);
            }
        }
        _ => {}
    }
}

/// What an object holds of secrets itself: data of a Secret, literal values of variables.
pub fn literals(object: &Value) -> Vec<String> {
    if object["kind"] == "Secret" {
        let decoded = object["data"].as_object().into_iter().flatten().filter_map(|(key, value)| {
            let bytes = STANDARD.decode(value.as_str()?.trim()).ok()?;
            Some((key.as_str(), bytes))
        });
        let mut found: Vec<String> = decoded.flat_map(|(key, bytes)| of_data(key, &bytes)).collect();
        found.extend(confidential::secrets(&object["stringData"]));
        return found;
    }
    let mut found = Vec::new();
    variables(object, &mut found);
    found
}

/// The values of variables. A sentence under a name that promises no secret is a message of the chart, which everybody may read.
fn of_variables(env: &Value, found: &mut Vec<String>) {
    let Value::Array(variables) = env else { return found.extend(confidential::secrets_under("env", env)) };
    for variable in variables {
        let name = variable["name"].as_str().unwrap_or_default();
        let values = confidential::secrets_under("env", &variable["value"]);
        found.extend(values.into_iter().filter(|text| confidential::is_sensitive(name) || !is_sentence(text)));
    }
}

/// Whether a text is three words or more, of letters and the marks that sentences have.
fn is_sentence(text: &str) -> bool {
    let marks = |c: char| c.is_alphabetic() || "-'\".,;:!?()".contains(c);
    text.split(' ').count() > 2 && text.split(' ').all(|word| word.chars().all(marks))
}

fn variables(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| variables(item, found)),
        Value::Object(map) => {
            for (key, value) in map {
                match key.as_str() {
                    "env" => of_variables(value, found),
                    _ => variables(value, found),
                }
            }
        }
        _ => {}
    }
}

/// What of an entry of a Secret is a secret. Bytes that are no text show up as base64 only, which is hidden as such.
pub fn of_data(key: &str, bytes: &[u8]) -> Vec<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => confidential::secrets_under(key, &Value::from(text)),
        Err(_) => vec![STANDARD.encode(bytes)],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_secret_of_a_pod_is_found() {
        let pod = json!({"spec": {
            "imagePullSecrets": [{"name": "registry"}],
            "initContainers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "init", "key": "a"}}}]}],
            "containers": [{
                "envFrom": [{"secretRef": {"name": "all"}}, {"configMapRef": {"name": "open"}}],
                "env": [{"name": "B", "valueFrom": {"secretKeyRef": {"name": "one", "key": "b"}}}],
            }],
            "volumes": [
                {"name": "v", "secret": {"secretName": "mounted"}},
                {"name": "w", "projected": {"sources": [{"secret": {"name": "projected"}}, {"configMap": {"name": "open"}}]}},
                {"name": "x", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "csi"}}},
            ],
        }});
        let names: Vec<String> = secrets(&pod).into_iter().collect();
        assert_eq!(names, ["all", "csi", "init", "mounted", "one", "projected", "registry"]);
    }

    #[test]
    fn what_an_object_holds_itself_is_found() {
        let secret = json!({"kind": "Secret", "data": {"a": "aHVudGVyMi1wbGFudGVk", "host": "ZGIuZXhhbXBsZS5jb20="}, "stringData": {"b": "planted-2"}});
        assert_eq!(literals(&secret), ["hunter2-planted", "planted-2"]);
        let job = json!({"kind": "Job", "spec": {"template": {"spec": {"containers": [{"env": [{"name": "PASSWORD", "value": "swordfish"}]}]}}}});
        assert_eq!(literals(&job), ["swordfish"]);
        let said = "experiment flag \"workspace-scheduler\" is unknown";
        let env = json!([
            {"name": "CRASH", "value": said}, {"name": "TOKEN", "value": said}, {"name": "DSN", "value": "host=db user=me pw=x"},
        ]);
        assert_eq!(literals(&json!({"env": env})), [said, "host=db user=me pw=x"]);
        assert_eq!(of_data("key", &[0xFF, 0xFE, 0, 1, 2, 3]), ["//4AAQID"]);
    }
}
