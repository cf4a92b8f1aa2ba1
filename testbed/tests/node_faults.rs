//! A node that goes down or is lost: what a power cut and a broken network look like from the API server.
#![allow(clippy::unwrap_used)] // a test may; clippy does not take its helper functions for one

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Namespace, is_ready, processes_of, shell_pod, terminated};
use testbed::address_range::AddressRange;
use testbed::cluster::{Cluster, ClusterOptions};
use testbed::node::{BackOff, Control, ImageTable, LogServerConfig, NodeConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A second node, in this process, so that it can be stopped and started.
struct SecondNode {
    cluster: Cluster,
    addresses: AddressRange,
    dir: PathBuf,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl SecondNode {
    async fn start(cluster: &Cluster, addresses: AddressRange, dir: &Path) -> Self {
        let file = |name: &str| std::fs::read_to_string(cluster.dir().join("pki").join(name)).unwrap();
        let bin = cluster.dir();
        let client = cluster.client().await.unwrap();
        let config = NodeConfig {
            api_server_url: cluster.status().unwrap().api_url.unwrap(),
            client,
            ca_pem: file("ca.crt"),
            node_name: "node-2".to_owned(),
            dir: dir.to_owned(),
            pod_range: addresses.second_octet(),
            images: ImageTable::defaults(bin, bin, bin, None),
            backoff: BackOff { base: Duration::from_secs(1), ..BackOff::default() },
            logs: LogServerConfig {
                listen: ([127, 0, 0, 1], 0).into(),
                cert_pem: file("node-1.crt"),
                key_pem: file("node-1.key"),
                client_ca_pem: file("ca.crt"),
            },
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move { testbed::node::run(config, stopped).await.unwrap() });
        Self { cluster: cluster.clone(), addresses, dir: dir.to_owned(), stop, task }
    }

    async fn restart(self, meanwhile: impl FnOnce()) -> Self {
        self.stop.cancel();
        self.task.await.unwrap();
        meanwhile();
        Self::start(&self.cluster, self.addresses, &self.dir).await
    }
}

/// A pod bound to the second node.
fn bound(name: &str, policy: &str, script: &str) -> Value {
    let mut pod = shell_pod(name, script);
    pod["spec"]["nodeName"] = json!("node-2");
    pod["spec"]["restartPolicy"] = json!(policy);
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_went_down_or_was_lost_comes_back_with_what_it_should_run() {
    let options = ClusterOptions { owner_pid: Some(std::process::id()), ..ClusterOptions::default() };
    let cluster = Cluster::up(options).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let node = SecondNode::start(&cluster, AddressRange::claim().unwrap(), directory.path()).await;
    let namespace = Namespace::of(&cluster, "faults").await;

    // A power cut: processes are gone, and what ran counts as dead.
    let wait = "sleep 1000 & wait";
    namespace
        .apply(&[bound("always", "Always", wait), bound("never", "Never", wait), bound("done", "OnFailure", "true")])
        .await;
    let always = namespace.ready_pod("always").await;
    namespace.ready_pod("never").await;
    namespace.ended_pod("done").await;
    let uid = always["metadata"]["uid"].as_str().unwrap().to_owned();
    let node = node.restart(|| assert_eq!(processes_of(&uid), 0)).await;
    let restarted = |pod: &Value| is_ready(pod) && pod["status"]["containerStatuses"][0]["restartCount"] == 1;
    let pod = namespace.eventually("the restarted pod", restarted, &["pod", "always"]).await;
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(255), &json!("Unknown")));
    assert_eq!(pod["status"]["podIP"], always["status"]["podIP"]);
    let never = namespace.ended_pod("never").await;
    assert_eq!((&never["status"]["phase"], &terminated(&never)["exitCode"]), (&json!("Failed"), &json!(255)));
    let done = namespace.get(&["pod", "done"]).await;
    assert_eq!((&done["status"]["phase"], &terminated(&done)["exitCode"]), (&json!("Succeeded"), &json!(0)));

    // A broken network: the node hears nothing of a deletion, and its process goes on.
    let control = Control::of(&node.dir).unwrap();
    control.lose().await.unwrap();
    namespace.kubectl(&["delete", "pod", "always", "--wait=false"]).await;
    tokio::time::sleep(Duration::from_secs(3)).await; // longer than the pod's grace period
    assert_ne!(processes_of(&uid), 0);
    assert!(!namespace.get(&["pod", "always"]).await.is_null());
    control.bring_back().await.unwrap();
    namespace.eventually("the deletion of the pod", Value::is_null, &["pod", "always"]).await;
    assert_eq!(processes_of(&uid), 0);

    drop(namespace);
    node.stop.cancel();
    node.task.await.unwrap();
    cluster.down().await.unwrap();
}
