//! The SBOM, in the JSON form of `CycloneDX` 1.6: the crates that the program is built from, and the Go modules in its helm.
//!
//! Neither a time nor a number at random stands in it, so that the same sources give the same document.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::IMAGE;
use crate::{Result, cargo};

/// What the image runs on.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"];

/// The document.
pub fn document(root: &Path, version: &str, helm: &Path) -> Result<Value> {
    let mut metadata = Vec::new();
    for target in TARGETS {
        metadata.push(metadata_of(root, target)?);
    }
    let checksums = checksums(&std::fs::read_to_string(root.join("Cargo.lock"))?);
    let crates = crates(&metadata, &checksums)?;
    let modules = go_modules(&printed(Command::new("go").arg("version").arg("-m").arg(helm))?);
    Ok(bom(version, crates, modules))
}

/// Everything that `cargo metadata` knows about one platform.
fn metadata_of(root: &Path, target: &str) -> Result<Value> {
    let arguments = ["metadata", "--locked", "--format-version", "1", "--filter-platform", target];
    let mut command = Command::new(cargo::path());
    Ok(serde_json::from_str(&printed(command.args(arguments).current_dir(root))?)?)
}

/// What a program prints.
fn printed(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The SHA-256 of each crate in a Cargo.lock, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")));
        line.and_then(|value| value.strip_suffix('"')).map(ToOwned::to_owned)
    };
    let known =
        |package: &str| Some(((field(package, "name")?, field(package, "version")?), field(package, "checksum")?));
    lock.split("[[package]]").filter_map(known).collect()
}

/// A component with those that it depends on, by its address (purl).
type Components = BTreeMap<String, (Value, BTreeSet<String>)>;

/// The crates that the program is built from: all that its normal and build dependencies lead to, on any of the platforms.
fn crates(metadata: &[Value], checksums: &BTreeMap<(String, String), String>) -> Result<Components> {
    let mut components = Components::new();
    for metadata in metadata {
        let by_id = |list: &Value| -> BTreeMap<String, Value> {
            let items = list.as_array().cloned().unwrap_or_default();
            items.into_iter().filter_map(|item| Some((item["id"].as_str()?.to_owned(), item))).collect()
        };
        let (packages, nodes) = (by_id(&metadata["packages"]), by_id(&metadata["resolve"]["nodes"]));
        let root = packages.iter().find(|(_, package)| package["name"] == IMAGE);
        let (root, _) = root.ok_or("cargo metadata does not know the operator")?;
        let mut waiting = vec![root.clone()];
        let mut seen = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            if !seen.insert(id.clone()) {
                continue;
            }
            let (package, node) = packages.get(&id).zip(nodes.get(&id)).ok_or_else(|| format!("{id} is unknown"))?;
            let needed: Vec<&str> = needed(node).collect();
            let component = described(package, checksums);
            let (_, dependencies) = components.entry(address(package)).or_insert_with(|| (component, BTreeSet::new()));
            dependencies.extend(needed.iter().filter_map(|id| packages.get(*id)).map(address));
            waiting.extend(needed.iter().map(|id| (*id).to_owned()));
        }
    }
    Ok(components)
}

/// What a crate needs, its tests aside.
fn needed(node: &Value) -> impl Iterator<Item = &str> {
    let of = |field: &Value| field.as_array().map(Vec::as_slice).unwrap_or_default().to_vec();
    let is_needed = move |dependency: &&Value| of(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
    let dependencies = node["deps"].as_array().map(Vec::as_slice).unwrap_or_default();
    dependencies.iter().filter(is_needed).filter_map(|dependency| dependency["pkg"].as_str())
}

fn address(package: &Value) -> String {
    let word = |field: &str| package[field].as_str().unwrap_or_default();
    // A plus sign means a space to some readers of addresses.
    format!("pkg:cargo/{}@{}", word("name"), word("version").replace('+', "%2B"))
}

fn described(package: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let word = |field: &str| package[field].as_str().unwrap_or_default().to_owned();
    let mut component = json!({
        "type": "library",
        "bom-ref": address(package),
        "name": word("name"),
        "version": word("version"),
        "purl": address(package),
    });
    let licence = package["license"].as_str().map(|licence| licence.replace('/', " OR ").replace("  ", " "));
    if let Some(licence) = licence {
        component["licenses"] = json!([{"expression": licence}]);
    }
    if let Some(checksum) = checksums.get(&(word("name"), word("version"))) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    component
}

/// The modules that `go version -m` prints of a program: name and version, the program's own first.
fn go_modules(text: &str) -> Vec<(String, String)> {
    let mut modules: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["mod" | "dep", name, version, ..] => modules.push(((*name).to_owned(), (*version).to_owned())),
            // The one before is replaced by this one.
            ["=>", name, version, ..] => {
                modules.pop();
                modules.push(((*name).to_owned(), (*version).to_owned()));
            }
            _ => {}
        }
    }
    modules
}

