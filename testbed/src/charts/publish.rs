//! A chart repository of a single test.

use std::fs;
use std::path::{Path, PathBuf};

use super::package::pack;
use super::{ChartError, Row, charts_dir, helm};

/// A chart repository that begins empty and to which versions are added while the cluster runs.
#[derive(Debug, Clone)]
pub struct Repository {
    directory: PathBuf,
    url: String,
}

impl Repository {
    pub(super) fn new(directory: PathBuf, url: String) -> Self {
        Self { directory, url }
    }

    /// Where helm finds it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Packages one of the test charts and adds it.
    pub async fn publish(&self, helm: &Path, row: &Row) -> Result<(), ChartError> {
        fs::create_dir_all(&self.directory).map_err(ChartError::at(&self.directory))?;
        let work = tempfile::tempdir_in(&self.directory).map_err(ChartError::at(&self.directory))?;
        let (packed, home) = (work.path().join("packed"), work.path().join("home"));
        pack(helm, &home, &charts_dir(), row, packed.clone()).await?;
        self.add(helm, &home, &packed, &format!("coder-{}.tgz", row.version)).await
    }

    /// Packages the chart in a directory, as it is, and adds it. `archive` is the name of its package, NAME-VERSION.tgz.
    pub async fn publish_directory(&self, helm: &Path, chart: &Path, archive: &str) -> Result<(), ChartError> {
        fs::create_dir_all(&self.directory).map_err(ChartError::at(&self.directory))?;
        let work = tempfile::tempdir_in(&self.directory).map_err(ChartError::at(&self.directory))?;
        let (packed, home) = (work.path().join("packed"), work.path().join("home"));
        let arguments = ["package", &chart.to_string_lossy(), "--destination", &packed.to_string_lossy()];
        helm::run(helm, &home, &arguments).await?;
        self.add(helm, &home, &packed, archive).await
    }

    /// Adds a package that lies in a directory. Readers see the old index or the new one, never half of it.
    async fn add(&self, helm: &Path, home: &Path, packed: &Path, archive: &str) -> Result<(), ChartError> {
        let (staging, index) = (packed.to_string_lossy(), self.directory.join("index.yaml"));
        let present = index.to_string_lossy();
        let mut arguments = vec!["repo", "index", &staging];
        if index.exists() {
            arguments.extend(["--merge", &present]);
        }
        helm::run(helm, home, &arguments).await?;
        for file in [archive, "index.yaml"] {
            let target = self.directory.join(file);
            fs::rename(packed.join(file), &target).map_err(ChartError::at(&target))?;
        }
        Ok(())
    }
}
