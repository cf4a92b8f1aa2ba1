//! The structure that the code promises: dependencies point one way, and what decides does not act.

use std::path::{Path, PathBuf};

/// What a folder of `src` may use of the others.
const MAY_USE: [(&str, &[&str]); 4] = [
    ("api", &["api"]),
    ("core", &["api", "core"]),
    ("controller", &["api", "core", "controller"]),
    ("runner", &["api", "core", "runner"]),
];

/// What the pure folders must not mention: clients, clocks, the environment, files, tasks and logs.
const IMPURE: [&str; 12] = [
    "tokio",
    "kube::Client",
    "kube::Api",
    "::Api<",
    "std::env",
    "std::fs",
    "std::process",
    "tracing",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
];

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The code of a file without comments and without its tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn source(folder: &str) -> Vec<PathBuf> {
    let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder));
    assert!(!files.is_empty(), "src/{folder} is empty");
    files.into_iter().filter(|path| !path.ends_with("tests.rs")).collect()
}

#[test]
fn dependencies_point_one_way() {
    for (folder, allowed) in MAY_USE {
        for path in source(folder) {
            let code = code(&path);
            for (other, _) in MAY_USE.iter().filter(|(other, _)| !allowed.contains(other)) {
                let used = code.contains(&format!("crate::{other}")) || crate_group(&code).any(|name| name == *other);
                assert!(!used, "{} uses {other}: src/{folder} may use {allowed:?} only", path.display());
            }
        }
    }
}

/// The modules named by `use crate::{a::…, b::…}`.
fn crate_group(code: &str) -> impl Iterator<Item = &str> {
    code.split("use crate::{").skip(1).flat_map(|rest| {
        let group = rest.split(';').next().unwrap_or_default();
        group.split([',', '{', '}', '\n']).filter_map(|item| item.trim().split("::").next())
    })
}

#[test]
fn what_decides_does_not_act() {
    for path in ["api", "core"].into_iter().flat_map(source) {
        let code = code(&path);
        for word in IMPURE {
            assert!(!code.contains(word), "{} mentions {word}: what is not async is pure", path.display());
        }
    }
}

#[test]
fn the_controller_knows_neither_helm_nor_secrets() {
    for path in source("controller") {
        let code = code(&path);
        for word in ["Secret", "Command::new", "runner::"] {
            assert!(!code.contains(word), "{} mentions {word}", path.display());
        }
    }
}

#[test]
fn files_have_one_subject() {
    for (folder, _) in MAY_USE {
        for path in source(folder) {
            let lines = code(&path).lines().count();
            assert!(lines <= 400, "{} has {lines} lines: split it", path.display());
        }
    }
}
