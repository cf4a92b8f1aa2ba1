//! The kinds that a chart's own definitions (`crds/`) would bring: helm applies those before everything else when it installs, which
//! a rehearsal cannot. It is told of the kinds all the same, so that it can go on.

use serde_json::{Map, Value, json};

/// What is done with objects of such a kind.
const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// A kind that a definition brings, in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    group: String,
    version: String,
    plural: String,
    singular: String,
    kind: String,
    namespaced: bool,
}

/// The kinds of these definitions, in all versions that are served.
pub fn brought(definitions: &[Value]) -> Vec<Brought> {
    let of = |definition: &Value| {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = Brought {
            group: text(&spec["group"]),
            version: String::new(),
            plural: text(&spec["names"]["plural"]),
            singular: text(&spec["names"]["singular"]),
            kind: text(&spec["names"]["kind"]),
            namespaced: spec["scope"] != "Cluster",
        };
        let versions = spec["versions"].as_array().cloned().unwrap_or_default();
        let served = versions.into_iter().filter(|version| version["served"] == true);
        let served: Vec<String> = served.map(|version| text(&version["name"])).collect();
        served.into_iter().map(move |version| Brought { version, ..kind.clone() })
    };
    definitions.iter().filter(|definition| definition["kind"] == "CustomResourceDefinition").flat_map(of).collect()
}

impl Brought {
    fn resource(&self) -> Value {
        json!({
            "name": self.plural, "singularName": self.singular, "namespaced": self.namespaced, "kind": self.kind,
            "verbs": VERBS,
        })
    }

    fn discovered(&self) -> Value {
        json!({
            "resource": self.plural, "singularResource": self.singular, "verbs": VERBS,
            "scope": if self.namespaced { "Namespaced" } else { "Cluster" },
            "responseKind": {"group": self.group, "version": self.version, "kind": self.kind},
        })
    }

    fn group_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }
}

/// What the API server would answer about its kinds if it had these as well; none if nothing is to be added. `answer` is null if it
/// has no such group or version.
pub fn extended(path: &str, answer: &Value, brought: &[Brought]) -> Option<Value> {
    let mut answer = answer.clone();
    match answer["kind"].as_str() {
        Some("APIGroupList") => {
            for kind in brought {
                let version = json!({"groupVersion": kind.group_version(), "version": kind.version});
                let group = item(
                    &mut answer["groups"],
                    |group| group["name"] == kind.group.as_str(),
                    || json!({"name": kind.group, "versions": [], "preferredVersion": version}),
                )?;
                item(&mut group["versions"], |known| known["version"] == kind.version.as_str(), || version.clone())?;
            }
        }
        Some("APIGroupDiscoveryList") => {
            for kind in brought {
                let group = item(
                    &mut answer["items"],
                    |group| group["metadata"]["name"] == kind.group.as_str(),
                    || json!({"metadata": {"name": kind.group, "creationTimestamp": null}, "versions": []}),
                )?;
                let version = item(
                    &mut group["versions"],
                    |known| known["version"] == kind.version.as_str(),
                    || json!({"version": kind.version, "resources": [], "freshness": "Current"}),
                )?;
                let known = |resource: &Value| resource["resource"] == kind.plural.as_str();
                item(&mut version["resources"], known, || kind.discovered())?;
            }
        }
        _ => {
            let here = brought.iter().filter(|kind| path == format!("/apis/{}", kind.group_version()));
            for kind in here {
                if answer.is_null() {
                    answer =
                        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": kind.group_version()});
                }
                if answer["resources"].is_null() {
                    answer["resources"] = json!([]);
                }
                item(&mut answer["resources"], |known| known["name"] == kind.plural.as_str(), || kind.resource())?;
            }
        }
    }
    (!answer.is_null()).then_some(answer)
}

/// The item of a list for which something is true; made if there is none. None if it is no list.
fn item(list: &mut Value, is: impl Fn(&Value) -> bool, new: impl FnOnce() -> Value) -> Option<&mut Value> {
    let items = list.as_array_mut()?;
    let at = items.iter().position(is).unwrap_or(items.len());
    if at == items.len() {
        items.push(new());
    }
    items.get_mut(at).filter(|item| item.as_object().is_some_and(|item: &Map<String, Value>| !item.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> Vec<Brought> {
        brought(&[
            json!({"kind": "ConfigMap"}),
            json!({
                "kind": "CustomResourceDefinition",
                "spec": {
                    "group": "example.com", "scope": "Namespaced",
                    "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
                    "versions": [{"name": "v1", "served": true}, {"name": "v1beta1", "served": false}],
                },
            }),
        ])
    }

    #[test]
    fn groups_and_versions_are_added_once() {
        let list = json!({"kind": "APIGroupList", "groups": [{"name": "apps", "versions": []}]});
        let extended = |answer: &Value| extended("/apis", answer, &kinds()).unwrap();
        let once = extended(&list);
        assert_eq!(once["groups"][1]["name"], "example.com");
        assert_eq!(once["groups"][1]["versions"], json!([{"groupVersion": "example.com/v1", "version": "v1"}]));
        assert_eq!(extended(&once), once);
        let list =
            json!({"kind": "APIGroupDiscoveryList", "items": [{"metadata": {"name": "example.com"}, "versions": []}]});
        let once = extended(&list);
        assert_eq!(once["items"][0]["versions"][0]["resources"][0]["responseKind"]["kind"], "Widget");
        assert_eq!(extended(&once), once);
    }

    #[test]
    fn a_group_that_the_server_does_not_have_is_answered() {
        let found = extended("/apis/example.com/v1", &Value::Null, &kinds()).unwrap();
        assert_eq!(
            (found["resources"][0]["name"].as_str(), found["resources"][0]["namespaced"].as_bool()),
            (Some("widgets"), Some(true))
        );
        assert_eq!(extended("/apis/example.com/v1beta1", &Value::Null, &kinds()), None, "it is not served");
        assert_eq!(extended("/apis/other.example.com/v1", &Value::Null, &kinds()), None);
    }
}
