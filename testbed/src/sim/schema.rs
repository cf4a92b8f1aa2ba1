//! Which schema a version needs, and what it does about the one it finds.

use semver::Version;

use super::record::{Line, Record};

/// Why a server does not start, in Coder's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The schema is newer than the server.
    #[error(
        "connect to postgres: migrate up: up: no migration found for version {0}: read down for version {0} .: file does not exist"
    )]
    Newer(u64),
    /// A v2 server on a database of Coder Classic.
    #[error("currently connected to a Coder v1 database, aborting database setup")]
    ClassicDatabase,
    /// Coder Classic on a database of v2.
    #[error("currently connected to a Coder v2 database: relation \"migration_cursor\" does not exist")]
    V2Database,
    /// The schema is older than the server, which must not migrate itself.
    #[error("database needs migration: schema is at {found}, {wanted} is needed")]
    NeedsMigration {
        /// Schema in the database.
        found: u64,
        /// Schema of the server.
        wanted: u64,
    },
}

/// The product line of a version.
#[must_use]
pub fn line_of(version: &Version) -> Line {
    if version.major == 1 { Line::V1 } else { Line::V2 }
}

/// The schema version of a release: it grows with minor and patch version; pre-releases have that of their release.
#[must_use]
pub fn schema_of(version: &Version) -> u64 {
    version.minor * 100 + version.patch.min(99)
}

/// The schema to migrate to, `None` if it is there already.
///
/// # Errors
/// If the version must not run on this database.
pub fn wanted(version: &Version, record: &Record) -> Result<Option<u64>, Mismatch> {
    match (line_of(version), record.line) {
        (Line::V2, Some(Line::V1)) => return Err(Mismatch::ClassicDatabase),
        (Line::V1, Some(Line::V2)) => return Err(Mismatch::V2Database),
        _ => {}
    }
    let schema = schema_of(version);
    match record.schema.cmp(&schema) {
        std::cmp::Ordering::Greater => Err(Mismatch::Newer(record.schema)),
        std::cmp::Ordering::Less => Ok(Some(schema)),
        std::cmp::Ordering::Equal => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn record(line: Option<Line>, schema: u64) -> Record {
        Record { deployment_id: "d".into(), line, schema, revision: 0, faults: BTreeMap::new() }
    }

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn schemas_grow_with_versions() {
        let versions = ["2.30.0", "2.31.6", "2.31.7", "2.31.10", "2.32.0-rc.1", "2.32.1"];
        let schemas: Vec<u64> = versions.iter().map(|text| schema_of(&version(text))).collect();
        assert!(schemas.is_sorted_by(|a, b| a < b), "{schemas:?}");
    }

    #[test]
    fn up_only_and_never_across_lines() {
        assert_eq!(wanted(&version("2.31.7"), &record(None, 0)), Ok(Some(3107)));
        assert_eq!(wanted(&version("2.31.7"), &record(Some(Line::V2), 3106)), Ok(Some(3107)));
        assert_eq!(wanted(&version("2.31.7"), &record(Some(Line::V2), 3107)), Ok(None));
        let newer = wanted(&version("2.31.6"), &record(Some(Line::V2), 3107)).unwrap_err().to_string();
        let expected = "no migration found for version 3107: read down for version 3107 .: file does not exist";
        assert!(newer.contains(expected), "{newer}");
        assert_eq!(wanted(&version("2.31.7"), &record(Some(Line::V1), 1601)), Err(Mismatch::ClassicDatabase));
        assert_eq!(wanted(&version("1.16.1"), &record(Some(Line::V2), 3107)), Err(Mismatch::V2Database));
    }
}
