//! containerd, and the images it is given: nothing is pulled.

use std::path::{Path, PathBuf};

use super::host::Host;
use super::images::PAUSE;
use super::network::run;
use super::space::Space;
use super::{RealNodeError, write};
use crate::control_plane::launch::Running;

/// Where it listens, inside the node.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
/// The kubelet's images and containers.
const KUBERNETES: &str = "k8s.io";

/// Starts containerd and returns when it answers.
pub(super) async fn start(
    cluster: &Path,
    dir: &Path,
    host: &Host,
    space: &Space,
    networks: &Path,
) -> Result<Running, RealNodeError> {
    let file = dir.join("containerd.toml");
    write(&file, &configuration(dir, host, &space.prepared.snapshotter, networks))?;
    let arguments = [format!("--config={}", file.display())];
    let containerd = host.program("containerd");
    let answers = async || run(&mut ctr(host, space, &["version"])).is_ok();
    Ok(space.launch(cluster, ("containerd", None), &containerd, arguments, answers).await?)
}

/// Gives it the images of an archive.
pub(super) async fn import(host: &Host, space: &Space, archive: PathBuf) -> Result<(), RealNodeError> {
    let snapshotter = format!("--snapshotter={}", space.prepared.snapshotter);
    let archive = archive.display().to_string();
    let mut command = ctr(host, space, &["images", "import", &snapshotter, &archive]);
    let imported = tokio::task::spawn_blocking(move || run(&mut command)).await;
    imported.map_err(|error| RealNodeError::Command { line: "ctr images import".into(), said: error.to_string() })?
}

fn ctr(host: &Host, space: &Space, words: &[&str]) -> std::process::Command {
    let mut command = space.command(&host.program("ctr"));
    command.args(["--address", SOCKET, "--namespace", KUBERNETES]).args(words);
    command
}

fn configuration(dir: &Path, host: &Host, snapshotter: &str, networks: &Path) -> String {
    // JSON strings are TOML strings.
    let text = |path: &Path| serde_json::Value::from(path.display().to_string()).to_string();
    format!(
        r#"version = 2
root = {root}
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = {opt}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = {restricted}
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = {plugins}
  conf_dir = {networks}
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{snapshotter}"
"#,
        root = text(&dir.join("containerd")),
        opt = text(&dir.join("opt")),
        restricted = host.restricted_oom_score,
        plugins = text(host.cni()),
        networks = text(networks),
    )
}
