//! The Helm chart and the kustomizations are the same objects.

use std::path::{Path, PathBuf};
use std::process::Command;

use rstest::rstest;
use serde_json::{Value, json};
use testbed::components::Component;

use crate::common::{World, program};

const NAMESPACE: &str = "coder-upgrade-operator";

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

pub fn printed(component: Component, arguments: &[&str]) -> String {
    let output = Command::new(program(component)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The objects of a manifest in the order of their names, without what tells who applies them.
fn objects(manifest: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(manifest).unwrap();
    // Whoever installs the chart has made the namespace (helm install --create-namespace).
    objects.retain(|object| object.is_object() && object["kind"] != "Namespace");
    for object in &mut objects {
        let crd = object["kind"] == "CustomResourceDefinition";
        let metadata = object["metadata"].as_object_mut().unwrap();
        if crd {
            metadata.remove("labels");
            metadata.remove("annotations");
        }
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.retain(|key, _| key != "app.kubernetes.io/managed-by" && key != "helm.sh/chart");
        }
        // Their order means nothing.
        if let Some(env) = object.pointer_mut("/spec/template/spec/containers/0/env").and_then(Value::as_array_mut) {
            env.sort_by_key(|variable| variable["name"].as_str().unwrap().to_owned());
        }
    }
    objects.sort_by_key(|object| format!("{} {}", object["kind"], object["metadata"]["name"]));
    objects
}

fn kustomized(directory: &str) -> Vec<Value> {
    objects(&printed(Component::Kubectl, &["kustomize", deploy(directory).to_str().unwrap()]))
}

fn charted(settings: &[&str]) -> Vec<Value> {
    let chart = deploy("chart");
    let mut arguments = vec!["template", "any-name", chart.to_str().unwrap(), "--namespace", NAMESPACE];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    objects(&printed(Component::Helm, &arguments))
}

#[rstest]
#[case::all_namespaces("default", &[])]
#[case::one_namespace("one-namespace", &["watchNamespace=coder"])]
#[case::air_gapped("air-gapped", &[
    "image.repository=registry.example.com/coder/coder-upgrade-operator",
    "allowed.repositories={archives,oci://registry.example.com/coder}",
])]
fn the_chart_and_the_kustomization_are_the_same(#[case] directory: &str, #[case] settings: &[&str]) {
    let (charted, kustomized) = (charted(settings), kustomized(directory));
    let names = |objects: &[Value]| -> Vec<String> {
        objects.iter().map(|object| format!("{}/{}", object["kind"], object["metadata"]["name"])).collect()
    };
    assert_eq!(names(&charted), names(&kustomized));
    for (charted, kustomized) in charted.iter().zip(&kustomized) {
        assert_eq!(charted, kustomized);
    }
}

#[rstest]
#[case::unknown("replicaCount=1", "replicaCount")]
#[case::a_variable_of_a_value(
    "env[0].name=ALLOWED_REPOSITORIES,env[0].value=*",
    "env: ALLOWED_REPOSITORIES is set by the value allowed.repositories; remove it from env"
)]
#[case::a_variable_of_the_chart("env[0].name=POD_NAME,env[0].value=x", "env: POD_NAME is set by the chart")]
fn a_value_that_cannot_count_is_refused_by_name(#[case] setting: &str, #[case] words: &str) {
    let chart = deploy("chart");
    let arguments = ["template", "any-name", chart.to_str().unwrap(), "--set", setting];
    let output = Command::new(program(Component::Helm)).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(words), "{said}");
}

/// Every object that the chart of the operator leaves when it goes.
#[tokio::test]
async fn uninstalling_the_operator_leaves_the_definition_and_every_upgrade() {
    let world = World::new("uninstalled-operator").await;
    let upgrade = world.declare("kept", json!({"version": "2.31.7", "suspend": true})).await;
    let chart = deploy("chart");
    // The cluster of the tests has a controller already, and the definition belongs to it.
    let settings = "replicas=0,watchNamespace=nobody,crd.enabled=false";
    let arguments =
        ["install", "operator", chart.to_str().unwrap(), "--namespace", &world.namespace, "--set", settings];
    world.kubectl(&["create", "namespace", "nobody"]).await;
    world.cluster.helm(&arguments).await.unwrap();
    world.cluster.helm(&["uninstall", "operator", "--namespace", &world.namespace, "--wait"]).await.unwrap();
    world.kubectl(&["delete", "namespace", "nobody", "--wait=false"]).await;
    assert_eq!(world.get("kept").await.metadata.uid, upgrade.metadata.uid);
    let definition = charted(&["crd.enabled=true"]).into_iter().find(|o| o["kind"] == "CustomResourceDefinition");
    assert!(definition.is_some());
    let text = printed(Component::Helm, &["template", "any-name", chart.to_str().unwrap()]);
    let kept = text.split("\n---\n").find(|object| object.contains("kind: CustomResourceDefinition")).unwrap();
    assert!(kept.contains("helm.sh/resource-policy: keep"), "it goes only by hand");
    world.finish().await;
}
