//! What the simulated databases of a cluster hold, read past Coder: from the volumes' directories.

use std::io;
use std::path::{Path, PathBuf};

use super::{Cluster, ToolError};
use crate::sim::record::{Record, RecordFile};

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The claim or its volume cannot be read.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// There is no database in the volume.
    #[error("no database in {}, the volume of claim {claim}: {source}", directory.display())]
    File {
        /// Name of the claim.
        claim: String,
        /// Directory of its volume.
        directory: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Cluster {
    /// The database in the volume that the claim is bound to: its `deployment_id` tells whether it is still the same.
    ///
    /// # Errors
    /// When the claim is not bound, or there is no database in its volume.
    pub async fn database(&self, namespace: &str, claim: &str) -> Result<Record, DataError> {
        let directory = self.volume(namespace, claim).await?;
        let record = read(&directory);
        record.map_err(|source| DataError::File { claim: claim.to_owned(), directory, source })
    }

    /// Gives all servers of the database in that volume these faults from now on, and no others; see
    /// [`crate::sim`] and `testbed/src/sim/faults.rs`.
    ///
    /// # Errors
    /// When the claim is not bound, or there is no database in its volume.
    pub async fn fault(&self, namespace: &str, claim: &str, faults: &[(&str, &str)]) -> Result<(), DataError> {
        let directory = self.volume(namespace, claim).await?;
        let written = find(&directory).and_then(|file| file.ask_for(faults));
        written.map_err(|source| DataError::File { claim: claim.to_owned(), directory, source })
    }

    /// Changes the database in that volume, as a person with SQL would.
    ///
    /// # Errors
    /// When the claim is not bound, there is no database in its volume, or somebody else changed it at the same moment.
    pub async fn edit_database(
        &self,
        namespace: &str,
        claim: &str,
        edit: impl FnOnce(&mut Record),
    ) -> Result<(), DataError> {
        let directory = self.volume(namespace, claim).await?;
        let edited = find(&directory).and_then(|file| {
            let mut record = file.read()?;
            edit(&mut record);
            file.write(&record).map_err(io::Error::other)
        });
        edited.map_err(|source| DataError::File { claim: claim.to_owned(), directory, source })
    }

    /// The directory of the volume that the claim is bound to.
    async fn volume(&self, namespace: &str, claim: &str) -> Result<PathBuf, DataError> {
        let jsonpath = ["-o", "jsonpath={.spec.volumeName}"];
        let volume = self.kubectl(&[&["get", "pvc", claim, "-n", namespace], &jsonpath[..]].concat()).await?;
        let directory = self.kubectl(&["get", "pv", &volume, "-o", "jsonpath={.spec.hostPath.path}"]).await?;
        Ok(PathBuf::from(directory))
    }
}

impl Cluster {
    /// The database in a `VolumeSnapshot`.
    ///
    /// # Errors
    /// When there is no such snapshot, or no database in it.
    pub async fn snapshot(&self, namespace: &str, name: &str) -> Result<Record, DataError> {
        let uid = ["get", "volumesnapshot", name, "-n", namespace, "-o", "jsonpath={.metadata.uid}"];
        let directory = self.dir().join("snapshots").join(self.kubectl(&uid).await?);
        let record = read(&directory);
        record.map_err(|source| DataError::File { claim: name.to_owned(), directory, source })
    }
}

/// `PGDATA` is the volume itself or, as `PostgreSQL` wants it, a directory in it.
fn find(volume: &Path) -> io::Result<RecordFile> {
    // A volume of Coder Classic's database, of a PostgreSQL, or of the home directory of Coder v2.
    let places = [volume.join("pgdata"), volume.join(".config").join("coderv2")];
    let found = places.iter().find_map(|place| RecordFile::existing(place).ok());
    found.map_or_else(|| RecordFile::existing(volume), Ok)
}

fn read(volume: &Path) -> io::Result<Record> {
    find(volume)?.read()
}
