//! `cargo xtask release`: what a version is published with.
//!
//! - `changelog`: the section of the version;
//! - `chart`: the packaged chart;
//! - `krew`: the kubectl plugin;
//! - `manifests`: what kubectl applies, rendered;
//! - `materials`: the list of what the program and its helm are built from.

mod changelog;
mod chart;
mod krew;
mod manifests;
mod materials;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use coder_upgrade_operator::core::text::digest::hex;
use flate2::{Compression, GzBuilder};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use testbed::components::{Component, ensure};

use crate::{Result, progress, workspace};

/// Name of the image in deploy/, which a registry stands before.
const IMAGE: &str = "coder-upgrade-operator";

/// Make the files of a release: manifests, the chart, the kubectl plugin, an SBOM, the section of the changelog, and their checksums.
///
/// The version is that of Cargo.toml. The same sources give the same bytes. Fails if the changelog has no section of the version, or
/// if the chart or deploy/ name another one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of the files; what is in it is replaced. Default: target/release-VERSION
    #[arg(long)]
    output: Option<PathBuf>,
    /// Image without its tag, as manifests and chart name it
    #[arg(long, default_value = IMAGE)]
    image: String,
    /// The program for a platform, for Krew (linux-amd64=FILE); may be given several times
    #[arg(long, value_name = "PLATFORM=FILE", requires = "project")]
    program: Vec<krew::Program>,
    /// Address of the repository at its host, below which the files of releases lie and where alerts lead to the runbook, as
    /// `https://HOST/OWNER/NAME`
    #[arg(long, value_name = "URL")]
    project: Option<String>,
}

/// When each file in an archive was changed: the first second of 1980, for some programs take 0 for a missing time.
const EPOCH: u64 = 315_532_800;

/// Files by their names.
type Files = BTreeMap<String, Vec<u8>>;

/// Makes the release.
pub async fn run(args: Args) -> Result<()> {
    tokio::task::spawn_blocking(move || write(&args)).await?
}

fn write(args: &Args) -> Result<()> {
    let root = workspace::root();
    let version = env!("CARGO_PKG_VERSION");
    // What can be said without building anything is said first.
    let changes = changelog::section(&std::fs::read_to_string(root.join("CHANGELOG.md"))?, version)?;
    let programs = ensure(&[Component::Kubectl, Component::Helm], &|event| progress::component(&event))?;
    let program = |component| programs.get(component).ok_or("a component was not built");
    let (kubectl, helm) = (program(Component::Kubectl)?, program(Component::Helm)?);
    let rendered = manifests::rendered(&root, kubectl)?;
    let materials = materials::document(&root, version, helm)?;
    let (rendered, plugin) = match &args.project {
        Some(project) => {
            let license = std::fs::read(root.join("LICENSE"))?;
            let plugin = krew::files(&args.program, project, version, &license)?;
            (manifests::with_runbook(rendered, project, &format!("v{version}"))?, plugin)
        }
        None => (rendered, Files::new()),
    };
    let files = files(&root, version, &args.image, rendered, plugin, &materials, changes)?;
    let output = match &args.output {
        Some(output) => output.clone(),
        None => workspace::target().join(format!("release-{version}")),
    };
    if output.exists() {
        std::fs::remove_dir_all(&output)?;
    }
    std::fs::create_dir_all(&output)?;
    for (name, content) in &files {
        std::fs::write(output.join(name), content)?;
        println!("wrote {}", output.join(name).display());
    }
    manifests::is_read_by_helm(helm, &output.join(chart::file_name(version)))
}

/// Everything that is published, with the checksums of all.
fn files(
    root: &Path,
    version: &str,
    image: &str,
    rendered: Files,
    plugin: Files,
    materials: &Value,
    changes: String,
) -> Result<Files> {
    let mut files = plugin;
    let tag = format!("v{version}");
    for (name, manifest) in rendered {
        files.insert(name, manifests::with_image(&manifest, &tag, image)?);
    }
    files.insert(chart::file_name(version), chart::packaged(&root.join("deploy/chart"), version, image)?);
    files.insert("sbom.cdx.json".to_owned(), serde_json::to_vec_pretty(materials)?);
    files.insert("CHANGELOG.md".to_owned(), changes.into_bytes());
    let sums = sums(&files);
    files.insert("SHA256SUMS".to_owned(), sums.into_bytes());
    Ok(files)
}

/// What `sha256sum --check` reads.
fn sums(files: &Files) -> String {
    let mut sums = String::new();
    for (name, content) in files {
        let _ = writeln!(sums, "{}  {name}", sum(content));
    }
    sums
}

/// A compressed archive of files, each with its path and mode: the same files give the same bytes.
fn archive<'a>(members: impl IntoIterator<Item = (&'a str, u32, &'a [u8])>) -> Result<Vec<u8>> {
    let mut archive = Builder::new(GzBuilder::new().write(Vec::new(), Compression::best()));
    for (path, mode, content) in members {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_size(u64::try_from(content.len())?);
        header.set_mode(mode);
        header.set_mtime(EPOCH);
        archive.append_data(&mut header, path, content)?;
    }
    Ok(archive.into_inner()?.finish()?)
}

/// The SHA-256 digest, in hex.
fn sum(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made() -> Files {
        let rendered = Files::from([("a.yaml".to_owned(), b"image: coder-upgrade-operator:v0.1.0\n".to_vec())]);
        let (root, version) = (workspace::root(), env!("CARGO_PKG_VERSION"));
        files(&root, version, "registry.example.com/o", rendered, Files::new(), &json!({"a": 1}), "- a\n".to_owned())
            .unwrap()
    }

    #[test]
    fn a_second_run_gives_the_same_bytes() {
        assert!(made() == made());
    }

    #[test]
    fn the_checksums_are_those_of_the_files() {
        let directory = tempfile::tempdir().unwrap();
        let files = made();
        for (name, content) in &files {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        let check = |directory: &Path| {
            let mut sum = std::process::Command::new("sha256sum");
            sum.args(["--check", "--strict", "SHA256SUMS"]).current_dir(directory).output().unwrap()
        };
        let checked = check(directory.path());
        let said = String::from_utf8(checked.stdout).unwrap();
        assert!(checked.status.success(), "{said}");
        assert_eq!(said.lines().count(), files.len() - 1, "all but SHA256SUMS itself: {said}");
        std::fs::write(directory.path().join("a.yaml"), "other").unwrap();
        assert!(!check(directory.path()).status.success());
    }

    #[test]
    fn the_image_is_named_with_its_registry() {
        let files = made();
        assert_eq!(files["a.yaml"], b"image: registry.example.com/o:v0.1.0\n");
    }
}
