//! What the database holds: one record instead of tables.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The product lines; each refuses the other's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// Coder Classic.
    V1,
    /// Coder v2.
    V2,
}

/// The content of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Identity of the deployment, made once, with the database.
    pub deployment_id: String,
    /// The line that has migrated it; none in a new database.
    pub line: Option<Line>,
    /// Schema version; 0 in a new database.
    pub schema: u64,
    /// Counts the changes: a change is refused if it was made from an older record.
    pub revision: u64,
    /// Faults on request, for all servers of this database; see the module `faults`.
    #[serde(default)]
    pub faults: BTreeMap<String, String>,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody else has changed the record meanwhile.
    #[error("the database was changed by somebody else")]
    Conflict,
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// A record in a file.
#[derive(Debug, Clone)]
pub struct RecordFile {
    directory: PathBuf,
}

impl RecordFile {
    /// Opens the record in `directory`, and makes one with a new identity if there is none.
    ///
    /// # Errors
    /// If the directory cannot be used.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let file = Self { directory: directory.to_owned() };
        if !file.path().exists() {
            let deployment_id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned();
            let (line, schema, revision, faults) = (None, 0, 0, BTreeMap::new());
            file.replace(&Record { deployment_id, line, schema, revision, faults })?;
        }
        Ok(file)
    }

    /// The record in `directory`, where a server has made one.
    ///
    /// # Errors
    /// If there is none.
    pub fn existing(directory: &Path) -> io::Result<Self> {
        let file = Self { directory: directory.to_owned() };
        fs::metadata(file.path()).map(|_| file)
    }

    /// The record as it is now, with the faults of the file `faults.json` beside it.
    ///
    /// # Errors
    /// If a file cannot be read, or is not JSON.
    pub fn read(&self) -> io::Result<Record> {
        let mut record: Record = serde_json::from_slice(&fs::read(self.path())?)?;
        match fs::read(self.directory.join("faults.json")) {
            Ok(faults) => record.faults = serde_json::from_slice(&faults)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(record)
    }

    /// Asks the servers of this database for these faults from now on, and for no others.
    ///
    /// # Errors
    /// If the file beside the record cannot be written.
    pub fn ask_for(&self, faults: &[(&str, &str)]) -> io::Result<()> {
        let new = self.directory.join("faults.json.new");
        let faults: BTreeMap<&str, &str> = faults.iter().copied().collect();
        fs::write(&new, serde_json::to_vec(&faults)?)?;
        fs::rename(new, self.directory.join("faults.json"))
    }

    /// Writes a record that was made from the current one; its revision is counted up.
    ///
    /// # Errors
    /// If it was made from an older one, or the file cannot be written.
    pub fn write(&self, record: &Record) -> Result<(), WriteError> {
        if self.read()?.revision != record.revision {
            return Err(WriteError::Conflict);
        }
        Ok(self.replace(&Record { revision: record.revision + 1, ..record.clone() })?)
    }

    /// A killed writer leaves the old record.
    fn replace(&self, record: &Record) -> io::Result<()> {
        let new = self.directory.join("record.json.new");
        fs::write(&new, serde_json::to_vec_pretty(record)?)?;
        fs::rename(new, self.path())
    }

    fn path(&self) -> PathBuf {
        self.directory.join("record.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_stays_and_old_writers_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(RecordFile::existing(directory.path()).is_err());
        let file = RecordFile::open(directory.path()).unwrap();
        let first = file.read().unwrap();
        file.write(&Record { schema: 7, line: Some(Line::V2), ..first.clone() }).unwrap();
        assert!(matches!(file.write(&Record { schema: 8, ..first.clone() }), Err(WriteError::Conflict)));
        let now = RecordFile::existing(directory.path()).unwrap().read().unwrap();
        assert_eq!((now.schema, now.deployment_id, now.revision), (7, first.deployment_id, 1));
    }
}
