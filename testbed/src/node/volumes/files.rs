//! Files of volumes: written only when they differ, and replaced as a whole, so that no reader sees half of one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::super::sources::Unmet;

/// Files below a volume's directory by relative path, with content and permissions.
pub type Files = BTreeMap<String, (Vec<u8>, u32)>;

/// Makes the directory's content exactly `files`.
pub(super) fn write_all(directory: &Path, files: &Files) -> Result<(), Unmet> {
    for (path, (content, mode)) in files {
        let path = below(directory, path)?;
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        replace(&path, content, *mode).map_err(|error| unusable(&path, &error))?;
    }
    remove_others(directory, directory, files).map_err(|error| unusable(directory, &error))
}

/// Makes a directory and its parents.
pub(super) fn make_directory(path: &Path) -> Result<(), Unmet> {
    fs::create_dir_all(path).map_err(|error| unusable(path, &error))
}

/// `directory`/`path`; a path that would lead out of the directory is refused.
pub(super) fn below(directory: &Path, path: &str) -> Result<PathBuf, Unmet> {
    if Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        Ok(directory.join(path))
    } else {
        Err(Unmet::new(format!("path `{path}` must be relative and must not contain `..`")))
    }
}

/// Makes `path` a link to `target`, whatever it led to before.
pub(super) fn link(path: &Path, target: &Path) -> Result<(), Unmet> {
    if fs::read_link(path).is_ok_and(|known| known == target) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(path, &error)),
        _ => {}
    }
    symlink(target, path).map_err(|error| unusable(path, &error))
}

fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if fs::read(path).is_ok_and(|known| known == content) {
        return Ok(());
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    fs::write(&new, content)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
    fs::rename(&new, path)
}

fn remove_others(root: &Path, directory: &Path, files: &Files) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(root, &path, files)?;
        } else if !path.strip_prefix(root).is_ok_and(|path| files.contains_key(path.to_string_lossy().as_ref())) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn unusable(path: &Path, error: &io::Error) -> Unmet {
    Unmet::new(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(entries: &[(&str, &str)]) -> Files {
        entries.iter().map(|(path, text)| ((*path).to_owned(), (text.as_bytes().to_vec(), 0o440))).collect()
    }

    #[test]
    fn a_volume_follows_its_object() {
        let directory = tempfile::tempdir().unwrap();
        write_all(directory.path(), &files(&[("a", "1"), ("sub/b", "2")])).unwrap();
        write_all(directory.path(), &files(&[("a", "3")])).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("a")).unwrap(), "3");
        assert!(!directory.path().join("sub/b").exists());
        let mode = fs::metadata(directory.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o440);
    }

    #[test]
    fn a_link_can_be_led_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etc/link");
        for target in ["/one", "/two", "/two"] {
            link(&path, Path::new(target)).unwrap();
            assert_eq!(fs::read_link(&path).unwrap(), Path::new(target));
        }
    }

    #[test]
    fn nothing_leads_out_of_a_volume() {
        for path in ["../x", "/etc/passwd", "a/../../x"] {
            assert!(below(Path::new("/volume"), path).is_err(), "{path}");
        }
    }
}
