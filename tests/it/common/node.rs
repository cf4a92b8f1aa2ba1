//! The node that runs the pods: what a test needs of it, and what happens to its containers.

use std::fs;
use std::io::Write;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use testbed::Cluster;
use testbed::node::Control;
use testbed::process::{Identity, Signal};
use testbed::supervisor::state::NodeKind;

/// Whether a test is left out, because it shows nothing on nodes of that kind.
pub async fn left_out_on(kind: NodeKind, why: &str) -> bool {
    if Cluster::for_tests().await.expect("the test bed").node().kind != kind {
        return false;
    }
    let node = match kind {
        NodeKind::Process => "process node",
        NodeKind::Real => "real node",
    };
    leave_out(node, why);
    true
}

/// Says that a test is left out on standard error, past what the test program captures; `cargo xtask test` counts these lines.
pub fn leave_out(place: &str, why: &str) {
    let thread = std::thread::current();
    let test = thread.name().expect("a test runs in a thread of its name");
    writeln!(std::io::stderr(), "left out on the {place}: {test}: {why}").expect("standard error");
}

/// Whether a container of the pod runs, and nobody has deleted the pod.
pub fn is_running(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut states = statuses.filter_map(|status| status.state.as_ref());
    pod.metadata.deletion_timestamp.is_none() && states.any(|state| state.running.is_some())
}

/// Kills all processes of a container with SIGKILL, as a power cut does.
pub async fn kill(cluster: &Cluster, pod: &Pod, container: &str) {
    match cluster.node().kind {
        NodeKind::Process => {
            let control = Control::of(&cluster.dir().join("node")).unwrap();
            control.kill(&pod.namespace().unwrap(), &pod.name_any(), container, None).await.unwrap();
        }
        NodeKind::Real => signal(&processes(pod, container), Signal::KILL),
    }
}

/// The processes of a container on a real node. The cgroup that they are in is named after it.
pub fn processes(pod: &Pod, container: &str) -> Vec<Identity> {
    let status = pod.status.as_ref().unwrap();
    let statuses = status.container_statuses.iter().flatten();
    let id = statuses.filter(|status| status.name == container).find_map(|status| status.container_id.as_deref());
    let id = id.and_then(|id| id.strip_prefix("containerd://")).expect("a container that has started");
    let found: Vec<_> = identities().filter(|(directory, _)| read(directory, "cgroup").contains(id)).collect();
    assert!(!found.is_empty(), "no process of container {container} runs");
    found.into_iter().map(|(_, process)| process).collect()
}

/// The process of a component of the cluster that runs inside the node: the one that entered it waits for this one.
pub fn component(cluster: &Cluster, name: &str) -> Identity {
    let outside = cluster.status().unwrap().components[name].process.unwrap().pid;
    let children = read(Path::new(&format!("/proc/{outside}/task/{outside}")), "children");
    children.trim().parse().ok().and_then(Identity::of).expect("the process that entered the node has one child")
}

pub fn signal(processes: &[Identity], signal: Signal) {
    for process in processes {
        if let Some(process) = process.open().unwrap() {
            process.signal(signal).unwrap();
        }
    }
}

/// All processes of this machine, those of the node among them.
fn identities() -> impl Iterator<Item = (std::path::PathBuf, Identity)> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.filter_map(|entry| Some((entry.path(), Identity::of(entry.file_name().to_str()?.parse().ok()?)?)))
}

/// Empty if the process has ended.
fn read(directory: &Path, file: &str) -> String {
    fs::read_to_string(directory.join(file)).unwrap_or_default()
}
