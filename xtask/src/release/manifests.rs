//! The kustomizations of deploy/ as files for `kubectl apply -f`.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use super::{Files, IMAGE};
use crate::Result;

/// What is rendered, and the name of the file.
const MANIFESTS: [(&str, &str); 8] = [
    ("default", "install.yaml"),
    ("one-namespace", "install-one-namespace.yaml"),
    ("crd", "crd.yaml"),
    ("controller", "controller.yaml"),
    ("runner", "runner.yaml"),
    ("admission", "admission.yaml"),
    ("admission-roles", "admission-roles.yaml"),
    ("monitoring", "monitoring.yaml"),
];

/// Where the runbook is in deploy/monitoring/rules.yaml, until somebody publishes it.
const UNPUBLISHED: &str = "https://REPOSITORY/blob/main/";

/// All manifests, rendered by kustomize in kubectl.
pub fn rendered(root: &Path, kubectl: &Path) -> Result<Files> {
    let mut files = Files::new();
    for (directory, name) in MANIFESTS {
        let path = root.join("deploy").join(directory);
        let output = Command::new(kubectl).arg("kustomize").arg(&path).output()?;
        if !output.status.success() {
            return Err(format!("kubectl kustomize {}: {}", path.display(), lines(&output.stderr)).into());
        }
        files.insert(name.to_owned(), output.stdout);
    }
    Ok(files)
}

/// A manifest whose image has its registry. An image with another tag than that of the release is an error.
pub fn with_image(manifest: &[u8], tag: &str, image: &str) -> Result<Vec<u8>> {
    let text = std::str::from_utf8(manifest)?;
    let mut lines = String::new();
    for line in text.lines() {
        let place =
            line.find(": ").map(|place| place + 2).filter(|place| line[*place..].starts_with(&format!("{IMAGE}:")));
        if let Some(place) = place {
            let (key, named) = line.split_at(place);
            let found = &named[IMAGE.len() + 1..];
            if found != tag {
                return Err(format!(
                    "a manifest of deploy names the image with the tag {found}, and the release is {tag}"
                )
                .into());
            }
            let _ = writeln!(lines, "{key}{image}:{tag}");
        } else {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    Ok(lines.into_bytes())
}

/// Manifests whose alerts lead to the runbook of this version in a repository.
pub fn with_runbook(manifests: Files, repository: &str, tag: &str) -> Result<Files> {
    let published = format!("{}/blob/{tag}/", repository.trim_end_matches('/'));
    let changed = manifests.into_iter().map(|(name, manifest)| {
        let text = String::from_utf8(manifest)?.replace(UNPUBLISHED, &published);
        Ok((name, text.into_bytes()))
    });
    changed.collect()
}

/// Has helm render the packaged chart.
pub fn is_read_by_helm(helm: &Path, package: &Path) -> Result<()> {
    let output = Command::new(helm).args(["template", "any-name"]).arg(package).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("helm cannot render {}: {}", package.display(), lines(&output.stderr)).into())
}

fn lines(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_gets_its_registry_wherever_it_is_named() {
        let manifest = "kind: Deployment\nname: coder-upgrade-operator\nimage: coder-upgrade-operator:v1.0.0\n- value: coder-upgrade-operator:v1.0.0\n";
        let changed = with_image(manifest.as_bytes(), "v1.0.0", "r.example.com/o").unwrap();
        let expected = "kind: Deployment\nname: coder-upgrade-operator\nimage: r.example.com/o:v1.0.0\n- value: r.example.com/o:v1.0.0\n";
        assert_eq!(String::from_utf8(changed).unwrap(), expected);
    }

    #[test]
    fn alerts_lead_to_the_runbook_of_the_version() {
        let rules = std::fs::read(crate::workspace::root().join("deploy/monitoring/rules.yaml")).unwrap();
        let manifests = Files::from([("monitoring.yaml".to_owned(), rules)]);
        let changed = with_runbook(manifests, "https://git.example.com/o/", "v1.0.0").unwrap();
        let text = String::from_utf8(changed["monitoring.yaml"].clone()).unwrap();
        assert!(text.contains("runbook: https://git.example.com/o/blob/v1.0.0/docs/runbook.md\n"), "{text}");
        assert!(!text.contains("REPOSITORY"), "{text}");
    }

    #[test]
    fn a_manifest_of_another_version_is_refused() {
        let refused = with_image(b"image: coder-upgrade-operator:v0.9.0\n", "v1.0.0", "o").unwrap_err().to_string();
        assert!(refused.contains("v0.9.0"), "{refused}");
    }

    #[test]
    fn every_directory_that_people_apply_is_published() {
        let root = crate::workspace::root().join("deploy");
        // Samples and the mirror of a company are to be adapted, and the chart is packaged.
        let not_published = ["air-gapped", "chart", "samples"];
        for entry in std::fs::read_dir(&root).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let known =
                MANIFESTS.iter().any(|(directory, _)| *directory == name) || not_published.contains(&name.as_str());
            assert!(known || !entry.path().join("kustomization.yaml").exists(), "deploy/{name} is not published");
        }
    }

    #[test]
    fn wherever_the_image_is_named_it_has_the_version() {
        let root = crate::workspace::root();
        let (tag, name) = (concat!("v", env!("CARGO_PKG_VERSION")), format!("{IMAGE}:"));
        for file in [
            "README.md",
            "docs/install.md",
            "Dockerfile",
            "deploy/air-gapped/kustomization.yaml",
            "deploy/controller/kustomization.yaml",
        ] {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            let tags = text.split(&name).skip(1).chain(text.split("newTag: ").skip(1));
            let tags: Vec<_> = tags.filter(|rest| rest.starts_with('v')).collect();
            assert!(!tags.is_empty(), "{file} does not name the image");
            assert!(tags.iter().all(|rest| rest.starts_with(tag)), "{file} names another version than {tag}");
        }
    }
}