/// The document: the image holds the program and helm, each with what it is built from.
fn bom(version: &str, crates: Components, modules: Vec<(String, String)>) -> Value {
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    let mut linked = BTreeSet::new();
    let mut helm = None;
    for (name, version) in modules {
        let address = format!("pkg:golang/{name}@{}", version.replace('+', "%2B"));
        let is_helm = name.starts_with("helm.sh/helm/");
        let kind = if is_helm { "application" } else { "library" };
        let component = json!({
            "type": kind, "bom-ref": address, "name": name, "version": version, "purl": address,
        });
        // The module that pins helm is ours, and has no version.
        if version == "(devel)" {
            continue;
        }
        if is_helm {
            helm = Some(address);
            components.push(component);
        } else if linked.insert(address) {
            components.push(component);
        }
    }
    let program = format!("pkg:cargo/{IMAGE}@{version}");
    let image = format!("{IMAGE}:v{version}");
    dependencies.push(json!({"ref": image, "dependsOn": [Some(program), helm.clone()]}));
    dependencies.extend(helm.map(|helm| json!({"ref": helm, "dependsOn": linked})));
    for (address, (component, needs)) in crates {
        components.push(component);
        dependencies.push(json!({"ref": address, "dependsOn": needs}));
    }
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": image, "name": IMAGE, "version": format!("v{version}")}},
        "components": components,
        "dependencies": dependencies,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    const HELM: &str = "helm: go1.26.0\n\tpath\thelm.sh/helm/v4/cmd/helm\n\tmod\tcoderupgrade.dev/testbed/helm\t(devel)\t\n\
                        \tdep\thelm.sh/helm/v4\tv4.2.4\th1:x=\n\tdep\texample.com/a\tv1.0.0\n\t=>\texample.com/b\tv1.1.0+x\th1:y=\n\
                        \tbuild\t-trimpath=true\n";

    fn made() -> Value {
        let root = workspace::root();
        let metadata: Vec<_> = TARGETS.iter().map(|target| metadata_of(&root, target).unwrap()).collect();
        let checksums = checksums(&std::fs::read_to_string(root.join("Cargo.lock")).unwrap());
        bom(env!("CARGO_PKG_VERSION"), crates(&metadata, &checksums).unwrap(), go_modules(HELM))
    }

    #[test]
    fn what_the_program_is_built_from_is_listed_and_nothing_else() {
        let document = made();
        let components = document["components"].as_array().unwrap();
        let names: BTreeSet<_> = components.iter().map(|component| component["name"].as_str().unwrap()).collect();
        for name in ["coder-upgrade-operator", "kube", "ring", "serde_derive", "cc", "helm.sh/helm/v4", "example.com/b"]
        {
            assert!(names.contains(name), "{name} is missing");
        }
        for name in ["proptest", "testbed", "mdbook-driver", "xtask", "example.com/a"] {
            assert!(!names.contains(name), "{name} is no part of the program");
        }
    }

    #[test]
    fn each_crate_of_the_registry_has_its_checksum_and_licence() {
        let document = made();
        for component in document["components"].as_array().unwrap() {
            let purl = component["purl"].as_str().unwrap();
            let ours = ["pkg:cargo/child-process@", "pkg:cargo/coder-upgrade-operator@"];
            if ours.iter().any(|ours| purl.starts_with(ours)) || !purl.starts_with("pkg:cargo/") {
                continue;
            }
            assert_eq!(component["hashes"][0]["content"].as_str().map(str::len), Some(64), "{component}");
            let licence = component["licenses"][0]["expression"].as_str().unwrap();
            assert!(!licence.is_empty() && !licence.contains('/'), "{component}");
        }
    }

    #[test]
    fn all_references_lead_to_a_component_and_none_is_there_twice() {
        let document = made();
        let mut known = BTreeSet::from([document["metadata"]["component"]["bom-ref"].as_str().unwrap()]);
        for component in document["components"].as_array().unwrap() {
            assert!(known.insert(component["bom-ref"].as_str().unwrap()), "{component}");
        }
        let dependencies = document["dependencies"].as_array().unwrap();
        assert!(!dependencies.is_empty());
        for dependency in dependencies {
            assert!(known.contains(dependency["ref"].as_str().unwrap()), "{dependency}");
            for needed in dependency["dependsOn"].as_array().unwrap() {
                assert!(known.contains(needed.as_str().unwrap()), "{needed}");
            }
        }
    }

    #[test]
    fn a_second_document_is_the_same() {
        assert_eq!(made(), made());
    }
}
