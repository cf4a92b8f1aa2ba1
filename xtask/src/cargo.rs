//! Starts cargo, and programs that may start it, as a person at a terminal would.
//!
//! `cargo xtask` is `cargo run`, which describes the package `xtask` to us in variables such as `CARGO_PKG_NAME`. Build scripts
//! (that of `ring`) watch variables of these names: a cargo that inherits ours takes them for changed and compiles the script's
//! crate and everything above it once more, and the next cargo that does not inherit them compiles it all back.

use std::ffi::{OsStr, OsString};

use tokio::process::Command;

use crate::{Result, workspace};

/// What cargo sets for programs that it runs, and for compilers and build scripts, as its reference says ("Environment
/// Variables"). Everything else that begins with `CARGO_` is a setting of the user, such as `CARGO_TARGET_DIR`.
const SET_BY_CARGO: [&str; 8] = [
    "CARGO",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_MAKEFLAGS",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_RUSTC_CURRENT_DIR",
    "CARGO_TARGET_TMPDIR",
    "OUT_DIR",
];
/// How the others begin: there is one for each field of a manifest, binary, feature or configuration option.
const SET_BY_CARGO_FOR_EACH: [&str; 5] =
    ["CARGO_BIN_EXE_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_MANIFEST_", "CARGO_PKG_"];

/// The cargo that runs us.
pub fn path() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs cargo in the root of the workspace. It tells errors by itself.
pub async fn run(arguments: &[&str]) -> Result<()> {
    let status = program(path()).current_dir(workspace::root()).args(arguments).status().await?;
    let command = arguments.first().unwrap_or(&"");
    if status.success() { Ok(()) } else { Err(format!("cargo {command}: {status}").into()) }
}

/// A program with our environment, less what cargo has set for us.
pub fn program(program: impl AsRef<OsStr>) -> Command {
    with_environment(program, std::env::vars_os())
}

fn with_environment(program: impl AsRef<OsStr>, inherited: impl Iterator<Item = (OsString, OsString)>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(inherited.filter(|(name, _)| !is_set_by_cargo(&name.to_string_lossy())));
    command
}

fn is_set_by_cargo(name: &str) -> bool {
    SET_BY_CARGO.contains(&name) || SET_BY_CARGO_FOR_EACH.iter().any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::build;

    /// Builds with a cargo that is called from a program whose environment has these variables, too; returns what cargo says of
    /// each crate.
    async fn build_with(arguments: &[&str], planted: &[(&str, &str)]) -> Vec<Value> {
        let planted = planted.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let mut cargo = with_environment(path(), std::env::vars_os().chain(planted));
        cargo.current_dir(workspace::root()).args(arguments).arg("--message-format=json");
        let output = cargo.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8(output.stdout).unwrap();
        let messages = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        messages.filter(|message| message["reason"] == "compiler-artifact").collect()
    }

    #[tokio::test]
    async fn a_second_build_compiles_nothing_whatever_package_the_caller_belongs_to() {
        let programs = build::WORKSPACE_PROGRAMS;
        build_with(&programs, &[]).await;
        let callers = [("CARGO_PKG_NAME", "x"), ("CARGO_MANIFEST_DIR", "/nowhere"), ("CARGO_PKG_VERSION_MAJOR", "9")];
        let inside = [("CARGO_MANIFEST_LINKS", "x"), ("CARGO_CFG_TARGET_OS", "x"), ("OUT_DIR", "/nowhere")];
        for planted in [callers, inside] {
            let crates = build_with(&programs, &planted).await;
            assert!(crates.iter().any(|one| one["target"]["name"] == "ring"), "{crates:?}");
            let compiled: Vec<_> = crates.iter().filter(|one| one["fresh"] == false).collect();
            assert!(compiled.is_empty(), "{planted:?}: {compiled:?}");
        }
    }

    #[tokio::test]
    async fn tests_are_built_of_the_same_crates_as_the_programs() {
        let files = |crates: &[Value]| -> BTreeSet<String> {
            let libraries = crates.iter().filter(|one| one["target"]["kind"] != json!(["bin"]));
            libraries.flat_map(|one| one["filenames"].as_array().unwrap()).map(ToString::to_string).collect()
        };
        let programs = files(&build_with(&build::WORKSPACE_PROGRAMS, &[]).await);
        let tests = files(&build_with(&["test", "--quiet", "--workspace", "--no-run"], &[]).await);
        let compiled_twice: Vec<_> = programs.difference(&tests).collect();
        assert!(
            compiled_twice.is_empty(),
            "a dependency of tests alone changes a feature of these: {compiled_twice:#?}"
        );
    }

    #[test]
    fn settings_of_the_user_stay() {
        let set =
            ["HOME", "CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_BUILD_JOBS", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY"];
        let more = ["CARGO_REGISTRIES_A_TOKEN", "CARGO_TERM_COLOR", "CARGO_PROFILE_DEV_DEBUG", "CARGO_INCREMENTAL"];
        let flags = ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC_WRAPPER", "RUSTUP_TOOLCHAIN", "RUST_BACKTRACE"];
        let users: Vec<_> = [&set[..], &more, &flags].concat();
        let cargos = ["CARGO", "CARGO_PKG_NAME", "CARGO_BIN_EXE_xtask", "CARGO_FEATURE_STD", "CARGO_MANIFEST_PATH"];
        let inherited = users.iter().chain(&cargos).map(|name| (OsString::from(name), OsString::from("x")));
        let command = with_environment("cargo", inherited);
        let mut left: Vec<_> = command.as_std().get_envs().map(|(name, _)| name.to_str().unwrap()).collect();
        let mut users = users;
        users.sort_unstable();
        left.sort_unstable();
        assert_eq!(left, users);
    }
}
