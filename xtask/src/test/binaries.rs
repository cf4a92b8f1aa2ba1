//! The test programs of the workspace.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::command::{self, Invocation};
use super::plan::Selection;
use crate::Result;

/// The program with most integration tests: `tests/it`.
const PROGRAM: &str = "it";

/// The tests of one subject: a test program that cargo has built, or one module of the program `it`.
#[derive(Debug, Clone)]
pub struct Suite {
    /// Name of the crate, of the file, or of the module (`plan::checks`).
    pub name: String,
    /// What it tests.
    pub kind: Kind,
    executable: PathBuf,
    /// Directory of its package, where cargo would run it.
    directory: PathBuf,
    /// The tests to run; none stands for all of the program.
    only: Option<Vec<String>>,
}

/// Where the tests of a program stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Inside the code.
    Unit,
    /// In a file of their own.
    Integration,
}

impl Suite {
    /// Whether a word on the command line means this: its name, or a part of it (`plan`, `checks`).
    pub fn is_called(&self, word: &str) -> bool {
        self.name == word || self.name.split("::").any(|part| part == word)
    }

    /// Runs it, `threads` tests at a time or as many as there are cores.
    pub fn invocation(&self, threads: Option<NonZeroUsize>) -> Invocation {
        let threads = threads.map(|threads| format!("--test-threads={threads}"));
        let exact = self.only.as_ref().map(|_| "--exact");
        let names = self.only.iter().flatten().map(String::as_str);
        let arguments: Vec<_> = threads.as_deref().into_iter().chain(exact).chain(names).collect();
        Invocation::program(&self.executable, &arguments).current_dir(&self.directory)
    }

    /// The names of its tests.
    pub fn tests(&self) -> io::Result<Vec<String>> {
        if let Some(names) = &self.only {
            return Ok(names.clone());
        }
        let output = Command::new(&self.executable).args(["--list", "--format=terse"]).output()?;
        let listed = String::from_utf8_lossy(&output.stdout);
        Ok(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }

    /// The tests of all of them, which are of one program.
    pub fn joined(suites: &[Self]) -> Option<Self> {
        let [first, more @ ..] = suites else { return None };
        if more.is_empty() {
            return Some(first.clone());
        }
        let tests = suites.iter().flat_map(|suite| suite.only.iter().flatten().cloned()).collect();
        Some(Self { name: PROGRAM.to_owned(), only: Some(tests), ..first.clone() })
    }

    /// By which those of one program stand together.
    pub fn order(&self) -> (&Path, &str) {
        (&self.executable, &self.name)
    }

    /// Whether both are of one program.
    pub fn shares_program_with(&self, other: &Self) -> bool {
        self.executable == other.executable
    }

    /// With those tests only that have `part` in their names; none if no test has.
    pub fn narrowed(&self, part: &str) -> io::Result<Option<Self>> {
        let names: Vec<_> = self.tests()?.into_iter().filter(|name| name.contains(part)).collect();
        Ok((!names.is_empty()).then(|| Self { only: Some(names), ..self.clone() }))
    }

    /// Itself, or its modules if it is the program that holds most integration tests.
    fn split(self) -> io::Result<Vec<Self>> {
        if self.name != PROGRAM {
            return Ok(vec![self]);
        }
        let modules = by_module(self.tests()?);
        Ok(modules.into_iter().map(|(name, tests)| Self { name, only: Some(tests), ..self.clone() }).collect())
    }
}

/// Tests by the module that they stand in: a folder of `tests/it` and a file in it, or a file of `tests/it`.
fn by_module(tests: Vec<String>) -> BTreeMap<String, Vec<String>> {
    let mut modules = BTreeMap::<String, Vec<String>>::new();
    for test in tests {
        let mut parts = test.split("::").collect::<Vec<_>>();
        // The cases of a test are a module of its name.
        if parts.last().is_some_and(|name| name.starts_with("case_")) {
            parts.pop();
        }
        parts.pop();
        modules.entry(parts.join("::")).or_default().push(test.clone());
    }
    modules
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
pub async fn build(selection: &Selection, log: &Path) -> Result<Option<Vec<Suite>>> {
    let part = match selection {
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
    let mut suites = Vec::new();
    for suite in messages.lines().filter_map(suite) {
        suites.extend(suite.split()?);
    }
    Ok(Some(suites))
}

fn suite(line: &str) -> Option<Suite> {
    let message: Message = serde_json::from_str(line).ok()?;
    let (target, executable) = (message.target?, message.executable?);
    if !message.profile?.test {
        return None;
    }
    let integration = target.kind.iter().any(|kind| kind == "test");
    let kind = if integration { Kind::Integration } else { Kind::Unit };
    let directory = message.manifest_path?.parent()?.to_owned();
    Some(Suite { name: target.name, kind, executable, directory, only: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_by_their_modules() {
        let names = ["plan::checks::a_pin", "plan::checks::a_line::case_1_v1", "structure::one_way"];
        let modules = by_module(names.map(str::to_owned).to_vec());
        assert_eq!(modules.keys().collect::<Vec<_>>(), ["plan::checks", "structure"]);
        assert_eq!(modules["plan::checks"], names[..2]);
    }

    #[test]
    fn test_programs_are_told_from_other_artifacts() {
        let message = |kind: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/p/Cargo.toml","executable":"/t/x-1",
                "target":{{"name":"x","kind":["{kind}"]}},"profile":{{"test":{test}}}}}"#
            )
        };
        let integration = suite(&message("test", true)).unwrap();
        assert_eq!((integration.kind, integration.directory.as_path()), (Kind::Integration, Path::new("/w/p")));
        assert_eq!(suite(&message("bin", true)).unwrap().kind, Kind::Unit);
        assert!(suite(&message("bin", false)).is_none());
        assert!(suite(r#"{"reason":"build-finished","success":true}"#).is_none());
    }
}
