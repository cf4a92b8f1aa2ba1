//! Images as archives of the OCI image layout, which containerd imports.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// What a container of an image is started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `UID:GID`; empty for root.
    pub user: String,
}

/// The files of an image. Directories are made as they are needed.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<(PathBuf, Content)>);

#[derive(Debug)]
enum Content {
    /// A file of this machine.
    Copy(PathBuf),
    /// A symbolic link to this path.
    Link(String),
    /// A directory for everybody, as `/tmp`.
    Shared,
}

impl Files {
    /// A copy of `source` at the absolute path `target`.
    pub(super) fn copy(&mut self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) {
        self.add(target.into(), Content::Copy(source.into()));
    }

    /// Copies of all files below the directory `source`, at the same absolute paths.
    pub(super) fn tree(&mut self, source: &Path) -> io::Result<()> {
        for entry in fs::read_dir(source)? {
            let path = entry?.path();
            if path.is_dir() {
                self.tree(&path)?;
            } else {
                self.copy(&path, &path);
            }
        }
        Ok(())
    }

    /// A link at the absolute path `target`.
    pub(super) fn link(&mut self, to: &str, target: &str) {
        self.add(target.into(), Content::Link(to.to_owned()));
    }

    /// An empty directory in which everybody may write.
    pub(super) fn shared_directory(&mut self, target: &str) {
        self.add(target.into(), Content::Shared);
    }

    /// Writes them below a directory, as a container of the image sees them.
    pub(super) fn unpack(&self, root: &Path) -> io::Result<()> {
        let draft = root.with_extension("layer");
        write_layer(self, &draft)?;
        tar::Archive::new(File::open(&draft)?).unpack(root)?;
        fs::remove_file(draft)
    }

    /// The first file at a path stays: programs share libraries.
    fn add(&mut self, target: PathBuf, content: Content) {
        if !self.0.iter().any(|(path, _)| *path == target) {
            self.0.push((target, content));
        }
    }
}

/// An archive of images that is being written.
pub(super) struct Archive {
    path: PathBuf,
    tar: Builder<BufWriter<File>>,
    manifests: Vec<Value>,
}

/// A layer in an archive.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    digest: String,
    size: u64,
}

impl Archive {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let tar = Builder::new(BufWriter::new(File::create(path)?));
        let mut archive = Self { path: path.to_owned(), tar, manifests: Vec::new() };
        archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(archive)
    }

    /// Writes a layer. It is not compressed, because it never travels.
    pub(super) fn layer(&mut self, files: &Files) -> io::Result<Layer> {
        let draft = self.path.with_extension("layer");
        write_layer(files, &draft)?;
        let digest = digest(File::open(&draft)?)?;
        let size = fs::metadata(&draft)?.len();
        self.tar.append_path_with_name(&draft, blob(&digest))?;
        fs::remove_file(&draft)?;
        Ok(Layer { digest, size })
    }

    /// Adds an image of one layer under several names.
    pub(super) fn image(&mut self, layer: &Layer, config: &Config, names: &[String]) -> io::Result<()> {
        let Config { entrypoint, env, user } = config;
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let diff = format!("sha256:{}", layer.digest);
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": entrypoint, "Env": env, "User": user},
            "rootfs": {"type": "layers", "diff_ids": [diff]},
        });
        let config = self.blob("application/vnd.oci.image.config.v1+json", &config)?;
        let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff, "size": layer.size});
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
        let manifest = self.blob(kind, &manifest)?;
        for name in names {
            let mut entry = manifest.clone();
            entry["annotations"] = json!({"io.containerd.image.name": full_name(name)});
            self.manifests.push(entry);
        }
        Ok(())
    }

    /// Ends the archive; returns its path.
    pub(super) fn finish(mut self) -> io::Result<PathBuf> {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        self.file("index.json", index.to_string().as_bytes())?;
        self.tar.into_inner()?.flush()?;
        Ok(self.path)
    }

    fn blob(&mut self, media_type: &str, content: &Value) -> io::Result<Value> {
        let text = content.to_string();
        let digest = digest(text.as_bytes())?;
        self.file(&blob(&digest), text.as_bytes())?;
        Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": text.len()}))
    }

    fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut header = header(EntryType::Regular, 0o644);
        header.set_size(u64::try_from(content.len()).map_err(io::Error::other)?);
        self.tar.append_data(&mut header, path, content)
    }
}

