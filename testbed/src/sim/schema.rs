//! Which schema a version needs, and what it does about the one it finds.

use semver::Version;

use super::record::{Line, Record};

/// Why a server does not start, in Coder's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The schema is newer than the server.
    #[error("migrate up: up: no migration found for version {0}: read down for version {0} .: file does not exist")]
    Newer(u64),
    /// A v2 server on a database of Coder Classic.
    #[error("migrate up: migrate setup: currently connected to a Coder v1 database, aborting database setup")]
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

/// The schema version of a release. For Coder v2 it is the number of migrations, as measured for 2.24, 2.29, 2.30 and 2.31; other
/// minor versions are put between and behind these. Patch releases mostly add none: one that does says so (see
/// `CODER_SIM_MIGRATIONS` in the module `faults`). Pre-releases have that of their release.
#[must_use]
pub fn schema_of(version: &Version) -> u64 {
    match (version.major, version.minor) {
        (0, minor) => minor.max(1),
        (1, minor) => minor * 100 + version.patch.min(99),
        (_, minor @ 0..24) => 60 + minor * 11,
        (_, minor @ 24..29) => 343 + (minor - 24) * 11,
        (_, 29) => 401,
        (_, 30) => 413,
        (_, minor) => 421 + (minor - 31) * 12,
    }
}

/// The schema to migrate to, `None` if it is there already. A release may have so many migrations of its `own`, beyond those of
/// its minor version.
///
/// # Errors
/// If the version must not run on this database.
pub fn wanted(version: &Version, own: u64, record: &Record) -> Result<Option<u64>, Mismatch> {
    match (line_of(version), record.line) {
        (Line::V2, Some(Line::V1)) => return Err(Mismatch::ClassicDatabase),
        (Line::V1, Some(Line::V2)) => return Err(Mismatch::V2Database),
        _ => {}
    }
    let schema = schema_of(version) + own;
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
    fn schemas_are_those_that_were_measured() {
        let versions =
            ["0.14.3", "0.27.0", "2.0.0", "2.23.9", "2.24.0", "2.28.1", "2.29.0", "2.30.0", "2.31.7", "2.32.0"];
        let schemas: Vec<u64> = versions.iter().map(|text| schema_of(&version(text))).collect();
        assert!(schemas.is_sorted_by(|a, b| a < b), "{schemas:?}");
        for (text, measured) in [("2.24.0", 343), ("2.29.0", 401), ("2.30.0", 413), ("2.31.7", 421), ("2.31.6", 421)] {
            assert_eq!(schema_of(&version(text)), measured, "{text}");
        }
    }

    #[test]
    fn up_only_and_never_across_lines() {
        assert_eq!(wanted(&version("2.31.7"), 0, &record(None, 0)), Ok(Some(421)));
        assert_eq!(wanted(&version("2.31.7"), 0, &record(Some(Line::V2), 413)), Ok(Some(421)));
        assert_eq!(wanted(&version("2.31.7"), 0, &record(Some(Line::V2), 421)), Ok(None));
        assert_eq!(wanted(&version("2.31.7"), 1, &record(Some(Line::V2), 421)), Ok(Some(422)));
        let newer = wanted(&version("2.30.0"), 0, &record(Some(Line::V2), 421)).unwrap_err().to_string();
        let measured =
            "migrate up: up: no migration found for version 421: read down for version 421 .: file does not exist";
        assert_eq!(newer, measured);
        assert_eq!(wanted(&version("2.31.7"), 0, &record(Some(Line::V1), 1601)), Err(Mismatch::ClassicDatabase));
        assert_eq!(wanted(&version("1.16.1"), 0, &record(Some(Line::V2), 421)), Err(Mismatch::V2Database));
    }
}
