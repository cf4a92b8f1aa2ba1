//! The environment, command and arguments of a container.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

use super::downward;
use super::expand::expand;
use super::paths::MountTable;
use super::sources::{Payload, Sources, Unmet};

/// Environment variables by name.
pub type Variables = BTreeMap<String, String>;

/// The variables of a container: those of the node and image (`base`), then `envFrom`, then `env`, each of which may
/// refer to the ones before it. Mount paths in what the pod says are translated; the node's own variables hold real paths
/// already, so each text is translated before references in it are replaced.
///
/// # Errors
/// If a Secret, a ConfigMap or a key of one is missing and not optional, or a field is not supported.
pub fn variables(
    pod: &Pod,
    container: &Container,
    base: &Variables,
    sources: &Sources,
    address: Ipv4Addr,
    mounts: &MountTable,
) -> Result<Variables, Unmet> {
    let mut variables = base.clone();
    for source in container.env_from.iter().flatten() {
        let (kind, name, optional, payload) = if let Some(reference) = &source.secret_ref {
            ("secret", &reference.name, reference.optional, sources.secrets.get(&reference.name))
        } else if let Some(reference) = &source.config_map_ref {
            ("configmap", &reference.name, reference.optional, sources.config_maps.get(&reference.name))
        } else {
            continue;
        };
        match payload {
            None if optional == Some(true) => {}
            None => return Err(Unmet::new(format!("{kind} \"{name}\" not found"))),
            Some(payload) => {
                let prefix = source.prefix.as_deref().unwrap_or_default();
                variables.extend(
                    payload.iter().map(|(key, value)| (format!("{prefix}{key}"), mounts.translate(&lossy(value)))),
                );
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = if variable.value_from.is_some() {
            referred(pod, variable, sources, address)?.map(|value| mounts.translate(&value))
        } else {
            let value = mounts.translate(variable.value.as_deref().unwrap_or_default());
            Some(expand(&value, &variables))
        };
        variables.extend(value.map(|value| (variable.name.clone(), value)));
    }
    // A value without a NUL byte and a name without `=` is what a process can be given.
    variables.retain(|name, value| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
    Ok(variables)
}

/// The container's command and arguments with mount paths translated and references to variables replaced.
#[must_use]
pub fn command(container: &Container, variables: &Variables, mounts: &MountTable) -> Vec<String> {
    let words = container.command.iter().chain(&container.args).flatten();
    words.map(|word| expand(&mounts.translate(word), variables)).collect()
}

/// The value of a variable with `valueFrom`; `None` if what it refers to is optional and not there.
fn referred(pod: &Pod, variable: &EnvVar, sources: &Sources, address: Ipv4Addr) -> Result<Option<String>, Unmet> {
    let Some(source) = &variable.value_from else {
        return Ok(None);
    };
    if let Some(reference) = &source.secret_key_ref {
        let payload = sources.secrets.get(&reference.name);
        return key("secret", &reference.name, &reference.key, reference.optional, payload);
    }
    if let Some(reference) = &source.config_map_key_ref {
        let payload = sources.config_maps.get(&reference.name);
        return key("configmap", &reference.name, &reference.key, reference.optional, payload);
    }
    if let Some(selector) = &source.field_ref {
        return downward::field(pod, address, selector).map(Some);
    }
    Err(Unmet::new(format!("the source of variable {} is not supported", variable.name)))
}

fn key(
    kind: &str,
    name: &str,
    key: &str,
    optional: Option<bool>,
    payload: Option<&Payload>,
) -> Result<Option<String>, Unmet> {
    match payload.map(|payload| payload.get(key)) {
        Some(Some(value)) => Ok(Some(lossy(value))),
        _ if optional == Some(true) => Ok(None),
        None => Err(Unmet::new(format!("{kind} \"{name}\" not found"))),
        Some(None) => Err(Unmet::new(format!("couldn't find key {key} in {kind} \"{name}\""))),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn resolve(container: Value) -> Result<(Variables, Vec<String>), Unmet> {
        let container: Container = from_value(container).unwrap();
        let pod: Pod = from_value(json!({"metadata": {"name": "a", "namespace": "n"}})).unwrap();
        let mut mounts = MountTable::default();
        mounts.insert("/data", "/n/data".into());
        let payload = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.as_bytes().to_vec())]);
        let sources = Sources {
            secrets: BTreeMap::from([("s".to_owned(), payload("password", "geheim"))]),
            config_maps: BTreeMap::from([("c".to_owned(), payload("LEVEL", "1"))]),
        };
        let base = Variables::from([("HOST".to_owned(), "h".to_owned())]);
        let variables = variables(&pod, &container, &base, &sources, Ipv4Addr::new(127, 1, 0, 10), &mounts)?;
        let command = command(&container, &variables, &mounts);
        Ok((variables, command))
    }

    #[test]
    fn later_variables_see_earlier_ones_and_mounts_are_translated() {
        let (variables, command) = resolve(json!({"name": "main",
            "command": ["run", "$(URL)"], "args": ["/data/x"],
            "envFrom": [{"prefix": "X_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "no", "optional": true}}],
            "env": [
                {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
                {"name": "URL", "value": "db://$(PASSWORD)@$(HOST)/$(LATER)"},
                {"name": "LATER", "value": "1"},
                {"name": "ABSENT", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "no", "optional": true}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "FILE", "value": "/data/f"}]}))
        .unwrap();
        assert_eq!(variables["X_LEVEL"], "1");
        assert_eq!(variables["URL"], "db://geheim@h/$(LATER)");
        assert_eq!(variables["IP"], "127.1.0.10");
        assert_eq!(variables["FILE"], "/n/data/f");
        assert!(!variables.contains_key("ABSENT"));
        assert_eq!(command, ["run", "db://geheim@h/$(LATER)", "/n/data/x"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (container, expected) in [
            (json!({"name": "m", "envFrom": [{"secretRef": {"name": "no"}}]}), "secret \"no\" not found"),
            (
                json!({"name": "m", "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]}),
                "couldn't find key k in configmap \"c\"",
            ),
        ] {
            assert_eq!(resolve(container).unwrap_err().message, expected);
        }
    }
}
