//! Which values are secrets.
//!
//! Everything in the values of a release and in the Secrets that its pods use counts as a secret, whatever its key is
//! called, except
//!
//! 1. what has [`SHORTEST_SECRET`] bytes or fewer: hidden, it would blot out half of every message;
//! 2. words of helm and Kubernetes (`words`), such as `pre-upgrade` or `LoadBalancer`;
//! 3. under a key that names public things (images, classes, names of objects and variables, hosts): one line of at most 253
//!    characters that has the form of a name;
//! 4. what has a public form: a version, a quantity, a duration, a path of plain words, a host name, the
//!    address of a host;
//! 5. numbers of five digits or fewer, truths, and user, group and time settings.
//!
//! Under a key that says that it is a secret (`password`, `token`, `apiKey`, …) only 1 and 2 hold.
//!
//! A secret of five bytes, an ordinary word of Kubernetes as a password, and a password that stands where a name belongs are
//! therefore not hidden.

mod forms;
mod words;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

/// Strings of this many bytes or fewer are not hidden.
pub const SHORTEST_SECRET: usize = 5;

/// Longest name of an object or a host.
const LONGEST_NAME: usize = 253;

/// Keys whose strings name things that everybody may read. Errors would be of no use with those words blotted out.
const PUBLIC_KEYS: &[&str] = &[
    "apiVersion",
    "className",
    "claimName",
    "clusterDomainSuffix",
    "cpu",
    "devurlsHost",
    "effect",
    "ephemeral-storage",
    "existingClaim",
    "existingSecret",
    "externalTrafficPolicy",
    "fieldPath",
    "fullnameOverride",
    "host",
    "hostname",
    "hosts",
    "image",
    "imagePullPolicy",
    "imagePullSecrets",
    "ingressClassName",
    "kind",
    "memory",
    "mountPath",
    "name",
    "nameOverride",
    "namespace",
    "operator",
    "path",
    "pathType",
    "pullPolicy",
    "pullSecrets",
    "registry",
    "repo",
    "repository",
    "secretName",
    "serviceAccountName",
    "storage",
    "storageClass",
    "storageClassName",
    "strategy",
    "tag",
    "topologyKey",
    "type",
    "wildcardHost",
];

/// Objects in which `key` is the name of a key.
const KEYED: &[&str] = &[
    "secretKeyRef",
    "configMapKeyRef",
    "items",
    "tolerations",
    "matchExpressions",
    "matchFields",
    "accessKeySecretRef",
];

/// Words in keys of secrets.
const SENSITIVE: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
    "connectionurl",
    "connectionstring",
    "dsn",
    "pgurl",
    "tlskey",
    "signature",
    "webhook",
    "license",
];

/// Keys whose numbers are settings.
const SETTINGS: &[&str] = &["runAsUser", "runAsGroup", "fsGroup", "port", "nodePort", "uid", "gid"];

/// Every string and number of the values that is a secret, as text.
pub fn secrets(values: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(("", ""), values, &mut found);
    found
}

/// Every secret under this key.
pub fn secrets_under(key: &str, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(("", key), value, &mut found);
    found
}

fn collect((parent, key): (&str, &str), value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if !is_public_in(parent, key, text) => {
            found.push(text.clone());
            if let Ok(number) = text.trim().parse() {
                found.extend(forms::spellings(&number));
            }
        }
        Value::Number(number) if !is_setting(key, number) => found.extend(forms::spellings(number)),
        Value::Array(items) => items.iter().for_each(|item| collect((parent, key), item, found)),
        Value::Object(map) => {
            let named = variable(map);
            for (name, value) in map {
                let name = if name == "value" { named.unwrap_or(name) } else { name };
                collect((key, name), value, found);
            }
        }
        _ => {}
    }
}

/// The name of a variable counts as the key of its value.
fn variable(map: &Map<String, Value>) -> Option<&str> {
    map.get("name").and_then(Value::as_str).filter(|_| map.contains_key("value"))
}

/// Whether the text under this key is none.
pub fn is_public(key: &str, text: &str) -> bool {
    is_public_in("", key, text)
}

fn is_public_in(parent: &str, key: &str, text: &str) -> bool {
    let text = text.trim();
    if text.len() <= SHORTEST_SECRET || text.split(',').all(|word| words::contains(word.trim())) {
        return true;
    }
    let names = names_public(key, text) || key == "key" && KEYED.contains(&parent) && forms::is_name(text);
    names || !is_sensitive(key) && forms::is_public(text)
}

/// Whether the text under this key is a name that everybody may read. An address may hold a password, so it is none.
pub fn names_public(key: &str, text: &str) -> bool {
    PUBLIC_KEYS.contains(&key) && text.len() <= LONGEST_NAME && forms::is_name(text)
}

/// Whether a key says that its value is a secret. That of the name of a Secret says so, too.
pub fn is_sensitive(key: &str) -> bool {
    let bare: String = key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SENSITIVE.iter().any(|word| bare.contains(word))
}

/// Whether a number may be shown.
pub fn is_setting(key: &str, number: &serde_json::Number) -> bool {
    let short = number.to_string().trim_start_matches('-').len() <= SHORTEST_SECRET;
    short || !is_sensitive(key) && (SETTINGS.contains(&key) || key.ends_with("Seconds"))
}
