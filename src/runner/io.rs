//! Files of the runner. They hold values and credentials, so only the runner's user may read them.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tokio::fs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::Error;

/// Creates a directory that is empty: what an earlier try left there is removed.
pub async fn create_dir(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path).await {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("clear", path, e)),
        _ => {}
    }
    fs::create_dir_all(path).await.map_err(|e| Error::io("create", path, e))
}

/// Reads a file.
pub async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).await.map_err(|e| Error::io("read", path, e))
}

/// Reads a file; none if there is no such file.
pub async fn read_existing(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path).await {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

/// Reads a file; none if it is larger than that.
pub async fn read_up_to(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, Error> {
    let io = |e| Error::io("read", path, e);
    let mut content = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    fs::File::open(path).await.map_err(io)?.take(one_more).read_to_end(&mut content).await.map_err(io)?;
    Ok((content.len() <= limit).then_some(content))
}

/// Writes a file that only this user may read.
pub async fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let io = |e| Error::io("write", path, e);
    let mut file = fs::OpenOptions::from(options).open(path).await.map_err(io)?;
    file.write_all(content).await.map_err(io)?;
    file.flush().await.map_err(io)
}
