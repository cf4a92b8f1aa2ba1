//! Which steps a test run consists of.

use std::io;

use super::binaries::{Kind, Suite};
use super::command::Invocation;
use crate::Result;

/// The steps that are one command and need no test program.
const CHECKS: [&str; 6] = ["fmt", "generated", "book", "release", "clippy", "docs"];

/// What the filter on the command line selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// No filter.
    Everything,
    /// One of the checks.
    Check(&'static str),
    /// All unit and documentation tests.
    Unit,
    /// The integration tests of a file or a folder, or else all tests whose name contains this.
    Named(String),
}

impl Selection {
    /// What a filter means.
    pub fn of(filter: Option<&str>) -> Self {
        let Some(filter) = filter else { return Self::Everything };
        if let Some(check) = CHECKS.iter().find(|check| **check == filter) {
            return Self::Check(check);
        }
        match filter {
            "unit" => Self::Unit,
            name => Self::Named(name.to_owned()),
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
        "book" => Invocation::program(std::env::current_exe()?, &["book"]),
        "release" => Invocation::program(std::env::current_exe()?, &["release"]),
        "clippy" => Invocation::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        // With private items: the documentation is for those who work on the code.
        _ => Invocation::cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    })
}

/// The tests to run.
#[derive(Debug)]
pub struct Plan {
    /// Unit tests.
    pub unit: Vec<Suite>,
    /// Whether the examples in the documentation are run.
    pub doc_tests: bool,
    /// Integration tests.
    pub integration: Vec<Suite>,
    /// Whether these are all tests.
    pub is_everything: bool,
}

impl Plan {
    /// Chooses among the tests that were built. A filter that matches nothing is an error: it is a slip of the pen.
    pub fn new(selection: &Selection, suites: Vec<Suite>) -> Result<Self> {
        let (unit, mut integration): (Vec<_>, Vec<_>) = suites.into_iter().partition(|suite| suite.kind == Kind::Unit);
        integration.sort_by(|a, b| a.order().cmp(&b.order()));
        let doc_tests = matches!(selection, Selection::Everything | Selection::Unit);
        let is_everything = *selection == Selection::Everything;
        let name = match selection {
            Selection::Everything => return Ok(Self { unit, doc_tests, integration, is_everything }),
            Selection::Unit => return Ok(Self { unit, doc_tests, integration: Vec::new(), is_everything }),
            Selection::Check(_) => {
                return Ok(Self { unit: Vec::new(), doc_tests, integration: Vec::new(), is_everything });
            }
            Selection::Named(name) => name,
        };
        let called: Vec<_> = integration.iter().filter(|suite| suite.is_called(name)).cloned().collect();
        if !called.is_empty() {
            return Ok(Self { unit: Vec::new(), doc_tests, integration: called, is_everything });
        }
        let narrowed = |suites: Vec<Suite>| -> io::Result<Vec<_>> {
            suites.iter().filter_map(|suite| suite.narrowed(name).transpose()).collect()
        };
        let names = integration.iter().map(|suite| suite.name.clone()).collect::<Vec<_>>().join(", ");
        let plan = Self { unit: narrowed(unit)?, doc_tests, integration: narrowed(integration)?, is_everything };
        if plan.unit.is_empty() && plan.integration.is_empty() {
            let steps = CHECKS.join(", ");
            return Err(format!(
                "{name:?} is neither a step ({steps}, unit) nor the name of integration tests ({names}), and no test has it in its name"
            )
            .into());
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_step_or_a_name() {
        assert_eq!(Selection::of(None), Selection::Everything);
        assert_eq!(Selection::of(Some("clippy")), Selection::Check("clippy"));
        assert_eq!(Selection::of(Some("unit")), Selection::Unit);
        assert_eq!(Selection::of(Some("plan::checks")), Selection::Named("plan::checks".to_owned()));
    }

    #[test]
    fn a_part_runs_only_its_check() {
        let names = |selection| checks(&selection).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(Selection::Everything), CHECKS);
        assert_eq!(names(Selection::Check("docs")), ["docs"]);
        assert!(names(Selection::Unit).is_empty());
    }
}
