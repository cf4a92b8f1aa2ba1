//! kube-apiserver.

use std::path::PathBuf;

use http::Request;
use kube::Client;

use super::identity::{Identities, User};
use super::launch::{Running, launch, with_free_ports};
use super::{ControlPlaneError, Network, Settings, log_file};
use crate::components::Component;
use crate::pki::Pki;
use crate::ports::free_ports;

/// Everything that was asked, by whom, without bodies: tests and benchmarks count requests by user in it. Half of all requests
/// are those of Kubernetes' own controllers, which nobody counts.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: None, userGroups: [\"system:serviceaccounts:kube-system\"]}, {level: Metadata}]
";

/// Starts the API server; returns its URL.
pub(super) async fn start(
    settings: &Settings<'_>,
    pki: &Pki,
    identities: &Identities,
    etcd_url: &str,
) -> Result<(String, Running), ControlPlaneError> {
    let audit = audit_arguments(settings)?;
    with_free_ports(async || {
        let [port] = free_ports().map_err(|source| ControlPlaneError::System { what: "a free port", source })?;
        let api_url = format!("https://{}:{port}", settings.network.api_server);
        let client = identities.client(User::TestBed, &api_url, &pki.authority).await?;
        let mut arguments = arguments(&settings.network, pki, identities, etcd_url, port);
        arguments.extend(audit.iter().cloned());
        let program = settings.program(Component::KubeApiserver, arguments)?;
        let running = launch(program, async || is_ready(&client).await).await?;
        Ok((api_url, running))
    })
    .await
}

fn arguments(network: &Network, pki: &Pki, identities: &Identities, etcd_url: &str, port: u16) -> Vec<String> {
    let Network { api_server, services, .. } = network;
    // Endpoints may not be loopback addresses, so the Service `kubernetes` gets none there.
    let reconciler = if api_server.is_loopback() { "none" } else { "lease" };
    let file = |flag: &str, path: &PathBuf| format!("--{flag}={}", path.display());
    vec![
        format!("--etcd-servers={etcd_url}"),
        format!("--bind-address={api_server}"),
        format!("--secure-port={port}"),
        // Otherwise it looks for the machine's address on the default route, which there may not be.
        format!("--advertise-address={api_server}"),
        format!("--endpoint-reconciler-type={reconciler}"),
        format!("--service-cluster-ip-range={services}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        file("token-auth-file", &identities.token_file()),
        file("tls-cert-file", &pki.api_server.certificate_file),
        file("tls-private-key-file", &pki.api_server.key_file),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        file("service-account-key-file", &pki.service_account_public_key_file),
        file("service-account-signing-key-file", &pki.service_account_key_file),
        file("kubelet-certificate-authority", &pki.authority_file),
        file("kubelet-client-certificate", &pki.api_server_to_node.certificate_file),
        file("kubelet-client-key", &pki.api_server_to_node.key_file),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--profiling=false".to_owned(),
    ]
}

fn audit_arguments(settings: &Settings<'_>) -> Result<Vec<String>, ControlPlaneError> {
    if !settings.audit_log {
        return Ok(Vec::new());
    }
    let policy = settings.dir.join("audit-policy.yaml");
    std::fs::write(&policy, AUDIT_POLICY)
        .map_err(|source| ControlPlaneError::Write { path: policy.clone(), source })?;
    Ok(vec![
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", log_file(settings.dir, "audit").display()),
    ])
}

async fn is_ready(client: &Client) -> bool {
    let Ok(request) = Request::get("/readyz").body(Vec::new()) else { return false };
    client.request_text(request).await.is_ok_and(|answer| answer == "ok")
}
