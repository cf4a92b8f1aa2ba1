//! The test programs of the workspace.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::command::{self, Invocation};
use super::plan::Selection;
use crate::Result;

/// A test program that cargo has built.
#[derive(Debug, Clone)]
pub struct TestBinary {
    /// Name of the crate or of the file.
    pub name: String,
    /// What it tests.
    pub kind: Kind,
    executable: PathBuf,
    /// Directory of its package, where cargo would run it.
    directory: PathBuf,
}

/// Where the tests of a program stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Inside the code.
    Unit,
    /// In a file of their own.
    Integration,
}

impl TestBinary {
    /// Runs the tests whose names contain `filter`, `threads` at a time or as many as there are cores.
    pub fn invocation(&self, filter: &str, threads: Option<NonZeroUsize>) -> Invocation {
        let threads = threads.map(|threads| format!("--test-threads={threads}"));
        let arguments: Vec<_> = threads.iter().map(String::as_str).chain([filter]).collect();
        Invocation::program(&self.executable, &arguments).current_dir(&self.directory)
    }

    /// How many tests have `filter` in their names.
    pub fn count(&self, filter: &str) -> io::Result<usize> {
        let output = Command::new(&self.executable).args(["--list", "--format=terse", filter]).output()?;
        let listed = String::from_utf8_lossy(&output.stdout);
        Ok(listed.lines().filter(|line| line.ends_with(": test")).count())
    }
}

/// A message of `cargo --message-format json`, as far as it is about test programs.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds the test programs that a selection may need, and the programs that integration tests start. `None` if that
/// fails; `log` says why.
pub async fn build(selection: &Selection, log: &Path) -> Result<Option<Vec<TestBinary>>> {
    let part = match selection {
        Selection::File(name) => vec!["--test", name],
        Selection::Unit => vec!["--lib", "--bins"],
        _ => vec![],
    };
    let arguments = [&["test", "--workspace", "--no-run"], &part[..]].concat();
    let mut log_file = File::create(log)?;
    // First without messages: the compiler's output goes to the log as people read it, with signs of life.
    for arguments in [&["build", "--workspace", "--bins"], &arguments[..]] {
        if !command::run("build", &Invocation::cargo(arguments), &mut log_file).await?.success {
            return Ok(None);
        }
    }
    let mut command = Invocation::cargo(&[&arguments[..], &["--message-format=json"]].concat()).command();
    let output = command.stderr(Stdio::piped()).output().await?;
    if !output.status.success() {
        log_file.write_all(&output.stderr)?;
        return Ok(None);
    }
    let messages = String::from_utf8(output.stdout)?;
    Ok(Some(messages.lines().filter_map(test_binary).collect()))
}

fn test_binary(line: &str) -> Option<TestBinary> {
    let message: Message = serde_json::from_str(line).ok()?;
    let (target, executable) = (message.target?, message.executable?);
    if !message.profile?.test {
        return None;
    }
    let integration = target.kind.iter().any(|kind| kind == "test");
    let kind = if integration { Kind::Integration } else { Kind::Unit };
    let directory = message.manifest_path?.parent()?.to_owned();
    Some(TestBinary { name: target.name, kind, executable, directory })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_told_from_other_artifacts() {
        let message = |kind: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/p/Cargo.toml","executable":"/t/x-1",
                "target":{{"name":"x","kind":["{kind}"]}},"profile":{{"test":{test}}}}}"#
            )
        };
        let integration = test_binary(&message("test", true)).unwrap();
        assert_eq!((integration.kind, integration.directory.as_path()), (Kind::Integration, Path::new("/w/p")));
        assert_eq!(test_binary(&message("bin", true)).unwrap().kind, Kind::Unit);
        assert!(test_binary(&message("bin", false)).is_none());
        assert!(test_binary(r#"{"reason":"build-finished","success":true}"#).is_none());
    }
}
