//! The kubectl plugin as Krew installs it: an archive for each platform, and the manifest that names them.

use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};

use super::{Files, archive, sum};
use crate::Result;

/// kubectl takes the underscore for a dash.
const PROGRAM: &str = "kubectl-coder_upgrade";
const NAME: &str = "coder-upgrade";

/// A program for one platform.
#[derive(Clone, Debug)]
pub struct Program {
    system: String,
    architecture: String,
    file: PathBuf,
}

impl FromStr for Program {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parts = text.split_once('=').and_then(|(platform, file)| Some((platform.split_once('-')?, file)));
        let ((system, architecture), file) =
            parts.ok_or("it has the form SYSTEM-ARCHITECTURE=FILE, as linux-amd64=FILE")?;
        Ok(Self { system: system.to_owned(), architecture: architecture.to_owned(), file: file.into() })
    }
}

/// The archives, and the manifest that says where they can be had; nothing without a program, for Krew refuses a plugin without
/// platforms. `project` is the address of the repository at its host.
pub fn files(programs: &[Program], project: &str, version: &str, license: &[u8]) -> Result<Files> {
    let mut files = Files::new();
    if programs.is_empty() {
        return Ok(files);
    }
    let mut platforms = Vec::new();
    for Program { system, architecture, file } in programs {
        let program = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let name = format!("{PROGRAM}-{system}-{architecture}.tar.gz");
        let archive = archive([(PROGRAM, 0o755, &*program), ("LICENSE", 0o644, license)])?;
        platforms.push(json!({
            "selector": {"matchLabels": {"os": system, "arch": architecture}},
            "uri": format!("{project}/releases/download/v{version}/{name}"),
            "sha256": sum(&archive),
            "bin": PROGRAM,
        }));
        files.insert(name, archive);
    }
    let manifest = serde_saphyr::to_string(&manifest(&platforms, project, version))?;
    files.insert(format!("{NAME}.yaml"), manifest.into_bytes());
    Ok(files)
}

fn manifest(platforms: &[Value], project: &str, version: &str) -> Value {
    json!({
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": NAME},
        "spec": {
            "version": format!("v{version}"),
            "homepage": project,
            "shortDescription": "Upgrade Coder, and see how the upgrade goes",
            "description": "Shows what an upgrade of a Coder deployment would do, starts, approves, follows and retries it, and finds \
                            what is in its way. The Coder upgrade operator in the cluster does the work.",
            "platforms": platforms,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn each_platform_has_an_archive_with_the_program_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("program");
        std::fs::write(&file, "#!/bin/sh\necho runs\n").unwrap();
        let program = format!("linux-arm64={}", file.display()).parse().unwrap();
        let made = files(&[program], "https://example.com/o", "1.2.3", b"Apache").unwrap();
        let manifest: Value = serde_saphyr::from_slice(&made["coder-upgrade.yaml"]).unwrap();
        let platform = &manifest["spec"]["platforms"][0];
        assert_eq!(platform["selector"]["matchLabels"], json!({"os": "linux", "arch": "arm64"}));
        let (address, name) = platform["uri"].as_str().unwrap().rsplit_once('/').unwrap();
        assert_eq!(address, "https://example.com/o/releases/download/v1.2.3");
        assert_eq!(platform["sha256"], sum(&made[name]));

        tar::Archive::new(flate2::read::GzDecoder::new(&made[name][..])).unpack(directory.path()).unwrap();
        let program = directory.path().join(platform["bin"].as_str().unwrap());
        assert_eq!(program.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(Command::new(program).output().unwrap().stdout, b"runs\n");
        assert!(directory.path().join("LICENSE").exists());
    }

    #[test]
    fn without_a_program_there_is_no_plugin() {
        assert!(files(&[], "https://example.com/o", "1.2.3", b"Apache").unwrap().is_empty());
    }

    #[test]
    fn a_program_names_its_platform() {
        assert!("linux-amd64=a/b".parse::<Program>().is_ok());
        assert!("a/b".parse::<Program>().unwrap_err().contains("linux-amd64=FILE"));
    }
}
