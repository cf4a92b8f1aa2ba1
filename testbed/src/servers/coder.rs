//! Real servers of Coder v2 in the image table.

use std::fs;
use std::path::{Path, PathBuf};

use semver::Version;

use super::ServersError;
use crate::node::ImageRow;

/// The image repository whose images are real servers. Its last parts are those of Coder's own, as in a company's mirror.
pub const REPOSITORY: &str = "real.example.com/coder/coder";

/// The servers in a directory, programs named `coder-VERSION`.
#[derive(Debug, Clone)]
pub struct CoderServers {
    directory: PathBuf,
    /// Ascending; two or more.
    versions: Vec<Version>,
}

impl CoderServers {
    /// Finds the servers in a directory. Other files there do not matter.
    ///
    /// # Errors
    /// If it cannot be read, or has fewer than two.
    pub fn open(directory: &Path) -> Result<Self, ServersError> {
        let failed = |source| ServersError::File { path: directory.to_owned(), source };
        // A pod's directory is another one.
        let directory = fs::canonicalize(directory).map_err(failed)?;
        let mut versions = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix("coder-"));
            versions.extend(version.and_then(|version| Version::parse(version.trim_start_matches('v')).ok()));
        }
        versions.sort();
        if versions.len() < 2 {
            return Err(ServersError::TooFew { path: directory, found: versions.len() });
        }
        Ok(Self { directory, versions })
    }

    /// The oldest and the newest version.
    #[must_use]
    pub fn ends(&self) -> (&Version, &Version) {
        (&self.versions[0], &self.versions[self.versions.len() - 1])
    }

    /// The program of a version.
    #[must_use]
    pub fn program(&self, version: &Version) -> PathBuf {
        let plain = self.directory.join(format!("coder-{version}"));
        if plain.exists() { plain } else { self.directory.join(format!("coder-v{version}")) }
    }

    /// Each version with its program.
    pub(crate) fn programs(&self) -> impl Iterator<Item = (&Version, PathBuf)> {
        self.versions.iter().map(|version| (version, self.program(version)))
    }

    /// Rows for the image table of the process node, one for each version.
    ///
    /// All pods of that node share one network, so a server is given its pod's address where the chart says `0.0.0.0`.
    pub(crate) fn rows(&self) -> Vec<ImageRow> {
        let row = |(version, program): (&Version, PathBuf)| ImageRow {
            pattern: image(version),
            command: Some(vec!["/bin/sh".into(), "-c".into(), START.into(), program.to_string_lossy().into_owned()]),
            env: SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..ImageRow::default()
        };
        self.programs().map(row).collect()
    }
}

/// The image of a version.
pub(crate) fn image(version: &Version) -> String {
    format!("{REPOSITORY}:v{version}")
}

/// Switches off what would leave the machine: telemetry, the look for updates, STUN, and the download of Terraform by the
/// built-in provisioners.
pub(crate) const SETTINGS: [(&str, &str); 4] = [
    ("CODER_TELEMETRY_ENABLE", "false"),
    ("CODER_UPDATE_CHECK", "false"),
    ("CODER_DERP_SERVER_STUN_ADDRESSES", "disable"),
    ("CODER_PROVISIONER_DAEMONS", "0"),
];

/// Starts the server, `$0`, with the pod's arguments after its own name for the program, `$1`.
const START: &str = r#"
export CODER_HTTP_ADDRESS="$POD_IP:${CODER_HTTP_ADDRESS##*:}" CODER_PROMETHEUS_ADDRESS="$POD_IP:2112"
export CODER_ADDRESS="${CODER_ADDRESS:+$POD_IP:${CODER_ADDRESS##*:}}"
shift
exec "$0" "$@""#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_by_their_names() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("coder-2.31.7"), "").unwrap();
        fs::write(directory.path().join("coder-linux.tgz"), "").unwrap();
        let error = CoderServers::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("has 1 servers") && error.contains("coder-VERSION"), "{error}");
        fs::write(directory.path().join("coder-v2.9.0"), "").unwrap();
        let servers = CoderServers::open(directory.path()).unwrap();
        assert_eq!(servers.ends(), (&Version::new(2, 9, 0), &Version::new(2, 31, 7)));
        assert!(servers.program(&Version::new(2, 9, 0)).ends_with("coder-v2.9.0"));
        assert_eq!(servers.rows()[1].pattern, "real.example.com/coder/coder:v2.31.7");
    }
}
