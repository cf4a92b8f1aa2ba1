//! kube-controller-manager and kube-scheduler. Both only talk to the API server; they listen nowhere.

use super::identity::{Identities, User};
use super::launch::{Running, launch};
use super::{ControlPlaneError, Settings};
use crate::components::Component;
use crate::pki::Pki;

/// Starts kube-controller-manager. Its work shows when service accounts appear; see [`crate::supervisor`].
pub(super) async fn start_controller_manager(
    settings: &Settings<'_>,
    pki: &Pki,
    identities: &Identities,
) -> Result<Running, ControlPlaneError> {
    let arguments = vec![
        format!("--kubeconfig={}", identities.kubeconfig_file(User::ControllerManager).display()),
        "--use-service-account-credentials".to_owned(),
        // The defaults (20 a second) would have each cluster wait 4 s until all controllers have their accounts.
        "--kube-api-qps=200".to_owned(),
        "--kube-api-burst=400".to_owned(),
        format!("--service-account-private-key-file={}", pki.service_account_key_file.display()),
        // Published as ConfigMap kube-root-ca.crt in each namespace; pods check the API server with it.
        format!("--root-ca-file={}", pki.authority_file.display()),
        "--enable-hostpath-provisioner".to_owned(),
        // The default needs root.
        format!("--flex-volume-plugin-dir={}", settings.dir.join("volume-plugins").display()),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ];
    start(settings, Component::KubeControllerManager, arguments).await
}

/// Starts kube-scheduler.
pub(super) async fn start_scheduler(
    settings: &Settings<'_>,
    identities: &Identities,
) -> Result<Running, ControlPlaneError> {
    let arguments = vec![
        format!("--kubeconfig={}", identities.kubeconfig_file(User::Scheduler).display()),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ];
    start(settings, Component::KubeScheduler, arguments).await
}

async fn start(
    settings: &Settings<'_>,
    component: Component,
    arguments: Vec<String>,
) -> Result<Running, ControlPlaneError> {
    Ok(launch(settings.program(component, arguments)?, async || true).await?)
}
