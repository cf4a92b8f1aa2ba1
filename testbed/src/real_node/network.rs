//! How machine, node, pods and Services reach each other: a cable, the CNI plugin of the pods, and kube-proxy.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::addresses::Addresses;
use super::host::Host;
use super::space::Space;
use super::{RealNodeError, write};

/// The node's end of the cable.
const NODE_END: &str = "eth0";

/// Lays the cable between the machine and the node, and leads the machine to pods and Services through it. The node has no
/// way to anywhere else: what a pod wants of the internet fails at once.
pub(super) fn connect(host: &Host, space: &Space, addresses: Addresses) -> Result<(), RealNodeError> {
    let (ip, cable, pid) = (host.program("ip"), addresses.name(), space.pid().to_string());
    let (machine, node) = (addresses.machine().to_string(), addresses.node().to_string());
    let (machine_end, node_end) = (format!("{machine}/30"), format!("{node}/30"));
    let here = |words: &[&str]| run(Command::new(&ip).args(words));
    let inside = |words: &[&str]| run(space.command(&ip).args(words));
    here(&["link", "add", &cable, "type", "veth", "peer", "name", NODE_END, "netns", &pid])?;
    inside(&["link", "set", "lo", "up"])?;
    inside(&["address", "add", &node_end, "dev", NODE_END])?;
    inside(&["link", "set", NODE_END, "up"])?;
    here(&["address", "add", &machine_end, "dev", &cable])?;
    here(&["link", "set", &cable, "up"])?;
    for network in [addresses.pods(), addresses.services()] {
        here(&["route", "add", &network, "via", &node])?;
    }
    Ok(())
}

/// Removes the cable `name`, if it is there; its addresses and routes go with it.
pub(super) fn disconnect(name: &str) -> io::Result<()> {
    if !Path::new("/sys/class/net").join(name).exists() {
        return Ok(());
    }
    match run(Command::new("ip").args(["link", "delete", name])) {
        // The kernel removes it by itself a moment after the node's last process.
        Err(_) if !Path::new("/sys/class/net").join(name).exists() => Ok(()),
        done => done.map_err(io::Error::other),
    }
}

/// Writes what containerd reads about the network of pods; returns the directory.
pub(super) fn configure_pods(dir: &Path, addresses: Addresses) -> Result<std::path::PathBuf, RealNodeError> {
    let directory = dir.join("cni");
    let ipam = json!({
        "type": "host-local",
        "dataDir": dir.join("addresses"),
        "ranges": [[{"subnet": addresses.pods()}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    });
    let plugin = json!({"type": "ptp", "ipMasq": false, "ipam": ipam});
    let list = json!({"cniVersion": "0.4.0", "name": "pods", "plugins": [plugin]});
    fs::create_dir_all(&directory).map_err(|source| RealNodeError::File { path: directory.clone(), source })?;
    write(&directory.join("pods.conflist"), &list.to_string())?;
    Ok(directory)
}

/// Writes what kube-proxy reads; returns its arguments.
pub(super) fn configure_proxy(
    dir: &Path,
    host: &Host,
    addresses: Addresses,
    node_name: &str,
    kubeconfig: &Path,
) -> Result<Vec<String>, RealNodeError> {
    let file = dir.join("kube-proxy.json");
    let configuration = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": host.rules.mode(),
        "clientConnection": {"kubeconfig": kubeconfig},
        "clusterCIDR": addresses.pods(),
        "hostnameOverride": node_name,
        // The limits of connections are those of the whole machine.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    });
    write(&file, &configuration.to_string())?;
    Ok(vec![format!("--config={}", file.display())])
}

/// Runs a command to its end; the error has its words and what it said.
pub(super) fn run(command: &mut Command) -> Result<(), RealNodeError> {
    let line = std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy);
    let line = line.collect::<Vec<_>>().join(" ");
    let output = command.stdin(Stdio::null()).output();
    let said = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => error.to_string(),
    };
    Err(RealNodeError::Command { line, said })
}
