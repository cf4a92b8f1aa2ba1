//! What a real node promises: pods, Services and names work as on any cluster, and nothing of it is left on the machine.
//!
//! On a machine that cannot run one, these tests say so and show nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::cluster::NodeChoice;
use testbed::process::{Identity, Signal};
use testbed::real_node::Host;
use testbed::supervisor::state::NodeKind;
use testbed::{Cluster, ClusterOptions};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout};

/// What one node makes must not show to the test of another.
static ALONE: Mutex<()> = Mutex::const_new(());
/// What the cgroups of a node begin with; others come and go with other programs of the machine.
const CGROUP: &str = "testbed";
const PATIENCE: Duration = Duration::from_secs(60);
/// An end in order takes about 10 s. After 60 s the supervisor is killed.
const ORDERLY: Duration = Duration::from_secs(40);
/// Directories in which kubelet, containerd, runc and CNI would leave something.
const WRITTEN: [&str; 4] = ["/run", "/var/lib", "/var/log", "/etc"];
/// What would be theirs there; the rest comes and goes with other programs of the machine.
const WRITERS: [&str; 7] = ["cni", "containerd", "containers", "kubelet", "netns", "pods", "runc"];
/// Settings of the kernel that kubelet and kube-proxy change.
const SETTINGS: [&str; 3] = ["/proc/sys/net/ipv4", "/proc/sys/net/netfilter", "/proc/sys/kernel/keys"];
const SINGLE: [&str; 4] = ["kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "vm/panic_on_oom"];
/// Of these the kernel changes the values by itself.
const COUNTERS: [&str; 2] = ["nf_conntrack_count", "route/flush"];

/// What a node could leave on a machine: one fact each.
struct Machine(BTreeSet<String>);

impl Machine {
    fn now() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut facts: BTreeSet<String> = mounts.lines().map(|mount| format!("mount {mount}")).collect();
        for mount in mounts.lines().filter(|line| line.split(' ').nth(2).is_some_and(|kind| kind.starts_with("cgroup")))
        {
            // The cgroup of a node itself: those of its pods cannot outlive it, and come and go with another node that runs here.
            walk(Path::new(mount.split(' ').nth(1).unwrap()), &mut |path, is_dir| {
                let is_node = is_dir && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(CGROUP));
                facts.extend(is_node.then(|| format!("cgroup {}", path.display())));
            });
        }
        for root in SETTINGS {
            walk(Path::new(root), &mut |path, _| facts.extend(setting(path)));
        }
        facts.extend(SINGLE.iter().filter_map(|name| setting(&Path::new("/proc/sys").join(name))));
        let routes = fs::read_to_string("/proc/net/route").unwrap();
        facts.extend(routes.lines().map(|route| format!("route {route}")));
        facts.extend(["nft --stateless list ruleset", "iptables-save"].into_iter().flat_map(rules));
        facts.extend(names("/sys/class/net").map(|name| format!("interface {name}")));
        facts.extend(WRITTEN.iter().flat_map(|dir| {
            names(dir).filter(|name| WRITERS.contains(&name.as_str())).map(move |name| format!("file {dir}/{name}"))
        }));
        Self(facts)
    }

    /// What is on the machine now and was not before, and the reverse.
    fn changes(&self) -> Vec<String> {
        let now = Self::now().0;
        let came = now.difference(&self.0).map(|fact| format!("+ {fact}"));
        came.chain(self.0.difference(&now).map(|fact| format!("- {fact}"))).collect()
    }

    #[track_caller]
    fn assert_unchanged(&self) {
        let changes = self.changes();
        assert!(changes.is_empty(), "the machine is not as before: {changes:?}");
    }
}

fn walk(path: &Path, found: &mut impl FnMut(&Path, bool)) {
    for entry in fs::read_dir(path).into_iter().flatten().filter_map(Result::ok) {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        found(&entry.path(), is_dir);
        if is_dir {
            walk(&entry.path(), found);
        }
    }
}

fn setting(path: &Path) -> Option<String> {
    let name = path.display().to_string();
    if COUNTERS.iter().any(|counter| name.ends_with(counter)) {
        return None;
    }
    Some(format!("setting {name} = {}", fs::read_to_string(path).ok()?.trim_end()))
}

fn names(dir: &str) -> impl Iterator<Item = String> {
    fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
}

/// The packet filter's rules that a command prints, without counters and times; nothing if it is not there.
fn rules(command: &str) -> Vec<String> {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|line| !line.starts_with(['#', ':'])).map(|rule| format!("{command}: {rule}")).collect()
}

/// A cluster with a real node, and the machine as it was before.
struct Started {
    dir: TempDir,
    alone: MutexGuard<'static, ()>,
    before: Machine,
    cluster: Cluster,
}

