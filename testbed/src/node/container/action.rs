//! What probes do to a container.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use super::launch::Launch;
use crate::node::images::{ExecHandling, Program};
use crate::node::pod::PodRuntime;
use crate::process;

/// The most of a command's or server's answer that is quoted, in characters.
const MAX_QUOTE: usize = 400;

/// A running container as seen from outside.
pub(super) struct Target {
    pod: Arc<PodRuntime>,
    /// Ports by name.
    ports: BTreeMap<String, i32>,
    launch: Launch,
}

impl Target {
    pub(super) fn new(pod: &Arc<PodRuntime>, container: &Container, launch: &Launch) -> Self {
        let ports = container.ports.iter().flatten();
        let ports = ports.filter_map(|port| Some((port.name.clone()?, port.container_port))).collect();
        Self { pod: pod.clone(), ports, launch: launch.clone() }
    }

    /// Whether the container has something that could be asked.
    pub(super) fn can_be_asked(&self) -> bool {
        self.launch.program != Program::Pause
    }

    /// Asks once; the error says what the answer was.
    pub(super) async fn ask(&self, probe: &Probe) -> Result<(), String> {
        if let Some(get) = &probe.http_get {
            self.http_get(get).await
        } else if let Some(socket) = &probe.tcp_socket {
            self.connect(socket).await
        } else if let Some(exec) = &probe.exec {
            self.execute(exec).await
        } else {
            self.pod.not_supported("probes other than httpGet, tcpSocket and exec always succeed").await;
            Ok(())
        }
    }

    async fn http_get(&self, get: &HTTPGetAction) -> Result<(), String> {
        let scheme = get.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
        let path = get.path.as_deref().unwrap_or("/").trim_start_matches('/');
        let url = format!("{scheme}://{}:{}/{path}", self.pod.address, self.port(&get.port)?);
        let failed = |error: reqwest::Error| format!("Get \"{url}\": {}", causes(&error));
        let answer = self.pod.node.http.get(&url).send().await.map_err(failed)?;
        let status = answer.status();
        if status.is_success() || status.is_redirection() {
            Ok(())
        } else {
            Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
        }
    }

    async fn connect(&self, socket: &TCPSocketAction) -> Result<(), String> {
        let address = format!("{}:{}", self.pod.address, self.port(&socket.port)?);
        TcpStream::connect(&address).await.map(drop).map_err(|error| format!("dial tcp {address}: {error}"))
    }

    async fn execute(&self, exec: &ExecAction) -> Result<(), String> {
        if self.launch.exec == ExecHandling::Pass {
            return Ok(());
        }
        let words: Vec<String> = exec.command.iter().flatten().map(|word| self.launch.mounts.translate(word)).collect();
        let Some((program, arguments)) = words.split_first() else { return Ok(()) };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&self.launch.variables).current_dir(&self.launch.directory);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |error: std::io::Error| format!("{program}: {error}");
        let output = process::spawn(command).await.map_err(failed)?.wait_with_output().await.map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        let said: String = String::from_utf8_lossy(&said).trim().chars().take(MAX_QUOTE).collect();
        Err(format!("{program} ended with {}: {said}", output.status))
    }

    fn port(&self, port: &IntOrString) -> Result<i32, String> {
        match port {
            IntOrString::Int(port) => Ok(*port),
            IntOrString::String(name) => {
                let number = self.ports.get(name).copied().or_else(|| name.parse().ok());
                number.ok_or_else(|| format!("couldn't find a port named \"{name}\" in the container"))
            }
        }
    }
}

/// The innermost reason: the outer ones only repeat the address.
fn causes(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
