//! The table of docs/performance.md.

use std::fmt::{self, Display};
use std::thread::available_parallelism;

use super::Pair;

/// What was measured.
pub struct Report {
    heading: String,
    lines: Vec<Line>,
}

/// One measured thing.
pub struct Line {
    what: String,
    measured: String,
    goal: &'static str,
}

impl Line {
    /// A thing, what was measured and what is aimed at.
    pub fn new(what: impl Into<String>, measured: impl Display, goal: &'static str) -> Self {
        Self { what: what.into(), measured: measured.to_string(), goal }
    }
}

impl Report {
    /// An empty table for this machine.
    pub fn new(rounds: usize, slow_rounds: usize) -> Self {
        let cores = available_parallelism().map_or_else(|_| "?".to_owned(), |cores| cores.to_string());
        let heading = format!("{cores} cores; {rounds} pairs of instant rollouts, {slow_rounds} pairs of 60 s");
        Self { heading, lines: Vec::new() }
    }

    /// Adds a line.
    pub fn add(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// Adds the wall times of a scenario.
    pub fn rollout(&mut self, what: &str, pairs: &[Pair], goal: &'static str) {
        if pairs.is_empty() {
            return;
        }
        let operator = median(&pairs.iter().map(|pair| pair.operator.took.as_secs_f64()).collect::<Vec<_>>());
        let helm = median(&pairs.iter().map(|pair| pair.helm.took.as_secs_f64()).collect::<Vec<_>>());
        let measured =
            format!("{operator:.2} s against {helm:.2} s: {:.3} ×, {:+.2} s", operator / helm, operator - helm);
        self.add(Line::new(format!("{what}: operator against `helm upgrade --wait`, medians"), measured, goal));
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.heading)?;
        writeln!(f, "| what | measured | goal |\n| --- | --- | --- |")?;
        for Line { what, measured, goal } in &self.lines {
            writeln!(f, "| {what} | {measured} | {goal} |")?;
        }
        Ok(())
    }
}

/// The value in the middle; of an even number the mean of the two; 0 if there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).abs() < f64::EPSILON);
    }
}
