//! A terminal of an administrator: a kubeconfig, helm in the PATH, and the program itself.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::components::Component;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{World, program};

/// What a run of a command printed, and its exit code.
pub struct Shown {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Shown {
    pub fn json(&self) -> Value {
        assert!(!self.out.is_empty(), "nothing printed: {}", self.err);
        serde_json::from_str(&self.out).unwrap()
    }
}

impl From<Output> for Shown {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let shown = Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
        println!("--- exit code {}\n{}{}", shown.code, shown.out, shown.err);
        shown
    }
}

pub struct Terminal {
    pub kubeconfig: String,
    pub bin: TempDir,
}

impl Terminal {
    /// With a kubeconfig that leads nowhere: nobody listens on port 1.
    pub fn offline() -> Self {
        let bin = tempfile::tempdir().unwrap();
        let kubeconfig = bin.path().join("config");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}], "users": [{"name": "x", "user": {}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { kubeconfig: kubeconfig.display().to_string(), bin }
    }

    pub async fn of(world: &World) -> Self {
        let bin = tempfile::tempdir().unwrap();
        let helm = tokio::task::spawn_blocking(|| program(Component::Helm)).await.unwrap();
        symlink(helm, bin.path().join("helm")).unwrap();
        Self { kubeconfig: world.cluster.kubeconfig().display().to_string(), bin }
    }

    /// Runs the program with the input as its standard input.
    pub async fn run(&self, arguments: &[&str], input: &str) -> Shown {
        self.start(Command::new(env!("CARGO_BIN_EXE_coder-upgrade-operator")).env_clear().args(arguments), input).await
    }

    async fn start(&self, command: &mut Command, input: &str) -> Shown {
        let mut child = command
            .env("PATH", self.bin.path())
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // A program that reads no input may have ended before it is written.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
        child.wait_with_output().await.unwrap().into()
    }

    /// Runs kubectl, which finds the program as its plugin.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> Shown {
        let kubectl = self.with_kubectl().await;
        self.start(Command::new(kubectl).args(arguments).env("HOME", self.bin.path()), input).await
    }

    /// Runs a script of a pipeline in a directory, with kubectl and its plugin in the PATH. It ends at the first command that fails.
    pub async fn script(&self, script: &str, directory: &Path) -> Shown {
        self.with_kubectl().await;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-e", "-c", script]).current_dir(directory).env_clear().env("HOME", self.bin.path());
        self.start(shell.env("GITHUB_OUTPUT", directory.join("output")), "").await
    }

    /// Puts kubectl and the plugin into the PATH; they are there already from the second time on.
    async fn with_kubectl(&self) -> PathBuf {
        let own = PathBuf::from(env!("CARGO_BIN_EXE_coder-upgrade-operator"));
        let kubectl = tokio::task::spawn_blocking(|| program(Component::Kubectl)).await.unwrap();
        let names = [("kubectl", &kubectl), ("kubectl-coder_upgrade", &own), ("kubectl_complete-coder_upgrade", &own)];
        for (name, program) in names {
            let _ = symlink(program, self.bin.path().join(name));
        }
        kubectl
    }

    /// Runs the program in a terminal of its own, as util-linux' `script` makes one. All that is written there is standard
    /// output.
    pub async fn run_in_terminal(&self, arguments: &[&str]) -> Shown {
        let program = env!("CARGO_BIN_EXE_coder-upgrade-operator");
        let line = format!("stty rows 60 cols 160; {program} {}", arguments.join(" "));
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.env("KUBECONFIG", &self.kubeconfig).stdin(Stdio::null()).kill_on_drop(true);
        command.output().await.unwrap().into()
    }

    pub async fn plan(&self, arguments: &[&str], input: &str) -> Shown {
        self.run(&[&["plan"], arguments].concat(), input).await
    }
}
