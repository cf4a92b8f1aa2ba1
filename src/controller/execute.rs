//! One small function for each action.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::ObjectReference};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::events::{Event as KubeEvent, EventType},
};
use serde_json::{Value, json};
use tracing::Instrument;

use super::context::Context;
use super::request::{ReconcileError, bounded};
use crate::api::{BlockedReason, CoderUpgrade, CoderUpgradeStatus, FINALIZER, annotation};
use crate::core::decide::job::{JobRequest, Namesake, judge};
use crate::core::decide::runner_job;
use crate::core::decide::start_failure::Cure;
use crate::core::decide::{Action, Event, Obstruction, record_job, start_failure};
use crate::core::text::redact;
use crate::core::text::redact::Redactor;

/// Longest note of an event that the API server takes is 1024 bytes.
const NOTE_LIMIT: usize = 1000;

/// Performs an action. Returns the object if the action changed it.
pub async fn execute(
    context: &Context,
    upgrade: &CoderUpgrade,
    action: Action,
) -> Result<Option<CoderUpgrade>, ReconcileError> {
    match action {
        Action::AddFinalizer => set_finalizers(context, upgrade, &[FINALIZER]).await.map(Some),
        Action::RemoveFinalizer => set_finalizers(context, upgrade, &[]).await.map(Some),
        Action::CreateJob(request) => Box::pin(create_job(context, upgrade, &request)).await.map(|()| None),
        Action::StartJob { name, uid } => start_job(context, upgrade, &name, &uid).await.map(|()| None),
        Action::SuspendJob { name, uid } => suspend_job(context, upgrade, &name, &uid).await.map(|()| None),
        Action::DeleteJob { name, uid } => delete_job(context, upgrade, &name, uid).await.map(|()| None),
    }
}

/// Writes the whole status. The object's resourceVersion goes along, so that a decision on an old view is refused.
pub async fn write_status(
    context: &Context,
    upgrade: &CoderUpgrade,
    status: CoderUpgradeStatus,
) -> Result<CoderUpgrade, ReconcileError> {
    let api = upgrades(context, upgrade);
    let name = upgrade.name_any();
    let mut changed = upgrade.clone();
    changed.status = Some(status);
    let params = PostParams::default();
    let request = api.replace_status(&name, &params, &changed);
    bounded(format!("write the status of CoderUpgrade {name}"), request).await
}

/// The status without what is a secret by the way it is written. The controller knows none, but repeats what the API server
/// and the kubelet say, such as the address of a registry with a password in it.
pub fn clean(status: CoderUpgradeStatus) -> CoderUpgradeStatus {
    // A status that could not be written as JSON could not be written at all.
    Redactor::default().cleaned(&status).unwrap_or(status)
}

/// Publishes events in the background, each with the Job that it is about. One that is lost is no reason to do anything again,
/// and an API that takes no events holds up no upgrade.
pub fn publish(context: Arc<Context>, upgrade: Arc<CoderUpgrade>, events: Vec<(Event, Option<String>)>) {
    let Ok(permit) = context.publishing.clone().try_acquire_owned() else {
        return tracing::warn!("events lost: those before them are not published yet");
    };
    let publishing = async move {
        let _permit = permit;
        publish_each(&context, &upgrade, events).await;
    };
    tokio::spawn(publishing.in_current_span());
}

async fn publish_each(context: &Context, upgrade: &CoderUpgrade, events: Vec<(Event, Option<String>)>) {
    let about = upgrade.object_ref(&());
    for (event, job) in events {
        let event = KubeEvent {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason.into(),
            action: event.action.into(),
            note: Some(redact::head(&Redactor::default().clean(&event.message), NOTE_LIMIT)),
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
            tracing::warn!(%error, "event lost");
        }
    }
}

/// Creates the Job of a step, which does nothing yet; records its UID; and lets it start. So the status names every Job that
/// ever ran, and whatever else has its name was not created here.
async fn create_job(context: &Context, upgrade: &CoderUpgrade, request: &JobRequest) -> Result<(), ReconcileError> {
    let api = jobs(context, upgrade);
    let job = runner_job::job(upgrade, request, &context.defaults);
    let created = match bounded(format!("create Job {}", request.name), api.create(&PostParams::default(), &job)).await
    {
        Ok(created) => created,
        Err(ReconcileError::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.is_already_exists()) =>
        {
            return occupied(context, upgrade, request).await;
        }
        Err(error) => return Err(told(error, request, upgrade)),
    };
    let uid = created.metadata.uid.unwrap_or_default();
    let mut status = upgrade.status.clone().unwrap_or_default();
    record_job(&mut status, context.watching_since, request, &uid);
    write_status(context, upgrade, status).await?;
    start_job(context, upgrade, &request.name, &uid).await
}

