//! One small function for each deed.

use k8s_openapi::api::{batch::v1::Job, core::v1::ObjectReference};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::events::{Event as KubeEvent, EventType},
};
use serde_json::json;

use super::context::{Context, Error, bounded};
use crate::{
    api::{CoderUpgrade, CoderUpgradeStatus, FINALIZER},
    build,
    core::{
        decide::{Action, Event},
        job::JobRequest,
        redact,
    },
};

/// Longest note of an event that the API server takes is 1024 bytes.
const NOTE_LIMIT: usize = 1000;

/// Performs a deed. Returns the object if the deed changed it.
pub async fn execute(context: &Context, upgrade: &CoderUpgrade, action: Action) -> Result<Option<CoderUpgrade>, Error> {
    match action {
        Action::AddFinalizer => set_finalizers(context, upgrade, &[FINALIZER]).await.map(Some),
        Action::RemoveFinalizer => set_finalizers(context, upgrade, &[]).await.map(Some),
        Action::CreateJob(request) => create_job(context, upgrade, &request).await.map(|()| None),
        Action::DeleteJob { name, uid } => delete_job(context, upgrade, &name, uid).await.map(|()| None),
    }
}

/// Writes the whole status. The object's resourceVersion goes along, so that a decision on an old view is refused.
pub async fn write_status(
    context: &Context,
    upgrade: &CoderUpgrade,
    status: CoderUpgradeStatus,
) -> Result<CoderUpgrade, Error> {
    let api = upgrades(context, upgrade);
    let name = upgrade.name_any();
    let mut changed = upgrade.clone();
    changed.status = Some(status);
    let params = PostParams::default();
    let request = api.replace_status(&name, &params, &changed);
    bounded(format!("write the status of CoderUpgrade {name}"), request).await
}

/// Publishes events, each with the Job that it is about. One that is lost is no reason to do anything again.
pub async fn publish(context: &Context, upgrade: &CoderUpgrade, events: Vec<(Event, Option<String>)>) {
    let about = upgrade.object_ref(&());
    for (event, job) in events {
        let event = KubeEvent {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason.into(),
            action: event.action.into(),
            note: Some(redact::head(&event.message, NOTE_LIMIT)),
            // Events that tell of different Jobs are different events; without it the recorder would count them as one.
            secondary: job.map(|name| ObjectReference {
                api_version: Some("batch/v1".into()),
                kind: Some("Job".into()),
                name: Some(name),
                namespace: upgrade.namespace(),
                ..ObjectReference::default()
            }),
        };
        if let Err(error) = bounded("publish an event".into(), context.recorder.publish(&event, &about)).await {
            tracing::warn!(%error, upgrade = upgrade.name_any(), "event lost");
        }
    }
}

/// `AlreadyExists` is no failure: the Job of this step is there, and the cache will show it.
async fn create_job(context: &Context, upgrade: &CoderUpgrade, request: &JobRequest) -> Result<(), Error> {
    let api: Api<Job> = Api::namespaced(context.client.clone(), &upgrade.namespace().unwrap_or_default());
    let job = build::job(upgrade, request, &context.defaults);
    match bounded(format!("create Job {}", request.name), api.create(&PostParams::default(), &job)).await {
        Err(Error::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.is_already_exists()) => {
            Ok(())
        }
        created => created.map(|_| ()),
    }
}

async fn delete_job(context: &Context, upgrade: &CoderUpgrade, name: &str, uid: String) -> Result<(), Error> {
    let api: Api<Job> = Api::namespaced(context.client.clone(), &upgrade.namespace().unwrap_or_default());
    let params = DeleteParams::background().preconditions(Preconditions { uid: Some(uid), resource_version: None });
    match bounded(format!("delete Job {name}"), api.delete(name, &params)).await {
        Err(error) if error.is_stale() => Ok(()),
        deleted => deleted.map(|_| ()),
    }
}

/// Sets or removes our finalizer and leaves those of others.
async fn set_finalizers(context: &Context, upgrade: &CoderUpgrade, ours: &[&str]) -> Result<CoderUpgrade, Error> {
    let others = upgrade.finalizers().iter().map(String::as_str).filter(|finalizer| *finalizer != FINALIZER);
    let finalizers: Vec<_> = others.chain(ours.iter().copied()).collect();
    let patch =
        Patch::Merge(json!({"metadata": {"finalizers": finalizers, "resourceVersion": upgrade.resource_version()}}));
    let name = upgrade.name_any();
    let api = upgrades(context, upgrade);
    let params = PatchParams::default();
    let request = api.patch(&name, &params, &patch);
    bounded(format!("set the finalizer of CoderUpgrade {name}"), request).await
}

fn upgrades(context: &Context, upgrade: &CoderUpgrade) -> Api<CoderUpgrade> {
    Api::namespaced(context.client.clone(), &upgrade.namespace().unwrap_or_default())
}
