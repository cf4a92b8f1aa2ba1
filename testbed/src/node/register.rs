//! The Node object and its Lease.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node as ApiNode, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};

use super::NodeError;
use super::context::{HOST, Node};

/// Namespace of the nodes' Leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// A Lease not renewed for this long is a lost node.
const LEASE_SECONDS: i32 = 40;
/// How often the Lease is renewed and the Node looked after.
const RENEW_EVERY: Duration = Duration::from_secs(10);
const FIELD_MANAGER: &str = "process-node";

/// Creates the Node, or tells the API server that it is back.
pub async fn register(node: &Node, log_port: u16) -> Result<(), NodeError> {
    let api: Api<ApiNode> = Api::all(node.client.clone());
    match api.create(&PostParams::default(), &object(node, log_port)).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(NodeError::api("create Node", &node.name)(error)),
    }
    publish_status(node, log_port).await?;
    renew(node).await
}

/// Renews the Lease and keeps the Node's status as it should be. Ends only with the node.
pub async fn keep_alive(node: &Node, log_port: u16) {
    let mut tick = tokio::time::interval(RENEW_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        node.online().await;
        for result in [renew(node).await, recover(node, log_port).await] {
            if let Err(error) = result {
                tracing::warn!(%error, "the node is not reported alive; trying again");
            }
        }
    }
}

/// Publishes the status again if somebody (the node lifecycle controller, after missed renewals) wrote another.
async fn recover(node: &Node, log_port: u16) -> Result<(), NodeError> {
    let api: Api<ApiNode> = Api::all(node.client.clone());
    let Some(found) = api.get_opt(&node.name).await.map_err(NodeError::api("read Node", &node.name))? else {
        return register_again(node, log_port).await;
    };
    let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
    if conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
        return Ok(());
    }
    publish_status(node, log_port).await
}

/// Somebody deleted the Node: it comes back, as a kubelet's does after a restart.
async fn register_again(node: &Node, log_port: u16) -> Result<(), NodeError> {
    Box::pin(register(node, log_port)).await
}

async fn publish_status(node: &Node, log_port: u16) -> Result<(), NodeError> {
    let api: Api<ApiNode> = Api::all(node.client.clone());
    let patch = serde_json::json!({ "status": status(log_port) });
    let sent = api.patch_status(&node.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
    sent.map(drop).map_err(NodeError::api("update the status of Node", &node.name))
}

async fn renew(node: &Node) -> Result<(), NodeError> {
    let api: Api<Lease> = Api::namespaced(node.client.clone(), LEASE_NAMESPACE);
    let failed = |error| NodeError::api("renew Lease", &node.name)(error);
    let renewed = MicroTime(Timestamp::now());
    let patch = serde_json::json!({ "spec": { "renewTime": renewed, "holderIdentity": node.name } });
    let patched = api.patch(&node.name, &PatchParams::default(), &Patch::Merge(patch)).await;
    match patched {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            let lease = lease(node, renewed).await?;
            api.create(&PostParams::default(), &lease).await.map(drop).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

async fn lease(node: &Node, renewed: MicroTime) -> Result<Lease, NodeError> {
    let api: Api<ApiNode> = Api::all(node.client.clone());
    let owner = api.get(&node.name).await.map_err(NodeError::api("read Node", &node.name))?;
    Ok(Lease {
        metadata: ObjectMeta {
            name: Some(node.name.clone()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: node.name.clone(),
                uid: owner.metadata.uid.unwrap_or_default(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(renewed),
            ..LeaseSpec::default()
        }),
    })
}

fn object(node: &Node, log_port: u16) -> ApiNode {
    let labels = [
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("kubernetes.io/hostname", &node.name),
        ("node.kubernetes.io/instance-type", FIELD_MANAGER),
    ];
    ApiNode {
        metadata: ObjectMeta {
            name: Some(node.name.clone()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        status: Some(status(log_port)),
        ..ApiNode::default()
    }
}

/// The architecture in Kubernetes' words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status(log_port: u16) -> NodeStatus {
    let now = Time(Timestamp::now());
    let conditions = [
        ("MemoryPressure", "False", "NodeHasSufficientMemory"),
        ("DiskPressure", "False", "NodeHasNoDiskPressure"),
        ("PIDPressure", "False", "NodeHasSufficientPID"),
        ("Ready", "True", "ProcessNodeReady"),
    ];
    NodeStatus {
        capacity: Some(Node::capacity()),
        allocatable: Some(Node::capacity()),
        addresses: Some(vec![NodeAddress { type_: "InternalIP".into(), address: HOST.to_string() }]),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(log_port) }),
        }),
        conditions: Some(
            conditions
                .map(|(type_, status, reason)| NodeCondition {
                    type_: type_.to_owned(),
                    status: status.to_owned(),
                    reason: Some(reason.to_owned()),
                    last_heartbeat_time: Some(now.clone()),
                    last_transition_time: Some(now.clone()),
                    ..NodeCondition::default()
                })
                .into(),
        ),
        node_info: Some(NodeSystemInfo {
            operating_system: "linux".into(),
            architecture: architecture().into(),
            os_image: "processes of this machine".into(),
            container_runtime_version: format!("process://{}", env!("CARGO_PKG_VERSION")),
            kubelet_version: format!("v{}-process-node", env!("CARGO_PKG_VERSION")),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}
