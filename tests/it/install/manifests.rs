//! What `deploy/` promises: samples that are valid, rights that suffice, and none that go too far.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use coder_upgrade_operator::api::CoderUpgrade;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use serde::de::DeserializeOwned;
use serde_json::Value;
use testbed::charts::charts_dir;
use testbed::components::{Component, ensure};

/// API group, resource, verb.
type Right = (String, String, String);

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// The first object of a kind in a file.
fn object<T: DeserializeOwned>(path: &str, kind: &str) -> T {
    let text = std::fs::read_to_string(deploy(path)).unwrap();
    let found = documents(&text).into_iter().find(|document| document["kind"] == kind).unwrap();
    serde_json::from_value(found).unwrap()
}

fn rights(rules: Option<Vec<PolicyRule>>) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules.unwrap_or_default() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                rights.extend(rule.verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
            }
        }
    }
    rights
}

/// The test charts, which ask for what the public ones ask for.
const CHARTS: [&str; 4] = ["coder-v1", "coder-v2", "coder-classic", "coder-provisioner"];

/// Whether the right, or every verb on its resource, is among these.
fn holds(rights: &BTreeSet<Right>, (group, resource, verb): &Right) -> bool {
    [verb, "*"].iter().any(|verb| rights.contains(&(group.clone(), resource.clone(), (*verb).to_owned())))
}

fn runner() -> BTreeSet<Right> {
    rights(object::<Role>("runner/role.yaml", "Role").rules)
}

/// The objects that a test chart renders, with everything optional in it.
fn rendered(chart: &str) -> Vec<Value> {
    let binaries = ensure(&[Component::Helm], &|_| {}).unwrap();
    let output = Command::new(binaries.get(Component::Helm).unwrap())
        .args(["template", "coder", "--set", "coder.ingress.enable=true,coder.ingress.host=coder.example.com"])
        .arg(charts_dir().join(chart))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8(output.stdout).unwrap()).into_iter().filter(Value::is_object).collect()
}

#[test]
fn every_sample_is_valid() {
    let samples: Vec<_> = std::fs::read_dir(deploy("samples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!samples.is_empty());
    for sample in samples {
        let text = std::fs::read_to_string(&sample).unwrap();
        let parsed: Result<CoderUpgrade, _> = serde_saphyr::from_str(&text);
        assert!(parsed.is_ok(), "{}: {}", sample.display(), parsed.unwrap_err());
    }
}

#[test]
fn the_runner_has_every_right_that_the_charts_grant() {
    let runner = runner();
    for chart in CHARTS {
        for role in rendered(chart).into_iter().filter(|object| object["kind"] == "Role") {
            let role: Role = serde_json::from_value(role).unwrap();
            let missing: Vec<_> = rights(role.rules).into_iter().filter(|right| !holds(&runner, right)).collect();
            assert!(missing.is_empty(), "{chart}, Role {:?}: {missing:?}", role.metadata.name);
        }
    }
}

#[test]
fn the_runner_may_manage_every_kind_in_the_charts() {
    let runner = runner();
    for chart in CHARTS {
        for object in rendered(chart) {
            let (api_version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
            let group = api_version.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
            let plural = if kind.ends_with("Policy") {
                "ies"
            } else if kind.ends_with('s') {
                "es"
            } else {
                "s"
            };
            let resource = format!("{}{plural}", kind.trim_end_matches('y').to_lowercase());
            for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
                let right = (group.clone(), resource.clone(), verb.to_owned());
                assert!(holds(&runner, &right), "{chart} has a {kind}: {right:?}");
            }
        }
    }
}

#[test]
fn the_controller_neither_reads_secrets_nor_executes_nor_grants() {
    let rights = rights(object::<ClusterRole>("controller/cluster-role.yaml", "ClusterRole").rules);
    for (group, resource, verb) in rights {
        assert!(group != "rbac.authorization.k8s.io", "{resource}");
        assert!(!["secrets", "pods/exec", "pods/attach", "serviceaccounts/token"].contains(&resource.as_str()));
        assert!(![&group, &resource, &verb].contains(&&"*".to_owned()), "{group} {resource} {verb}");
    }
}
