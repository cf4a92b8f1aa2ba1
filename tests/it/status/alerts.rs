//! The alerts of deploy/monitoring, as promtool sees them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::prometheus::{file, groups, installed_or_left_out};

/// What each alert fires for, and what it does not fire for.
const UNIT_TESTS: &str = "tests/monitoring/alerts.yaml";

fn promtool(program: &Path, arguments: &[&str], directory: &Path) {
    let output = Command::new(program).args(arguments).current_dir(directory).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}

#[test]
fn every_alert_fires_when_it_should_and_not_otherwise() {
    let Some(program) = installed_or_left_out("promtool") else { return };
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("rules.yaml"), groups().to_string()).unwrap();
    std::fs::write(directory.path().join("alerts.yaml"), file(UNIT_TESTS)).unwrap();
    promtool(&program, &["check", "rules", "rules.yaml"], directory.path());
    promtool(&program, &["test", "rules", "alerts.yaml"], directory.path());
}

#[test]
fn every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() {
    let tests: Value = serde_saphyr::from_str(&file(UNIT_TESTS)).unwrap();
    let cases: Vec<_> =
        tests["tests"].as_array().unwrap().iter().filter_map(|t| t["alert_rule_test"].as_array()).collect();
    let with = |fires: bool| -> BTreeSet<String> {
        let cases = cases.iter().copied().flatten();
        let cases = cases.filter(|case| case["exp_alerts"].as_array().is_some_and(|alerts| alerts.is_empty() != fires));
        cases.map(|case| case["alertname"].as_str().unwrap().to_owned()).collect()
    };
    let groups = groups();
    let rules = groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    let alerts: BTreeSet<String> = rules.map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect();
    assert_eq!(with(true), alerts);
    assert_eq!(with(false), alerts);
}
