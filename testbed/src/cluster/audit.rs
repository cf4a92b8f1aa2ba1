//! The API server's audit log.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use super::Cluster;

impl Cluster {
    /// The lines of the audit log that contain `needle`, oldest first; each is one stage of a request, as JSON. A line that
    /// is still being written is left out.
    ///
    /// The API server begins another file after 100 MiB and renames the old one to `audit-TIME.log`: all of them are read.
    ///
    /// # Errors
    /// The cluster was started without an audit log, or a file cannot be read.
    pub fn audit_lines(&self, needle: &str) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        for file in self.audit_files()? {
            let mut reader = BufReader::new(File::open(file)?);
            let mut line = String::new();
            while reader.read_line(&mut line)? > 0 {
                if line.ends_with('\n') && line.contains(needle) {
                    found.push(line.clone());
                }
                line.clear();
            }
        }
        Ok(found)
    }

    /// Renamed ones come first: a dot stands behind a hyphen in the order of names, and their times grow.
    fn audit_files(&self) -> io::Result<Vec<PathBuf>> {
        let is_part = |name: &str| name == "audit.log" || name.starts_with("audit-");
        let mut files = Vec::new();
        for entry in fs::read_dir(self.dir().join("logs"))? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(is_part) {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }
}
