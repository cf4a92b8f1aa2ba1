//! The manifests and values that the documents show are accepted.

use std::path::{Path, PathBuf};

use indoc::indoc;
use serde_json::{Value, json};
use testbed::components::Component;

use super::packages::printed;
use crate::common::{World, copy, files};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The blocks of YAML in a text, without the indentation of the list that they stand in.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((indentation, "")) = line.split_once("```yaml").filter(|(before, _)| before.trim().is_empty()) else {
            continue;
        };
        let end = format!("{indentation}```");
        let block = lines.by_ref().take_while(|line| *line != end);
        let block: Vec<_> = block.map(|line| line.strip_prefix(indentation).unwrap_or(line)).collect();
        blocks.push(block.join("\n") + "\n");
    }
    blocks
}

/// The CoderUpgrades of a block: whole ones, or those of which it shows the spec.
fn upgrades(block: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(block).unwrap_or_default();
    let whole = |document: Value| {
        if document["kind"] == "CoderUpgrade" {
            return Some(document);
        }
        let spec = document.get("spec").filter(|_| document.as_object().is_some_and(|object| object.len() == 1))?;
        Some(json!({
            "apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": {"name": "shown"}, "spec": spec,
        }))
    };
    documents.into_iter().filter_map(whole).collect()
}

/// Every block of YAML with the file in which it stands.
fn shown() -> Vec<(PathBuf, String)> {
    let mut paths = files(&root().join("docs"));
    paths.push(root().join("README.md"));
    let of = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        blocks(&text).into_iter().map(move |block| (path.clone(), block)).collect::<Vec<_>>()
    };
    paths.into_iter().flat_map(of).collect()
}

#[tokio::test]
async fn every_coderupgrade_that_is_shown_is_accepted() {
    let world = World::new("shown-manifests").await;
    let samples = files(&root().join("deploy/samples")).into_iter();
    let samples = samples.map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()));
    let mut count = 0;
    for (path, block) in shown().into_iter().chain(samples) {
        for mut upgrade in upgrades(&block) {
            upgrade["metadata"]["namespace"] = json!(world.namespace);
            let arguments = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
            let applied = world.cluster.kubectl_with_input(&arguments, &upgrade.to_string()).await;
            assert!(applied.is_ok(), "{} shows\n{block}\n{applied:?}", path.display());
            count += 1;
        }
    }
    assert!(count > 15, "{count} were found");
    world.finish().await;
}

/// The block in `docs/networks.md` with this in it.
fn of_networks(part: &str) -> String {
    let text = std::fs::read_to_string(root().join("docs/networks.md")).unwrap();
    blocks(&text).into_iter().find(|block| block.contains(part)).unwrap()
}

#[test]
fn the_kustomization_with_certificates_of_a_company_mounts_them() {
    let text = of_networks("kind: Kustomization");
    // Beside the others, as the page has it, yet not among the files of the repository.
    let directory = tempfile::tempdir().unwrap();
    for name in ["crds", "deploy"] {
        copy(&root().join(name), &directory.path().join(name));
    }
    let company = directory.path().join("deploy/company");
    std::fs::create_dir(&company).unwrap();
    std::fs::write(company.join("kustomization.yaml"), text).unwrap();
    let rendered = printed(Component::Kubectl, &["kustomize", company.to_str().unwrap()]);
    let objects: Vec<Value> = serde_saphyr::from_multiple(&rendered).unwrap();
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let has = |list: &Value, wanted: Value| list.as_array().unwrap().contains(&wanted);
    assert!(has(&container["env"], json!({"name": "RUNNER_CA_FILE", "value": "/etc/company/ca.pem"})), "{container}");
    assert!(has(&container["volumeMounts"], json!({"name": "company-ca", "mountPath": "/etc/company"})), "{container}");
    assert!(container["env"].as_array().unwrap().len() > 5, "the other variables stay: {container}");
}

#[test]
fn the_values_with_a_proxy_fit_the_chart() {
    let values = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(values.path(), of_networks("HTTPS_PROXY")).unwrap();
    let chart = root().join("deploy/chart");
    let arguments = ["template", "any-name", chart.to_str().unwrap(), "--values", values.path().to_str().unwrap()];
    let rendered = printed(Component::Helm, &arguments);
    assert!(rendered.contains("name: HTTPS_PROXY") && rendered.contains("http://proxy.example.com:3128"), "{rendered}");
}

#[test]
fn blocks_are_found_in_lists_too() {
    let text = indoc! {"
        ```yaml
        a: 1
        ```

        1. List:

           ```yaml
           spec:
             version: 1.0.0
           ```

        ```text
        b: 2
        ```
    "};
    assert_eq!(blocks(text), ["a: 1\n", "spec:\n  version: 1.0.0\n"]);
    assert!(upgrades("a: 1\n").is_empty());
    assert_eq!(upgrades("spec:\n  version: 1.0.0\n")[0]["spec"]["version"], "1.0.0");
}
