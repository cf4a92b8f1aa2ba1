//! Runs the Go compiler.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{Component, ComponentError};

/// How often a long build says that it is still at it.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How much of a failed build is shown; the cause is at its end.
const LAST_LINES: usize = 30;

/// Builds `component` to `target`, with its module written to `module_dir`. Calls `at_it` at the start and every
/// 15 seconds.
pub(super) fn build(
    component: Component,
    module_dir: &Path,
    target: &Path,
    at_it: impl Fn(),
) -> Result<(), ComponentError> {
    write_module(component, module_dir)?;
    require_go(component, module_dir)?;
    at_it();
    let mut command = go(module_dir);
    command.args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags"]);
    command.arg(component.linker_flags()).arg("-o").arg(target).arg(component.package());
    let output = output_with_heartbeat(command, at_it).map_err(|source| ComponentError::Io {
        component: component.name(),
        what: "run the Go compiler in",
        path: module_dir.to_owned(),
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(ComponentError::Build {
        component: component.name(),
        version: component.version().to_owned(),
        output: last_lines(&String::from_utf8_lossy(&output.stderr)),
    })
}

/// The directory of the component's own module in Go's cache; downloads it if it is not there any more.
pub(super) fn sources(component: Component, module_dir: &Path) -> Result<PathBuf, ComponentError> {
    let failed = |source| ComponentError::Io {
        component: component.name(),
        what: "have Go find the sources for",
        path: module_dir.to_owned(),
        source,
    };
    let output = go(module_dir).args(["mod", "download", "-json", component.release()]).output().map_err(failed)?;
    let answer: Value = serde_json::from_slice(&output.stdout).map_err(|error| failed(error.into()))?;
    match answer["Dir"].as_str() {
        Some(dir) => Ok(dir.into()),
        None => Err(failed(io::Error::other(answer["Error"].to_string()))),
    }
}

/// `go`, free of settings of the developer's environment that would change the result.
fn go(module_dir: &Path) -> Command {
    let mut command = Command::new("go");
    command.current_dir(module_dir).env("CGO_ENABLED", "0").env("GOFLAGS", "").env("GOWORK", "off");
    command.env_remove("GOOS").env_remove("GOARCH");
    command
}

fn write_module(component: Component, dir: &Path) -> Result<(), ComponentError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ComponentError::Io { component: component.name(), what, path, source }
    };
    std::fs::create_dir_all(dir).map_err(failed("create", dir))?;
    for (name, text) in component.module_files() {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(failed("write", &path))?;
    }
    Ok(())
}

/// Asks `go` inside of the module, where it compares its version with the module's demand (and may fetch a newer self).
fn require_go(component: Component, module_dir: &Path) -> Result<(), ComponentError> {
    let (name, wanted) = (component.name(), component.go_version().to_owned());
    match go(module_dir).arg("version").output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(ComponentError::GoTooOld { component: name, wanted, said })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(ComponentError::GoMissing { component: name, wanted })
        }
        Err(source) => {
            Err(ComponentError::Io { component: name, what: "run `go` in", path: module_dir.into(), source })
        }
    }
}

fn output_with_heartbeat(mut command: Command, at_it: impl Fn()) -> io::Result<Output> {
    let (tell, told) = mpsc::channel::<()>();
    let waiter = thread::spawn(move || {
        let output = command.output();
        drop(tell); // hanging up ends the wait
        output
    });
    while let Err(RecvTimeoutError::Timeout) = told.recv_timeout(HEARTBEAT) {
        at_it();
    }
    waiter.join().unwrap_or_else(|_| Err(io::Error::other("the thread that waited for it panicked")))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