impl Started {
    /// None where this machine cannot run a real node; then it is said why.
    async fn now() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        Host::examine(&[dir.path()]).inspect_err(|unfit| eprintln!("left out: {unfit}")).ok()?;
        let alone = ALONE.lock().await;
        let before = Machine::now();
        let (own, owner_pid) = (Some(dir.path().to_owned()), Some(std::process::id()));
        let options = ClusterOptions { dir: own, owner_pid, node: NodeChoice::Real, ..ClusterOptions::default() };
        Some(Self { cluster: Cluster::up(options).await.unwrap(), before, dir, alone })
    }
}

fn processes(cluster: &Cluster) -> Vec<Identity> {
    let state = cluster.status().unwrap();
    let components = state.components.values().filter_map(|component| component.process);
    std::iter::once(state.supervisor).chain(components).collect()
}

/// Processes that name the cluster's directory in their arguments.
fn named_after(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    let lines = names("/proc").filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).ok());
    lines.filter(|line| line.contains(dir)).collect()
}

/// Coder with a database that it knows by the name of its Service.
fn coder() -> Value {
    let object = |kind: &str, api: &str, name: &str, spec: Value| json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec});
    let deployment = |name: &str, container: Value| {
        let template = json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}});
        object("Deployment", "apps/v1", name, json!({"selector": {"matchLabels": {"app": name}}, "template": template}))
    };
    let service = |name: &str, port: u16, target: u16| {
        object(
            "Service",
            "v1",
            name,
            json!({"selector": {"app": name}, "ports": [{"port": port, "targetPort": target}]}),
        )
    };
    let server = json!({
        "name": "coder", "image": "ghcr.io/coder/coder:v2.31.7", "command": ["/opt/coder"], "args": ["server"],
        "env": [{"name": "CODER_PG_CONNECTION_URL", "value": "postgres://coder@database:5432/coder"}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
        "securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": true},
    });
    let database = json!({"name": "database", "image": "docker.io/library/postgres:16"});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        deployment("database", database), service("database", 5432, 5432),
        deployment("coder", server), service("coder", 80, 8080),
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "unknown"},
         "spec": {"containers": [{"name": "main", "image": "registry.example.com/unknown:1"}]}},
    ]})
}

async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn pods_services_and_names_work_and_nothing_is_left() {
    let Some(Started { dir, alone: _alone, before, cluster }) = Started::now().await else { return };
    let state = cluster.status().unwrap();
    assert_eq!(state.node.kind, NodeKind::Real);
    assert!(["node", "containerd", "kubelet", "kube-proxy"].iter().all(|name| state.components.contains_key(*name)));

    cluster.kubectl_with_input(&["apply", "-f", "-"], &coder().to_string()).await.unwrap();
    let available = ["wait", "--for=condition=Available", "--timeout=60s", "deployment/coder", "deployment/database"];
    cluster.kubectl(&available).await.unwrap();
    let address = cluster.kubectl(&["get", "service", "coder", "--output=jsonpath={.spec.clusterIP}"]).await.unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default(); // an error says that there is one already
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let version = async || http.get(format!("http://{address}/api/v2/buildinfo")).send().await?.text().await;
    eventually("the Service leads to Coder", async || version().await.is_ok_and(|text| text.contains("2.31.7"))).await;
    assert!(cluster.kubectl(&["logs", "deployment/coder"]).await.unwrap().contains("listener at"));
    let waiting = ["get", "pod", "unknown", "--output=jsonpath={.status.containerStatuses[0].state.waiting.reason}"];
    let pull = async || cluster.kubectl(&waiting).await.unwrap().contains("Pull");
    eventually("an image that nobody has cannot be pulled", pull).await;

    let running = processes(&cluster);
    let shows = |kind: &str| before.changes().iter().any(|change| change.starts_with(kind));
    assert!(shows("+ interface") && shows("+ cgroup"), "{:?}", before.changes());
    timeout(ORDERLY, cluster.down()).await.expect("no part waits for an API server that is out of reach").unwrap();
    assert!(running.iter().all(|process| !process.is_alive()));
    assert_eq!(named_after(dir.path()), [""; 0]);
    before.assert_unchanged();
}

#[tokio::test]
async fn what_a_killed_supervisor_leaves_is_removed_by_down() {
    let Some(Started { dir, alone: _alone, before, cluster }) = Started::now().await else { return };
    let running = processes(&cluster);
    running[0].open().unwrap().unwrap().signal(Signal::KILL).unwrap();
    for process in &running {
        if let Some(process) = process.open().unwrap() {
            timeout(PATIENCE, process.ended()).await.unwrap().unwrap();
        }
    }
    eventually("the kernel ends every process", async || named_after(dir.path()).is_empty()).await;
    Cluster::down_in(dir.path()).await.unwrap();
    before.assert_unchanged();
}
