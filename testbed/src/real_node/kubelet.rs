//! The kubelet's settings.

use std::path::Path;

use serde_json::json;

use super::addresses::Addresses;
use super::containerd::SOCKET;
use super::{RealNodeError, write};
use crate::pki::Pki;

/// Writes what the kubelet reads; returns its arguments.
pub(super) fn configure(
    dir: &Path,
    addresses: Addresses,
    node_name: &str,
    pki: &Pki,
    kubeconfig: &Path,
) -> Result<Vec<String>, RealNodeError> {
    // Names of the internet have no server; see `dns`.
    let resolv_conf = dir.join("resolv.conf");
    write(&resolv_conf, "nameserver 127.0.0.1\n")?;
    let file = dir.join("kubelet.json");
    let configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki.authority_file},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki.node.certificate_file,
        "tlsPrivateKeyFile": pki.node.key_file,
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", addresses.name()),
        // Without this it refuses cgroup v1.
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDNS": [addresses.dns()],
        "clusterDomain": super::dns::DOMAIN,
        "resolvConf": resolv_conf,
        "podLogsDir": dir.join("pod-logs"),
        "volumePluginDir": dir.join("volume-plugins"),
        // A full disk of a developer is no reason to evict pods or to delete images, which nobody could pull again.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    });
    write(&file, &configuration.to_string())?;
    Ok(vec![
        format!("--config={}", file.display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--root-dir={}", dir.join("kubelet").display()),
        format!("--hostname-override={node_name}"),
        format!("--node-ip={}", addresses.node()),
    ])
}
