//! The packaged chart. `helm package` writes the time of the day into it, so that no two packages are the same.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{IMAGE, archive};
use crate::Result;

/// The name that helm gives to the package, and the repository expects.
pub fn file_name(version: &str) -> String {
    format!("{IMAGE}-{version}.tgz")
}

/// The chart as an archive. Links are resolved: what they lead to lies outside of the chart.
pub fn packaged(chart: &Path, version: &str, image: &str) -> Result<Vec<u8>> {
    let mut files = BTreeMap::new();
    read(chart, "", &mut files)?;
    let described: Value = serde_saphyr::from_slice(files.get("Chart.yaml").ok_or("the chart has no Chart.yaml")?)?;
    for (field, wanted) in [("version", version.to_owned()), ("appVersion", format!("v{version}"))] {
        if described[field] != wanted.as_str() {
            return Err(
                format!("{}: {field} is {}, and the release is {wanted}", chart.display(), described[field]).into()
            );
        }
    }
    let values = files.get_mut("values.yaml").ok_or("the chart has no values.yaml")?;
    let default = format!("  repository: {IMAGE}\n");
    let text = String::from_utf8(std::mem::take(values))?;
    if text.matches(&default).count() != 1 {
        return Err(
            format!("{}/values.yaml does not name the image once as `repository: {IMAGE}`", chart.display()).into()
        );
    }
    *values = text.replace(&default, &format!("  repository: {image}\n")).into_bytes();

    let files: BTreeMap<String, Vec<u8>> =
        files.into_iter().map(|(path, content)| (format!("{IMAGE}/{path}"), content)).collect();
    archive(files.iter().map(|(path, content)| (path.as_str(), 0o644, content.as_slice())))
}

/// The files of a directory by their paths in it, with the content that links lead to.
fn read(directory: &Path, above: &str, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| format!("{} is no UTF-8", name.display()))?;
        let path = format!("{above}{name}");
        if entry.path().is_dir() {
            read(&entry.path(), &format!("{path}/"), files)?;
        } else {
            let content =
                std::fs::read(entry.path()).map_err(|error| format!("{}: {error}", entry.path().display()))?;
            files.insert(path, content);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use tar::{Archive, EntryType};

    use super::*;
    use crate::workspace;

    const VERSION: &str = env!("CARGO_PKG_VERSION");

    /// What is in an archive: type, path and content.
    fn unpacked(archive: &[u8]) -> Vec<(EntryType, String, String)> {
        let mut archive = Archive::new(GzDecoder::new(archive));
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.header().entry_type(), entry.path().unwrap().display().to_string(), text)
        });
        entries.collect()
    }

    #[test]
    fn the_archive_is_the_chart_with_its_links_resolved() {
        let chart = workspace::root().join("deploy/chart");
        let found = unpacked(&packaged(&chart, VERSION, IMAGE).unwrap());
        let mut files = BTreeMap::new();
        read(&chart, "", &mut files).unwrap();
        assert_eq!(found.len(), files.len());
        for (kind, path, text) in &found {
            let name = path.strip_prefix("coder-upgrade-operator/").unwrap();
            assert_eq!(*kind, EntryType::Regular, "{path}");
            assert_eq!(*text, std::fs::read_to_string(chart.join(name)).unwrap(), "{path}");
        }
        let definition = std::fs::read_to_string(workspace::root().join("crds/coderupgrades.yaml")).unwrap();
        let crd = found.iter().find(|(_, path, _)| path.ends_with("files/crd.yaml")).unwrap();
        assert_eq!(crd.2, definition);
        assert!(std::fs::symlink_metadata(chart.join("files/crd.yaml")).unwrap().is_symlink());
    }

    #[test]
    fn the_image_is_a_value_of_the_packaged_chart() {
        let chart = workspace::root().join("deploy/chart");
        let found = unpacked(&packaged(&chart, VERSION, "registry.example.com/o").unwrap());
        let (_, _, values) = found.iter().find(|(_, path, _)| path.ends_with("/values.yaml")).unwrap();
        let values: Value = serde_saphyr::from_str(values).unwrap();
        assert_eq!(values["image"]["repository"], "registry.example.com/o");
    }

    #[test]
    fn a_chart_of_another_version_is_refused() {
        let refused = packaged(&workspace::root().join("deploy/chart"), "9.9.9", IMAGE).unwrap_err().to_string();
        assert!(refused.contains("the release is 9.9.9"), "{refused}");
    }
}
