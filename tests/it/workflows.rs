//! The workflows that GitHub would run: nothing here can, so its linter reads them.

use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::components::Component;

use crate::common::{files, program};

/// What the linter says of workflows. Linters of scripts are left out: whether a machine has them is not known.
fn findings(workflows: &[PathBuf]) -> String {
    let mut linter = Command::new(program(Component::Actionlint));
    linter.args(["-no-color", "-oneline", "-shellcheck=", "-pyflakes="]).args(workflows);
    let output = linter.output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.success(), said.is_empty(), "{}: {said}", output.status);
    said
}

#[test]
fn nothing_is_found_in_any_workflow() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut workflows = files(&root.join(".github/workflows"));
    assert!(workflows.len() >= 3, "{workflows:?}");
    workflows.push(root.join("deploy/gitops/github-actions.yaml"));
    assert_eq!(findings(&workflows), "");
}

#[test]
fn an_expression_that_names_no_step_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let workflow = directory.path().join("workflow.yaml");
    let text = "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo \"$CODE\"\n        env:\n          CODE: ${{ steps.plan.outputs.code }}\n";
    std::fs::write(&workflow, text).unwrap();
    let found = findings(&[workflow]);
    assert!(found.contains("\"plan\""), "{found}");
}
