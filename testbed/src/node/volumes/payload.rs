//! Files made from a Secret, a ConfigMap or the downward API.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume};

use super::super::downward;
use super::super::pod::PodRuntime;
use super::super::sources::{Payload, Unmet, config_map, secret};
use super::files::Files;

/// Permissions of files whose volume names none.
pub(super) const DEFAULT_MODE: i32 = 0o644;

/// The files of a secret or configMap volume; `None` for volumes of other types.
pub(super) async fn content(pod: &PodRuntime, volume: &Volume) -> Result<Option<Files>, Unmet> {
    let client = &pod.node.client;
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let payload = secret(client, &pod.namespace, name).await?;
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let optional = source.optional == Some(true);
        return items("secret", name, payload, source.items.as_deref(), mode, optional).map(Some);
    }
    if let Some(source) = &volume.config_map {
        let payload = config_map(client, &pod.namespace, &source.name).await?;
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let optional = source.optional == Some(true);
        return items("configmap", &source.name, payload, source.items.as_deref(), mode, optional).map(Some);
    }
    Ok(None)
}

/// The files of a Secret or ConfigMap: all keys, or the listed ones at their paths.
pub(super) fn items(
    kind: &str,
    name: &str,
    payload: Option<Payload>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<Files, Unmet> {
    let Some(payload) = payload else {
        return if optional { Ok(Files::new()) } else { Err(Unmet::new(format!("{kind} \"{name}\" not found"))) };
    };
    let Some(items) = items else {
        return Ok(payload.into_iter().map(|(key, bytes)| (key, (bytes, bits(mode)))).collect());
    };
    let mut files = Files::new();
    for item in items {
        match payload.get(&item.key) {
            Some(bytes) => {
                files.insert(item.path.clone(), (bytes.clone(), bits(item.mode.unwrap_or(mode))));
            }
            None if optional => {}
            None => {
                let kind = if kind == "configmap" { "config" } else { kind };
                return Err(Unmet::new(format!("references non-existent {kind} key: {}", item.key)));
            }
        }
    }
    Ok(files)
}

/// The files of the downward API, as the API server projects them beside a token.
pub(super) fn fields(pod: &PodRuntime, items: &[DownwardAPIVolumeFile], mode: i32) -> Result<Files, Unmet> {
    let object = pod.object();
    let mut files = Files::new();
    for item in items {
        let Some(selector) = &item.field_ref else { continue };
        let text = downward::field(&object, pod.address, selector)?;
        files.insert(item.path.clone(), (text.into_bytes(), bits(item.mode.unwrap_or(mode))));
    }
    Ok(files)
}

/// Permission bits. The owner may always read: the node has no user of its own for a container.
pub(super) fn bits(mode: i32) -> u32 {
    u32::try_from(mode & 0o777).unwrap_or_default() | 0o400
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn item(key: &str, path: &str) -> KeyToPath {
        KeyToPath { key: key.into(), path: path.into(), mode: None }
    }

    #[test]
    fn listed_keys_only_and_missing_ones_are_named() {
        let payload = || Some(BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]));
        let files = items("secret", "s", payload(), Some(&[item("a", "sub/a")]), 0o400, false).unwrap();
        assert_eq!(files, Files::from([("sub/a".to_owned(), (b"1".to_vec(), 0o400))]));
        let missing = items("secret", "s", payload(), Some(&[item("c", "c")]), 0o400, false).unwrap_err();
        assert_eq!(missing.message, "references non-existent secret key: c");
        assert_eq!(items("secret", "s", None, None, 0o400, true), Ok(Files::new()));
        assert_eq!(items("secret", "s", None, None, 0o400, false).unwrap_err().message, "secret \"s\" not found");
    }
}
