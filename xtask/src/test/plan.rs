//! Which steps a test run consists of.

use super::binaries::{Kind, TestBinary};
use super::command::Invocation;
use crate::Result;

/// The steps that are one command and need no test program.
const CHECKS: [&str; 4] = ["fmt", "generated", "clippy", "docs"];

/// What the filter on the command line selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// No filter.
    Everything,
    /// One of the checks.
    Check(&'static str),
    /// All unit and documentation tests.
    Unit,
    /// A file of integration tests.
    File(String),
    /// All tests whose name contains this.
    Tests(String),
}

impl Selection {
    /// What a filter means, given the names of the files of integration tests.
    pub fn of(filter: Option<&str>, files: &[String]) -> Self {
        let Some(filter) = filter else { return Self::Everything };
        if let Some(check) = CHECKS.iter().find(|check| **check == filter) {
            return Self::Check(check);
        }
        match filter {
            "unit" => Self::Unit,
            file if files.iter().any(|name| name == file) => Self::File(file.to_owned()),
            name => Self::Tests(name.to_owned()),
        }
    }

    /// Whether test programs are built at all.
    pub fn needs_binaries(&self) -> bool {
        !matches!(self, Self::Check(_))
    }
}

/// The checks that are selected, cheap ones first.
pub fn checks(selection: &Selection) -> Result<Vec<(&'static str, Invocation)>> {
    let selected = CHECKS.into_iter().filter(|check| match selection {
        Selection::Everything => true,
        Selection::Check(selected) => selected == check,
        _ => false,
    });
    selected.map(|check| Ok((check, check_invocation(check)?))).collect()
}

fn check_invocation(check: &str) -> Result<Invocation> {
    Ok(match check {
        "fmt" => Invocation::cargo(&["fmt", "--all", "--check"]),
        "generated" => Invocation::program(std::env::current_exe()?, &["generate", "--check"]),
        "clippy" => Invocation::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        // With private items: the documentation is for those who work on the code.
        _ => Invocation::cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    })
}

/// The test programs to run.
#[derive(Debug)]
pub struct Plan {
    /// Programs with unit tests.
    pub unit: Vec<TestBinary>,
    /// Whether the examples in the documentation are run.
    pub doc_tests: bool,
    /// Programs with integration tests.
    pub integration: Vec<TestBinary>,
    /// Part of the names of the tests to run; empty for all.
    pub filter: String,
}

impl Plan {
    /// Chooses among the programs that were built. A filter that matches nothing is an error: it is a slip of the pen.
    pub fn new(selection: &Selection, binaries: Vec<TestBinary>) -> Result<Self> {
        let filter = if let Selection::Tests(filter) = selection { filter.clone() } else { String::new() };
        let mut files: Vec<_> = binaries.iter().filter(|binary| binary.kind == Kind::Integration).collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let files = files.iter().map(|binary| binary.name.as_str()).collect::<Vec<_>>().join(", ");
        let mut selected = Vec::new();
        for binary in binaries {
            let wanted = match selection {
                Selection::Everything => true,
                Selection::Check(_) => false,
                Selection::Unit => binary.kind == Kind::Unit,
                Selection::File(name) => binary.kind == Kind::Integration && binary.name == *name,
                Selection::Tests(filter) => binary.count(filter)? > 0,
            };
            if wanted {
                selected.push(binary);
            }
        }
        if selected.is_empty() {
            let steps = CHECKS.join(", ");
            return Err(format!(
                "{filter:?} is neither a step ({steps}, unit) nor a file of integration tests ({files}), and no test has it in its name"
            )
            .into());
        }
        let (unit, mut integration): (Vec<_>, Vec<_>) =
            selected.into_iter().partition(|binary| binary.kind == Kind::Unit);
        integration.sort_by(|a, b| a.name.cmp(&b.name));
        let doc_tests = matches!(selection, Selection::Everything | Selection::Unit);
        Ok(Self { unit, doc_tests, integration, filter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_step_or_a_file_or_part_of_a_name() {
        let files = ["upgrade".to_owned(), "cluster".to_owned()];
        let of = |filter| Selection::of(Some(filter), &files);
        assert_eq!(Selection::of(None, &files), Selection::Everything);
        assert_eq!(of("clippy"), Selection::Check("clippy"));
        assert_eq!(of("unit"), Selection::Unit);
        assert_eq!(of("upgrade"), Selection::File("upgrade".to_owned()));
        assert_eq!(of("upgrade_v1"), Selection::Tests("upgrade_v1".to_owned()));
    }

    #[test]
    fn a_part_runs_only_its_check() {
        let names = |selection| checks(&selection).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(Selection::Everything), CHECKS);
        assert_eq!(names(Selection::Check("docs")), ["docs"]);
        assert!(names(Selection::Unit).is_empty());
    }
}
