//! What a test run found, as a table.

use std::fmt;
use std::time::Duration;

use super::command::Outcome;

/// The steps in the order in which they ran, and the failed tests in them.
#[derive(Debug, Default)]
pub struct Summary {
    rows: Vec<Row>,
    /// The name of each failed test with the words that it ended with.
    failures: Vec<(String, String)>,
    /// The name of each test that showed nothing on this node, with the reason.
    left_out: Vec<(String, String)>,
}

/// One step.
#[derive(Debug)]
pub struct Row {
    name: String,
    passed: usize,
    failed: usize,
    /// None for a part of a step.
    took: Option<Duration>,
}

impl Row {
    /// A step that is one test by itself.
    pub fn check(name: &str, success: bool, took: Duration) -> Self {
        Self { name: name.to_owned(), passed: usize::from(success), failed: usize::from(!success), took: Some(took) }
    }

    /// A step that tests nothing, but without which others cannot run: it counts only if it fails.
    pub fn setup(name: &str, success: bool, took: Duration) -> Self {
        Self { name: name.to_owned(), passed: 0, failed: usize::from(!success), took: Some(took) }
    }

    /// A step that ran test programs. One that failed without a failed test (it did not compile, it was killed)
    /// counts as one failure.
    pub fn tests(name: &str, outcome: &Outcome, took: Duration) -> Self {
        let failed = if outcome.success { outcome.failed } else { outcome.failed.max(1) };
        let passed = outcome.passed.saturating_sub(outcome.left_out.len());
        Self { name: name.to_owned(), passed, failed, took: Some(took) }
    }

    /// Tests that ran among others in one step, whose time is told for all.
    pub fn part(name: &str, outcome: &Outcome) -> Self {
        Self { took: None, ..Self::tests(name, outcome, Duration::ZERO) }
    }
}

impl Summary {
    /// Adds a step.
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds tests that failed in a step, each with the words that it ended with.
    pub fn explain(&mut self, failures: Vec<(String, String)>) {
        self.failures.extend(failures);
    }

    /// Adds tests that showed nothing on this node, each with the reason.
    pub fn leave_out(&mut self, tests: Vec<(String, String)>) {
        self.left_out.extend(tests);
    }

    /// How much failed.
    pub fn failed(&self) -> usize {
        self.rows.iter().map(|row| row.failed).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.name.len()).chain(["step".len()]).max().unwrap_or_default();
        writeln!(f, "\n{:width$}  result  passed  failed  seconds", "step")?;
        for Row { name, passed, failed, took } in &self.rows {
            let result = if *failed == 0 { "ok" } else { "FAILED" };
            let took = took.map(|took| format!("  {:7.1}", took.as_secs_f64())).unwrap_or_default();
            writeln!(f, "{name:width$}  {result:6}  {passed:6}  {failed:6}{took}")?;
        }
        if !self.failures.is_empty() {
            writeln!(f, "\nfailed:")?;
        }
        for (name, cause) in &self.failures {
            writeln!(f, "  {name}: {cause}")?;
        }
        if !self.left_out.is_empty() {
            writeln!(f, "\nleft out: {}", self.left_out.len())?;
        }
        for (name, why) in &self.left_out {
            writeln!(f, "  {name}: {why}")?;
        }
        let passed: usize = self.rows.iter().map(|row| row.passed).sum();
        writeln!(f, "\n{passed} passed, {} failed", self.failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_sum() {
        let mut summary = Summary::default();
        summary.add(Row::check("fmt", true, Duration::from_millis(1260)));
        let outcome = Outcome { success: false, passed: 12, failed: 2, ..Outcome::default() };
        summary.add(Row::tests("upgrade", &outcome, Duration::from_secs(61)));
        summary.explain(vec![("upgrade::a".into(), "tests/a.rs:3:5: left: 1".into())]);
        let text = summary.to_string();
        assert!(text.contains("\nfailed:\n  upgrade::a: tests/a.rs:3:5: left: 1\n"), "{text}");
        assert_eq!(text.lines().last(), Some("13 passed, 2 failed"));
        assert!(text.contains("fmt      ok           1       0      1.3"), "{text}");
        assert!(text.contains("upgrade  FAILED      12       2     61.0"), "{text}");
    }

    #[test]
    fn what_is_left_out_counts_as_neither() {
        let left_out = vec![("a::b".to_owned(), "not on the real node: no".to_owned())];
        let outcome = Outcome { passed: 3, left_out: left_out.clone(), ..Outcome::default() };
        let mut summary = Summary::default();
        summary.add(Row::tests("a", &outcome, Duration::ZERO));
        summary.leave_out(left_out);
        let text = summary.to_string();
        assert!(text.contains("\nleft out: 1\n  a::b: not on the real node: no\n"), "{text}");
        assert_eq!(text.lines().last(), Some("2 passed, 0 failed"));
    }

    #[test]
    fn a_program_that_was_killed_is_a_failure() {
        let outcome = Outcome { success: false, passed: 3, ..Outcome::default() };
        assert_eq!(Row::tests("upgrade", &outcome, Duration::ZERO).failed, 1);
    }
}
