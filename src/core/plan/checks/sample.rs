//! Facts for the tests of the checks.

use semver::Version;
use serde_json::{Map, Value, json};

use super::{Facts, Foreseen, Surroundings};
use crate::api::{CoderUpgradeSpec, Finding, Installed};
use crate::core::helm::chart::ChartMetadata;
use crate::core::helm::documents::Documents;
use crate::core::helm::version;
use crate::core::plan::rehearsal::Rehearsal;
use crate::core::rollout::inventory::Answer;
use crate::core::rollout::workload::PodFacts;

/// An upgrade from one version to another of which nothing else is known.
pub fn facts(from: &str, to: &str) -> Facts {
    let installed = Installed {
        version: from.into(),
        app_version: None,
        revision: 1,
        status: "deployed".into(),
        line: version::product_line(&version::parse(from).unwrap()),
    };
    Facts {
        spec: CoderUpgradeSpec::default(),
        namespace: "ns".into(),
        upgrade: "coder".into(),
        chart: ChartMetadata {
            name: "coder".into(),
            version: to.into(),
            app_version: Some(format!("v{to}")),
            ..ChartMetadata::default()
        },
        path: vec![],
        installed: Some(installed.clone()),
        newest: Some(installed),
        old: documents(&[]),
        kept: Map::new(),
        answers: vec![],
        unanswered: vec![],
        pods: vec![],
        marks: vec![],
        lost_nulls: Vec::new(),
        installed_coder: None,
        highest_started: None,
        kubernetes: Some(Version::new(1, 35, 4)),
    }
}

/// A rehearsal in which nothing happens.
pub fn foreseen() -> Foreseen {
    Foreseen {
        values: Map::new(),
        old_defaults: Value::Null,
        defaults: Value::Null,
        new: documents(&[]),
        rehearsal: Rehearsal::default(),
        claims: vec![],
        exposures: vec![],
        marks: vec![],
        rendered: None,
        kept: vec![],
        helm_waits_for_all: true,
        surroundings: Surroundings::default(),
    }
}

/// The same, with what a pod answers and which image it runs.
pub fn running(from: &str, to: &str, answers: Option<&str>, image: Option<&str>) -> Facts {
    Facts {
        answers: answers.map(|version| answer("coder-1", version)).into_iter().collect(),
        pods: image.map(|image| pod("coder-1", "coder", image)).into_iter().collect(),
        ..facts(from, to)
    }
}

/// Asserts that there is one finding that says this, or none.
pub fn finds(found: &[Finding], expected: Option<&str>) {
    assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
    assert!(found.iter().all(|finding| finding.message.contains(expected.unwrap_or_default())), "{found:?}");
}

/// A manifest of these objects.
pub fn documents(objects: &[Value]) -> Documents {
    let text: Vec<String> = objects.iter().map(|object| format!("---\n{object}\n")).collect();
    Documents::parse(&text.concat(), "ns").unwrap()
}

/// A Deployment of one container.
pub fn deployment(name: &str, container: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"template": {"spec": {"containers": [container]}}},
    })
}

/// What a server answers.
pub fn answer(pod: &str, version: &str) -> Answer {
    Answer { pod: pod.into(), version: version.into(), ..Answer::default() }
}

/// A pod of one container.
pub fn pod(name: &str, container: &str, image: &str) -> PodFacts {
    PodFacts { name: name.into(), images: vec![(container.into(), image.into())], ..PodFacts::default() }
}

/// Values.
pub fn map(values: &Value) -> Map<String, Value> {
    values.as_object().unwrap().clone()
}
