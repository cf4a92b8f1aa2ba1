//! `CoreDNS`, as a pod behind a Service. It knows the names of the cluster; every other name does not exist.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

use super::RealNodeError;
use super::addresses::Addresses;
use super::images::COREDNS;

/// The domain of the cluster's names.
pub(super) const DOMAIN: &str = "cluster.local";
/// Its objects; `{image}` and `{address}` are filled in.
const MANIFESTS: &str = include_str!("dns.yaml");
/// From the pod's creation to an answer; a busy machine takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(1);

/// Creates the objects and returns when the Service answers.
pub(super) async fn start(client: &Client, addresses: Addresses) -> Result<(), RealNodeError> {
    let manifests = MANIFESTS.replace("{image}", COREDNS).replace("{address}", &addresses.dns().to_string());
    for document in manifests.split("---\n") {
        let object: DynamicObject = serde_saphyr::from_str(document)
            .map_err(|error| RealNodeError::Dns(format!("its manifests cannot be read: {error}")))?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let failed = |error: &dyn std::error::Error| RealNodeError::Dns(format!("{name}: {error}"));
        let types = object.types.clone().unwrap_or_default();
        let kind = GroupVersionKind::try_from(&types).map_err(|error| failed(&error))?;
        let resource = ApiResource::from_gvk(&kind);
        let objects = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        objects.create(&PostParams::default(), &object).await.map_err(|error| failed(&error))?;
    }
    let deployments = Api::<Deployment>::namespaced(client.clone(), "kube-system");
    let available = await_condition(deployments, "coredns", conditions::is_deployment_completed());
    match timeout(PATIENCE, available).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(RealNodeError::Dns(error.to_string())),
        Err(_) => return Err(RealNodeError::Dns(format!("no pod of it is ready after {} s", PATIENCE.as_secs()))),
    }
    answers(addresses.dns()).await
}

/// Returns when the name of the API server has an address, asked through the Service: then kube-proxy works, too.
async fn answers(server: Ipv4Addr) -> Result<(), RealNodeError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = match timeout(ANSWER, ask(server)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() > deadline {
            return Err(RealNodeError::Dns(format!("asked at {server}: {error}")));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn ask(server: Ipv4Addr) -> std::io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(SocketAddr::from((server, 53))).await?;
    socket.send(&question(&format!("kubernetes.default.svc.{DOMAIN}"))).await?;
    let mut answer = [0; 512];
    socket.recv(&mut answer).await?;
    // The number of addresses in the answer, after identifier, flags and number of questions.
    if u16::from_be_bytes([answer[6], answer[7]]) > 0 { Ok(()) } else { Err(std::io::Error::other("no such name")) }
}

/// A question for the IPv4 address of `name` (RFC 1035, section 4).
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_its_labels_with_their_lengths() {
        let message = question("a.local");
        assert_eq!(message[12..], *b"\x01a\x05local\0\0\x01\0\x01");
    }

    #[test]
    fn every_manifest_is_an_object() {
        for document in MANIFESTS.split("---\n") {
            let object: DynamicObject = serde_saphyr::from_str(document).unwrap();
            assert!(object.types.is_some() && object.metadata.name.is_some(), "{document}");
        }
    }
}
