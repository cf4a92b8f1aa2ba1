//! The pod that makes a plan from within the cluster.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, LogParams, PostParams, Preconditions};
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};
use tokio::time::timeout;

use super::super::error::PluginError;
use super::super::session::Session;
use crate::core::decide::job::CONTAINER;
use crate::core::doctor::{
    ConfigMapKey, DoctorLine, TrialEnd, authorities, outbound, runner_image, trial, trial_lines,
};
use crate::core::outbound::{Outbound, certificates};
use crate::core::rollout::workload::PodFacts;

/// How long the pod is waited for. A first pull of the image takes a while.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is looked at.
const SUBJECT: &str = "trial";

/// Starts the pod for a `CoderUpgrade`, and tells how it ended.
pub async fn look(
    session: &Session,
    name: Option<&str>,
    controllers: &[Deployment],
) -> Result<Vec<DoctorLine>, PluginError> {
    let upgrade = match name {
        Some(name) => session.upgrade(name).await?,
        None => match session.upgrades(false).await {
            Ok(found) => found.into_iter().next().ok_or_else(|| PluginError::Absent(String::new()))?,
            Err(PluginError::Absent(_)) => {
                let finding = format!("no plan is tried: namespace {} has no CoderUpgrade", session.namespace);
                return Ok(vec![DoctorLine::note(
                    SUBJECT,
                    finding,
                    "apply one, with spec.suspend: true if nothing shall begin",
                )]);
            }
            Err(error) => return Err(error),
        },
    };
    let image = upgrade.spec.job.image.clone().or_else(|| controllers.iter().find_map(runner_image));
    let Some(image) = image else {
        let finding = "no plan is tried: the image of the runner is not known without the controller";
        return Ok(vec![DoctorLine::note(SUBJECT, finding, "load the controller")]);
    };
    let (told, mut lines) = match controllers.first() {
        Some(controller) => told(session, controller).await?,
        None => (Outbound::default(), Vec::new()),
    };
    let Some(pod) = trial(&upgrade, &image, told) else { return Ok(lines) };
    let end = tried(session, &pod).await?;
    lines.extend(trial_lines(&end, &upgrade.name_any(), &session.namespace, session.program));
    Ok(lines)
}

/// What the controller tells its runners of ways and certificates; a note if its certificates cannot be read.
async fn told(session: &Session, controller: &Deployment) -> Result<(Outbound, Vec<DoctorLine>), PluginError> {
    let outbound = outbound(controller);
    let read = match authorities(controller) {
        Ok(None) => return Ok((outbound, Vec::new())),
        Ok(Some(place)) => read(session, &place).await?,
        Err(file) => Err(format!("{file} comes from no ConfigMap")),
    };
    Ok(match read {
        Ok(pem) => (Outbound { authorities: Some(pem), ..outbound }, Vec::new()),
        Err(why) => {
            let finding =
                format!("the plan is tried without the certificates of the controller's RUNNER_CA_FILE: {why}");
            let remedy = "a repository whose certificate is not trusted below may be trusted by real runners";
            (outbound, vec![DoctorLine::note("certificates", finding, remedy)])
        }
    })
}

/// The certificates in a ConfigMap, or why there are none.
async fn read(session: &Session, place: &ConfigMapKey) -> Result<Result<String, String>, PluginError> {
    let ConfigMapKey { namespace, name, key } = place;
    let api: Api<ConfigMap> = Api::namespaced(session.client.clone(), namespace);
    let map = match session.ask(&format!("read ConfigMap/{name} in namespace {namespace}"), api.get_opt(name)).await {
        Ok(map) => map,
        Err(PluginError::Forbidden(text)) => return Ok(Err(text)),
        Err(error) => return Err(error),
    };
    let Some(text) = map.and_then(|map| map.data?.remove(key)) else {
        return Ok(Err(format!("there is no key {key} in ConfigMap/{name} of namespace {namespace}")));
    };
    Ok(certificates(&text).map_err(|error| error.to_string()))
}

/// How a pod ends. It is deleted whatever becomes of it.
async fn tried(session: &Session, pod: &Pod) -> Result<TrialEnd, PluginError> {
    let api: Api<Pod> = session.api();
    let doing = format!("create a pod in namespace {}", session.namespace);
    let created = match session.ask(&doing, api.create(&PostParams::default(), pod)).await {
        Ok(created) => created,
        Err(PluginError::Refused { text, .. } | PluginError::Forbidden(text)) => return Ok(TrialEnd::Refused(text)),
        Err(error) => return Err(error),
    };
    let name = created.name_any();
    let end = ended(session, &api, &name).await;
    let preconditions = Preconditions { uid: created.uid(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default().grace_period(0) };
    session.ask(&format!("delete Pod/{name}"), api.delete(&name, &parameters)).await?;
    end
}

async fn ended(session: &Session, api: &Api<Pod>, name: &str) -> Result<TrialEnd, PluginError> {
    let settled = |pod: Option<&Pod>| pod.is_none_or(|pod| code(pod).is_some() || image_trouble(pod).is_some());
    let waited = timeout(PATIENCE, await_condition(api.clone(), name, settled)).await;
    let last = session.ask(&format!("read Pod/{name}"), api.get_opt(name)).await?;
    let Some(pod) = last else { return Ok(TrialEnd::NotStarted("somebody has deleted it".into())) };
    if let Some(code) = code(&pod) {
        let parameters = LogParams { container: Some(CONTAINER.into()), ..LogParams::default() };
        let log = session.ask(&format!("read the log of Pod/{name}"), api.logs(name, &parameters)).await?;
        return Ok(TrialEnd::Ended(code, log));
    }
    let facts = PodFacts::from(&pod);
    let seconds = PATIENCE.as_secs();
    let why = match waited {
        Ok(_) => image_trouble(&pod),
        Err(_) => facts.trouble().or_else(|| Some(format!("it has not ended within {seconds} s"))),
    };
    Ok(TrialEnd::NotStarted(why.unwrap_or_else(|| facts.unready())))
}

/// The exit code of the runner's container, once it has ended.
fn code(pod: &Pod) -> Option<i32> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ended = statuses.iter().find(|status| status.name == CONTAINER)?.state.as_ref()?.terminated.as_ref()?;
    Some(ended.exit_code)
}

/// That its image cannot be pulled. That no node has room may pass.
fn image_trouble(pod: &Pod) -> Option<String> {
    let facts = PodFacts::from(pod);
    if facts.unschedulable.is_some() { None } else { facts.trouble() }
}
