//! Files that hold secrets.

use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// Writes a file that only the owner may read. It is renamed into place, so that nobody ever reads half of it.
///
/// # Errors
/// When the file cannot be created or written.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut draft = NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    draft.write_all(text.as_bytes())?;
    draft.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_is_readable_by_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for text in ["first", "2nd"] {
            write(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
