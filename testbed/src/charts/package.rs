//! Packages the test charts with helm, once for each state of their sources.

use std::fs;
use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use super::{Catalog, ChartError, Row, helm, overlay};

/// How many helm processes run at a time.
const PARALLEL: usize = 4;

/// Packages the charts under `charts` as their `repository.yaml` says and returns a directory with one chart repository
/// per subdirectory, `index.yaml` included; `mixed` holds both product lines in one index.
///
/// The result lies in `cache` under a digest of all sources and of the path of `helm`, whose directory carries its
/// version: it is made once, and several processes may do so at a time.
pub async fn package(helm: &Path, charts: &Path, cache: &Path) -> Result<PathBuf, ChartError> {
    let Catalog(mut repositories) = Catalog::read(charts)?;
    let finished = cache.join(digest(helm, charts)?);
    if finished.is_dir() {
        return Ok(finished);
    }
    let mixed = ["v1", "v2"].iter().filter_map(|name| repositories.get(*name)).flatten().cloned().collect();
    repositories.insert("mixed".to_owned(), mixed);

    fs::create_dir_all(cache).map_err(ChartError::at(cache))?;
    let work = tempfile::tempdir_in(cache).map_err(ChartError::at(cache))?;
    let (packed, home) = (work.path().join("packed"), work.path().join("home"));
    let jobs = repositories.iter().flat_map(|(name, rows)| rows.iter().map(move |row| (name, row)));
    stream::iter(jobs)
        .map(|(name, row)| pack(helm, &home, charts, row, packed.join(name)))
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await?;
    for name in repositories.keys() {
        helm::run(helm, &home, &["repo", "index", &packed.join(name).to_string_lossy()]).await?;
    }
    match fs::rename(&packed, &finished) {
        // Another process was faster with the same contents.
        Err(_) if finished.is_dir() => Ok(finished),
        renamed => renamed.map(|()| finished.clone()).map_err(ChartError::at(&finished)),
    }
}

/// Packages one chart into the directory `destination`, where it becomes `coder-VERSION.tgz`.
pub(super) async fn pack(
    helm: &Path,
    home: &Path,
    charts: &Path,
    row: &Row,
    destination: PathBuf,
) -> Result<(), ChartError> {
    let source = tempfile::tempdir().map_err(ChartError::at(&std::env::temp_dir()))?;
    overlay::lay(&charts.join(&row.chart), source.path())?;
    if let Some(name) = &row.overlay {
        overlay::lay(&charts.join("overlays").join(name), source.path())?;
    }
    let (source, destination) = (source.path().to_string_lossy(), destination.to_string_lossy());
    let version = row.version.as_str();
    let arguments = ["package", &source, "--version", version, "--app-version", version, "--destination", &destination];
    helm::run(helm, home, &arguments).await
}

/// A name for the present state of everything that the packages are made from.
fn digest(helm: &Path, charts: &Path) -> Result<String, ChartError> {
    let mut hash = Sha256::new();
    hash.update(helm.as_os_str().as_encoded_bytes());
    add_files(&mut hash, charts)?;
    let start = hash.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    Ok(format!("charts-{start:016x}"))
}

fn add_files(hash: &mut Sha256, directory: &Path) -> Result<(), ChartError> {
    let mut paths = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>())
        .map_err(ChartError::at(directory))?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            add_files(hash, &path)?;
        } else {
            let contents = fs::read(&path).map_err(ChartError::at(&path))?;
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update(contents.len().to_le_bytes());
            hash.update(contents);
        }
    }
    Ok(())
}
