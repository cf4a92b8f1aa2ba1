//! Translation of the paths a container believes in to the directories where its volumes really lie.
//!
//! There is no mount namespace: a volume "mounted" at `/etc/coder` is a directory below the pod's own. Wherever such a
//! mount path occurs in a command, an argument or a variable, it is replaced by the real directory.

use std::path::{Path, PathBuf};

/// The mounts of one container, longest mount path first, so that the innermost mount wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountTable {
    mounts: Vec<(String, PathBuf)>,
}

impl MountTable {
    /// Adds a mount. The root directory and relative paths cannot be translated and are left out.
    pub fn insert(&mut self, mount_path: &str, real: PathBuf) {
        let mount_path = mount_path.trim_end_matches('/');
        if !mount_path.starts_with('/') {
            return;
        }
        self.mounts.retain(|(known, _)| known != mount_path);
        self.mounts.push((mount_path.to_owned(), real));
        self.mounts.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    }

    /// Mount paths with their real directories, innermost first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Path)> {
        self.mounts.iter().map(|(path, real)| (path.as_str(), real.as_path()))
    }

    /// `text` with every mount path in it replaced. A path counts only as a whole: it begins at the start of the text,
    /// after a character that cannot belong to a path (a `)` may end a reference to a variable), or as the path of a `scheme://` address without a host, and it
    /// ends at a `/`, at the end, or before a character that cannot belong to a file name.
    #[must_use]
    pub fn translate(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(slash) = rest.find('/') {
            out.push_str(&rest[..slash]);
            rest = &rest[slash..];
            let hit = if begins_path(&out) { self.mounts.iter().find(|(path, _)| is_prefix(path, rest)) } else { None };
            if let Some((path, real)) = hit {
                out.push_str(&real.to_string_lossy());
                rest = &rest[path.len()..];
            }
            // The rest of this path belongs to the hit, or to a path that is not ours.
            let end = rest.char_indices().skip(1).find(|(_, c)| !in_path(*c)).map_or(rest.len(), |(at, _)| at);
            let end = if hit.is_none() && rest.starts_with("//") { 1 } else { end };
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        out.push_str(rest);
        out
    }
}

fn in_path(c: char) -> bool {
    c == '/' || in_name(c)
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '~' | '+' | '@' | '%')
}

fn begins_path(before: &str) -> bool {
    before.ends_with("://") || before.chars().next_back().is_none_or(|c| !in_path(c) && c != ')')
}

fn is_prefix(mount_path: &str, rest: &str) -> bool {
    rest.strip_prefix(mount_path).is_some_and(|tail| tail.chars().next().is_none_or(|c| !in_name(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> MountTable {
        let mut table = MountTable::default();
        table.insert("/data", "/n/data".into());
        table.insert("/data/certs/", "/n/certs".into());
        table.insert("/", "/n/root".into());
        table.insert("/var/run/secrets", "/n/token".into());
        table
    }

    #[test]
    fn whole_paths_are_translated_innermost_mount_first() {
        for (text, expected) in [
            ("/data", "/n/data"),
            ("/data/", "/n/data/"),
            ("/data/a/b", "/n/data/a/b"),
            ("/data/certs/ca.crt", "/n/certs/ca.crt"),
            ("--file=/data/x,/data/certs", "--file=/n/data/x,/n/certs"),
            ("PATH:/data:/usr/bin:/data/bin", "PATH:/n/data:/usr/bin:/n/data/bin"),
            ("cat '/data/x' \"/data\"", "cat '/n/data/x' \"/n/data\""),
            ("file:///data/x", "file:///n/data/x"),
            ("sqlite:///var/run/secrets", "sqlite:///n/token"),
        ] {
            assert_eq!(table().translate(text), expected, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_mount_path_stays() {
        for text in [
            "/database",
            "/data-old/x",
            "/srv/data/x",
            "http://host/data",
            "http://127.0.0.1:80/data/x",
            "a/data",
            "/",
            "//",
            "",
            "../data",
        ] {
            assert_eq!(table().translate(text), text);
        }
    }
}
