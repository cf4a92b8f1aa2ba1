//! Whether any node could take the new pods, if the runner may look at nodes.

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use serde_json::Value;

use super::pods::{Template, templates};
use super::resources::of_pod;
use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding};
use crate::core::text::quantity;

/// [`CheckName::Schedulable`]; a warning, because an autoscaler may bring nodes that are not there yet.
pub fn check(_: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let Some(nodes) = &foreseen.surroundings.nodes else { return Vec::new() };
    let limits = foreseen.surroundings.limits.as_deref().unwrap_or_default();
    let finding = |template: Template<'_>| {
        let asked = of_pod(&template, limits);
        let chosen: Vec<&Node> = nodes.iter().filter(|node| chosen(node, &template.pod["nodeSelector"])).collect();
        if chosen.is_empty() {
            let message = format!("no node has the labels that {} asks for in its nodeSelector", template.object);
            let next = "Correct the nodeSelector in the values, or label a node.";
            let warning = Finding::warning(CheckName::Schedulable, message, next);
            return Some(warning.about(&template.object).at("spec.template.spec.nodeSelector"));
        }
        let fits = |node: &&Node| {
            ["cpu", "memory"]
                .iter()
                .all(|key| room(node, key) >= asked.get(format!("requests.{key}").as_str()).copied())
        };
        if chosen.iter().any(fits) {
            return None;
        }
        let message = format!("a pod of {} requests more than any node has, even an empty one", template.object);
        let next = "Lower the requests in the values (coder.resources), or add a larger node.";
        let warning = Finding::warning(CheckName::Schedulable, message, next);
        Some(warning.about(&template.object).at("spec.template.spec.containers"))
    };
    templates(&foreseen.new).filter(|template| template.replicas() > 0).filter_map(finding).collect()
}

fn chosen(node: &Node, selector: &Value) -> bool {
    let open = !node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default();
    let mut wanted = selector.as_object().into_iter().flatten();
    open && wanted.all(|(key, value)| node.labels().get(key).map(String::as_str) == value.as_str())
}

/// What a node has of a resource; nothing if it does not say.
fn room(node: &Node, key: &str) -> Option<i128> {
    quantity::parse(&node.status.as_ref()?.allocatable.as_ref()?.get(key)?.0)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case::fits("2", json!({}), None)]
    #[case::too_large("3", json!({}), Some("spec.template.spec.containers"))]
    #[case::labelled("1", json!({"disk": "ssd"}), None)]
    #[case::not_labelled("1", json!({"disk": "tape"}), Some("spec.template.spec.nodeSelector"))]
    fn a_pod_finds_a_node(#[case] cpu: &str, #[case] selector: Value, #[case] expected: Option<&str>) {
        let container = json!({"name": "coder", "resources": {"requests": {"cpu": cpu}}});
        let mut deployment = sample::deployment("coder", &container);
        deployment["spec"]["template"]["spec"]["nodeSelector"] = selector;
        let node = json!({
            "metadata": {"name": "a", "labels": {"disk": "ssd"}},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi"}},
        });
        let mut foreseen = sample::foreseen();
        foreseen.new = sample::documents(&[deployment]);
        let facts = sample::facts("2.30.0", "2.31.7");
        assert!(check(&facts, &foreseen).is_empty(), "nodes that nobody may look at are no reason");
        foreseen.surroundings.nodes = Some(vec![serde_json::from_value(node).unwrap()]);
        let found = check(&facts, &foreseen);
        assert_eq!(found.first().and_then(|finding| finding.field.as_deref()), expected, "{found:?}");
    }
}
