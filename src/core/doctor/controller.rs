//! Whether the controller runs, and which version of it.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Container;
use kube::ResourceExt;

use super::DoctorLine;
use crate::core::outbound::Outbound;
use crate::core::rollout::image::Image;
use crate::core::rollout::workload::WorkloadFacts;

/// What is looked at.
const SUBJECT: &str = "controller";

/// What is wrong with the Deployments of the controller.
#[must_use]
pub fn controller(deployments: &[Deployment], own: &str) -> Vec<DoctorLine> {
    if deployments.is_empty() {
        let finding = "no Deployment has the label app.kubernetes.io/name=coder-upgrade-operator";
        return vec![DoctorLine::problem(SUBJECT, finding, "kubectl apply --server-side -k deploy/default")];
    }
    deployments.iter().map(|deployment| judge(deployment, own)).collect()
}

fn judge(deployment: &Deployment, own: &str) -> DoctorLine {
    let (name, namespace) = (deployment.name_any(), deployment.namespace().unwrap_or_default());
    let place = format!("Deployment/{name} in namespace {namespace}");
    let facts = WorkloadFacts::from(deployment);
    if facts.available < 1 {
        let remedy = format!("kubectl describe pods -n {namespace} -l app.kubernetes.io/name=coder-upgrade-operator");
        let desired = facts.desired;
        return DoctorLine::problem(SUBJECT, format!("{place}: none of its {desired} pods is available"), remedy);
    }
    let image = program(deployment).and_then(|container| container.image.as_deref()).unwrap_or_default();
    match Image::of(image).version().map(|version| version.to_string()) {
        Some(version) if version == own => DoctorLine::ok(SUBJECT, format!("{place} runs {version}, as this program")),
        Some(version) => DoctorLine::problem(
            SUBJECT,
            format!("{place} runs {version}, this program is {own}"),
            "use the program of the controller's version, or upgrade the controller",
        ),
        None => DoctorLine::note(
            SUBJECT,
            format!("{place} runs {image}, whose tag names no version; this program is {own}"),
            "compare the versions yourself",
        ),
    }
}

/// The container with the program.
fn program(deployment: &Deployment) -> Option<&Container> {
    let containers = &deployment.spec.as_ref()?.template.spec.as_ref()?.containers;
    let runs = |container: &&Container| variable(container, "RUNNER_IMAGE").is_some();
    containers.iter().find(runs).or(containers.first())
}

fn variable<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    let found = container.env.as_ref()?.iter().find(|variable| variable.name == name)?;
    found.value.as_deref().filter(|value| !value.trim().is_empty())
}

/// The image of the runner's Jobs, as the controller is told.
#[must_use]
pub fn runner_image(deployment: &Deployment) -> Option<String> {
    Some(variable(program(deployment)?, "RUNNER_IMAGE")?.to_owned())
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMapKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The key.
    pub key: String,
}

/// Where the certificates come from that the controller has its runners trust (`RUNNER_CA_FILE`): the ConfigMap that is mounted
/// there. Nothing if it names no file.
///
/// # Errors
/// The path of a file that no ConfigMap is mounted at.
pub fn authorities(deployment: &Deployment) -> Result<Option<ConfigMapKey>, String> {
    let Some(container) = program(deployment) else { return Ok(None) };
    let Some(file) = variable(container, "RUNNER_CA_FILE") else { return Ok(None) };
    mounted(deployment, container, file).map(Some).ok_or_else(|| file.to_owned())
}

fn mounted(deployment: &Deployment, container: &Container, file: &str) -> Option<ConfigMapKey> {
    let (mount, path) = container.volume_mounts.iter().flatten().find_map(|mount| {
        let rest = file.strip_prefix(mount.mount_path.trim_end_matches('/'))?;
        match &mount.sub_path {
            Some(path) if rest.is_empty() => Some((mount, path.as_str())),
            Some(_) => None,
            None => Some((mount, rest.strip_prefix('/')?)),
        }
    })?;
    let volumes = deployment.spec.as_ref()?.template.spec.as_ref()?.volumes.as_ref()?;
    let map = volumes.iter().find(|volume| volume.name == mount.name)?.config_map.as_ref()?;
    let key = match &map.items {
        Some(items) => &items.iter().find(|item| item.path == path)?.key,
        None => path,
    };
    let namespace = deployment.namespace()?;
    Some(ConfigMapKey { namespace, name: map.name.clone(), key: key.to_owned() })
}

/// How runners reach repositories, as the controller is told by its variables; without what [`authorities`] names.
#[must_use]
pub fn outbound(deployment: &Deployment) -> Outbound {
    let told = |name: &str| program(deployment).and_then(|container| variable(container, name)).map(ToOwned::to_owned);
    match told("RUNNER_PROXY_SECRET") {
        Some(secret) => Outbound { secret: Some(secret), ..Outbound::default() },
        None => Outbound {
            http: told("HTTP_PROXY"),
            https: told("HTTPS_PROXY"),
            none: told("NO_PROXY"),
            ..Outbound::default()
        },
    }
}