/// An image's name as containerd writes it: with its registry.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((first, _)) if first != "localhost" && !first.contains(['.', ':']) => format!("docker.io/{name}"),
        Some(_) => name.to_owned(),
    }
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

/// All files belong to root, and everybody may read and run them; times are left at zero, so that the same files are the same
/// layer.
fn write_layer(files: &Files, path: &Path) -> io::Result<()> {
    let mut tar = Builder::new(BufWriter::new(File::create(path)?));
    let mut made = Vec::new();
    for (target, content) in &files.0 {
        let target = target.strip_prefix("/").map_err(io::Error::other)?;
        let parents: Vec<_> = target.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).collect();
        for parent in parents.into_iter().rev().filter(|parent| !parent.as_os_str().is_empty()) {
            if !made.contains(&parent) {
                tar.append_data(&mut header(EntryType::Directory, 0o755), parent, io::empty())?;
                made.push(parent);
            }
        }
        match content {
            Content::Copy(source) => {
                let file = File::open(source)
                    .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", source.display())))?;
                let mut header = header(EntryType::Regular, 0o755);
                header.set_size(file.metadata()?.len());
                tar.append_data(&mut header, target, file)?;
            }
            Content::Link(to) => tar.append_link(&mut header(EntryType::Symlink, 0o777), target, to)?,
            Content::Shared => {
                tar.append_data(&mut header(EntryType::Directory, 0o1777), target, io::empty())?;
                made.push(target);
            }
        }
    }
    tar.into_inner()?.flush()
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn digest(mut content: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match content.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let hash: [u8; 32] = hash.finalize().into();
    Ok(hash.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        _ = write!(hex, "{byte:02x}");
        hex
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn entries(path: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let read = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        read.collect()
    }

    #[test]
    fn every_blob_is_what_its_digest_says_and_every_name_has_its_registry() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("program");
        fs::write(&source, "text").unwrap();
        let mut files = Files::default();
        files.copy(&source, "/usr/bin/program");
        files.link("program", "/usr/bin/other");
        let mut archive = Archive::create(&dir.path().join("images.tar")).unwrap();
        let layer = archive.layer(&files).unwrap();
        let config = Config { entrypoint: vec!["/usr/bin/program".into()], ..Config::default() };
        archive.image(&layer, &config, &["thing:1".into(), "ghcr.io/a/b:2".into()]).unwrap();
        let entries = entries(&archive.finish().unwrap());

        let blobs = entries.iter().filter(|(path, _)| path.starts_with("blobs/"));
        for (path, content) in blobs.clone() {
            assert_eq!(*path, blob(&digest(&content[..]).unwrap()));
        }
        assert_eq!(blobs.count(), 3, "layer, configuration and manifest");
        let index: Value = serde_json::from_slice(&entries["index.json"]).unwrap();
        let names: Vec<_> =
            index["manifests"].as_array().unwrap().iter().map(|manifest| &manifest["annotations"]).collect();
        assert_eq!(names[0]["io.containerd.image.name"], "docker.io/library/thing:1");
        assert_eq!(names[1]["io.containerd.image.name"], "ghcr.io/a/b:2");
    }

    #[test]
    fn a_layer_has_the_directories_of_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join("layer");
        let mut files = Files::default();
        files.link("b", "/usr/bin/a");
        files.shared_directory("/tmp");
        write_layer(&files, &layer).unwrap();
        let names: Vec<_> = entries(&layer).into_keys().collect();
        assert_eq!(names, ["tmp", "usr", "usr/bin", "usr/bin/a"]);
    }
}
