//! The workflows of a public repository, which nothing runs here: what they call must exist.

use std::path::PathBuf;

use clap::Parser;
use serde_json::Value;

use crate::{Xtask, workspace};

/// All workflows, parsed.
fn workflows() -> Vec<(PathBuf, Value)> {
    let directory = workspace::root().join(".github/workflows");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let parsed = |path: PathBuf| {
        let value = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap());
        let value = value.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, value)
    };
    files.map(parsed).collect()
}

/// The steps of all jobs.
fn steps(workflow: &Value) -> Vec<&Value> {
    let jobs = workflow["jobs"].as_object().expect("a workflow has jobs");
    jobs.values().flat_map(|job| job["steps"].as_array().expect("a job has steps")).collect()
}

/// The words after `cargo xtask` on each line of a script that calls it. A variable is one word.
fn calls(script: &str) -> Vec<Vec<&str>> {
    let script = script.lines().flat_map(|line| line.split("&&"));
    let calls = script.filter_map(|line| line.trim().strip_prefix("cargo xtask"));
    calls.map(|call| call.split_whitespace().take_while(|word| !word.starts_with(['|', '>', '#'])).collect()).collect()
}

#[test]
fn every_command_of_a_workflow_exists_with_its_flags() {
    let mut count = 0;
    for (path, workflow) in workflows() {
        for call in steps(&workflow).iter().filter_map(|step| step["run"].as_str()).flat_map(calls) {
            let parsed = Xtask::try_parse_from(std::iter::once("cargo xtask").chain(call.iter().copied()));
            assert!(parsed.is_ok(), "{}: cargo xtask {call:?}: {}", path.display(), parsed.err().unwrap());
            count += 1;
        }
    }
    assert!(count > 5, "{count} commands were found");
}

#[test]
fn actions_are_named_by_a_commit_and_its_version() {
    let mut count = 0;
    for (path, workflow) in workflows() {
        let text = std::fs::read_to_string(&path).unwrap();
        for uses in steps(&workflow).iter().filter_map(|step| step["uses"].as_str()) {
            let commit = uses.split_once('@').unwrap().1;
            let is_commit = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
            assert!(is_commit, "{}: {uses} can become another program", path.display());
            assert!(text.contains(&format!("{uses} # v")), "{}: {uses} has no version beside it", path.display());
            count += 1;
        }
    }
    assert!(count > 5, "{count} actions were found");
}

#[test]
fn workflows_have_no_right_that_no_job_asks_for() {
    for (path, workflow) in workflows() {
        assert_eq!(workflow["permissions"], serde_json::json!({"contents": "read"}), "{}", path.display());
    }
}

#[test]
fn commands_are_found_in_scripts() {
    let script = "cargo xtask test fmt\n  cargo xtask release --image \"$IMAGE\" && cargo xtask book | tee log\necho cargo xtask no\n";
    let expected = [vec!["test", "fmt"], vec!["release", "--image", "\"$IMAGE\""], vec!["book"]];
    assert_eq!(calls(script), expected);
    assert!(Xtask::try_parse_from(["cargo xtask", "releases"]).is_err());
}
