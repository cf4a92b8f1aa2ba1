//! Pods as the workloads of a manifest describe them.

use serde_json::Value;

use crate::core::helm::documents::Documents;
use crate::core::object::{KindName, pod_spec};
use crate::core::rollout::workload::SERVERS;

/// A workload with the template of its pods.
#[derive(Clone, Debug)]
pub struct Template<'a> {
    /// The workload.
    pub object: KindName,
    /// Its spec.
    pub spec: &'a Value,
    /// Spec of its pods.
    pub pod: &'a Value,
}

/// The Deployments, `StatefulSets` and `DaemonSets` of a manifest.
pub fn templates(documents: &Documents) -> impl Iterator<Item = Template<'_>> {
    let workloads = documents
        .objects()
        .filter(|(name, _)| matches!(name.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet"));
    workloads.map(|(name, object)| Template { object: name.kind_name(), spec: &object["spec"], pod: pod_spec(object) })
}

impl<'a> Template<'a> {
    /// Kind of the workload.
    pub fn kind(&self) -> &str {
        &self.object.kind
    }

    /// The containers that run together.
    pub fn containers(&self) -> &'a [Value] {
        list(&self.pod["containers"])
    }

    /// Init containers and containers, each with the name of its list.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'a Value)> {
        let init = list(&self.pod["initContainers"]).iter().map(|container| ("initContainers", container));
        init.chain(self.containers().iter().map(|container| ("containers", container)))
    }

    /// The container of Coder's API server, if this workload runs it. A workspace proxy of Coder v2 comes from the same
    /// chart; it is no such server.
    pub fn server(&self) -> Option<&'a Value> {
        let proxy = |container: &Value| {
            let words = ["command", "args"].into_iter().flat_map(|key| list(&container[key]));
            words.into_iter().any(|word| word == "wsproxy")
        };
        self.containers().iter().find(|container| {
            container["name"].as_str().is_some_and(|name| SERVERS.contains(&name)) && !proxy(container)
        })
    }

    /// Number of pods; one if the manifest leaves it to the server.
    pub fn replicas(&self) -> i64 {
        self.spec["replicas"].as_i64().unwrap_or(1)
    }

    /// Path of a field of a container, as in `spec.template.spec.containers[coder].env`.
    pub fn field(section: &str, container: &Value, field: &str) -> String {
        format!("spec.template.spec.{section}[{}].{field}", container["name"].as_str().unwrap_or_default())
    }
}

/// The items of a list; none if it is not there.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// How a container learns a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VariableSource {
    /// It stands in the manifest.
    Value(String),
    /// It is read from an object when the pod starts, as in "key url of Secret/coder-db-url".
    Object(String),
}

/// How a container learns a variable that its `env` names; of several of that name the last counts. An empty value is none.
pub fn variable(container: &Value, name: &str) -> Option<VariableSource> {
    let entry = list(&container["env"]).iter().rev().find(|entry| entry["name"] == name)?;
    for (reference, kind) in [("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")] {
        let source = &entry["valueFrom"][reference];
        if let (Some(object), Some(key)) = (source["name"].as_str(), source["key"].as_str()) {
            return Some(VariableSource::Object(format!("key {key} of {kind}/{object}")));
        }
    }
    let value = entry["value"].as_str().filter(|value| !value.is_empty());
    value.map(|value| VariableSource::Value(value.to_owned()))
}

/// The Secrets and `ConfigMaps` from which a container takes its whole environment, each with its prefix.
pub fn environments(container: &Value) -> Vec<(KindName, String)> {
    let sources = list(&container["envFrom"]).iter();
    let named = sources.filter_map(|source| {
        let object = |kind: &str, key: &str| Some(KindName::new(kind, source[key]["name"].as_str()?));
        let object = object("Secret", "secretRef").or_else(|| object("ConfigMap", "configMapRef"))?;
        Some((object, source["prefix"].as_str().unwrap_or_default().to_owned()))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::plan::checks::sample;

    #[test]
    fn variables_have_a_source() {
        let container = json!({"env": [
            {"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "E", "value": ""},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}},
        ], "envFrom": [{"secretRef": {"name": "all"}, "prefix": "P_"}, {"configMapRef": {"name": "more"}}, {}]});
        assert_eq!(variable(&container, "A"), Some(VariableSource::Value("2".into())));
        assert_eq!((variable(&container, "E"), variable(&container, "X")), (None, None));
        assert_eq!(variable(&container, "S"), Some(VariableSource::Object("key url of Secret/db".into())));
        let from = environments(&container);
        assert_eq!(
            from,
            [(KindName::new("Secret", "all"), "P_".into()), (KindName::new("ConfigMap", "more"), String::new())]
        );
    }

    #[test]
    fn a_workspace_proxy_is_no_server() {
        let of =
            |args: &[&str]| sample::documents(&[sample::deployment("coder", &json!({"name": "coder", "args": args}))]);
        assert!(templates(&of(&["server"])).next().unwrap().server().is_some());
        assert!(templates(&of(&["wsproxy", "server"])).next().unwrap().server().is_none());
    }
}