/// What follows if there is a Job of that name already.
async fn occupied(context: &Context, upgrade: &CoderUpgrade, request: &JobRequest) -> Result<(), ReconcileError> {
    let (name, object) = (&request.name, format!("Job/{}", request.name));
    let Some(found) = bounded(format!("read {object}"), jobs(context, upgrade).get_opt(name)).await? else {
        return Err(ReconcileError::Changed(object));
    };
    let namespace = upgrade.namespace().unwrap_or_default();
    let found = match judge(&found, upgrade, &request.recorded) {
        Namesake::Recorded => return Ok(()), // The cache will show it.
        Namesake::Unrecorded => {
            delete_job(context, upgrade, name, found.uid().unwrap_or_default()).await?;
            return Err(ReconcileError::Changed(object));
        }
        Namesake::Leaving(finalizers) if finalizers.is_empty() => return Err(ReconcileError::Changed(object)),
        Namesake::Leaving(finalizers) => Obstruction {
            reason: BlockedReason::JobRefused,
            field: Some("metadata.finalizers"),
            message: format!("{object} is still being deleted; its finalizers: {}.", finalizers.join(", ")),
            next_step: "Find out what keeps the finalizer; the step goes on once that Job is gone.".into(),
            object,
        },
        Namesake::Foreign(field, why) => Obstruction {
            reason: BlockedReason::ForeignJob,
            field: Some(field),
            message: format!("{object} was not created by the controller, so nothing that it says counts: {why}."),
            next_step: format!(
                "Find out who created it, and delete it: kubectl delete job --namespace {namespace} {name}; the step goes on by \
                 itself then."
            ),
            object,
        },
    };
    Err(ReconcileError::Obstructed(Box::new(found)))
}

/// A refusal of the Job itself, with what cures it.
fn told(error: ReconcileError, request: &JobRequest, upgrade: &CoderUpgrade) -> ReconcileError {
    let Some(words) = error.refusal() else { return error };
    let words = start_failure::clean(words, &request.name);
    let object = format!("Job/{}", request.name);
    let Cure { object: cause, field, next_step } =
        start_failure::refused(&words, &upgrade.namespace().unwrap_or_default());
    ReconcileError::Obstructed(Box::new(Obstruction {
        reason: BlockedReason::JobRefused,
        message: format!("{object} cannot be created: {words}"),
        object: cause.unwrap_or(object),
        field,
        next_step,
    }))
}

/// Lets a Job start whose UID is recorded.
async fn start_job(context: &Context, upgrade: &CoderUpgrade, name: &str, uid: &str) -> Result<(), ReconcileError> {
    let now = Timestamp::now().to_string();
    let change = json!({
        "metadata": {"uid": uid, "annotations": {annotation::STARTED_AT: now}}, "spec": {"suspend": false}
    });
    patch_job(context, upgrade, name, change).await
}

async fn suspend_job(context: &Context, upgrade: &CoderUpgrade, name: &str, uid: &str) -> Result<(), ReconcileError> {
    patch_job(context, upgrade, name, json!({"metadata": {"uid": uid}, "spec": {"suspend": true}})).await
}

/// The UID in the change is a precondition: the API server refuses it for another Job of that name.
async fn patch_job(context: &Context, upgrade: &CoderUpgrade, name: &str, change: Value) -> Result<(), ReconcileError> {
    let (api, params, patch) = (jobs(context, upgrade), PatchParams::default(), Patch::Merge(change));
    bounded(format!("change Job {name}"), api.patch_metadata(name, &params, &patch)).await.map(|_| ())
}

fn jobs(context: &Context, upgrade: &CoderUpgrade) -> Api<Job> {
    Api::namespaced(context.client.clone(), &upgrade.namespace().unwrap_or_default())
}

async fn delete_job(context: &Context, upgrade: &CoderUpgrade, name: &str, uid: String) -> Result<(), ReconcileError> {
    let api = jobs(context, upgrade);
    let params = DeleteParams::background().preconditions(Preconditions { uid: Some(uid), resource_version: None });
    match bounded(format!("delete Job {name}"), api.delete(name, &params)).await {
        Err(error) if error.is_stale() => Ok(()),
        deleted => deleted.map(|_| ()),
    }
}

/// Sets or removes our finalizer and leaves those of others.
async fn set_finalizers(
    context: &Context,
    upgrade: &CoderUpgrade,
    ours: &[&str],
) -> Result<CoderUpgrade, ReconcileError> {
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
