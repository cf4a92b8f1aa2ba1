//! All that a decision sees.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::{Api, ResourceExt, runtime::reflector::ObjectRef};

use super::context::Context;
use super::request::{ReconcileError, bounded};
use crate::api::CoderUpgrade;
use crate::core::decide::job::{JobFacts, JobState, RunnerPod, is_owned};
use crate::core::decide::observed::Observed;
use crate::core::decide::runner_job;
use crate::core::gates::claim::{holder, is_rival};
use crate::core::gates::dependencies::Sibling;
use crate::core::object::controlling;

/// The facts around an object, from the caches.
///
/// A cache may lag. That is harmless here: a status decided on an old object is refused by its resourceVersion, a Job whose
/// existence is missed cannot be created twice, because its name is the same, and [`recorded_job`] asks before an object goes.
pub fn observe(context: &Context, upgrade: CoderUpgrade) -> Observed {
    let rivals = context.upgrades.state_filter(|other: &CoderUpgrade| is_rival(other, &upgrade));
    let claimed_by = holder(&upgrade, rivals.iter().map(|other| &**other));
    Observed {
        jobs: jobs(context, &upgrade),
        settings: runner_job::settings(&upgrade, &context.defaults),
        claimed_by,
        siblings: siblings(context, &upgrade),
        watching_since: context.watching_since,
        retry_delay: context.retry_delay,
        allowed: context.defaults.allowed.clone(),
        ..Observed::new(upgrade, Timestamp::now())
    }
}

/// The Jobs in the object's namespace that it controls, and the one that its status names: `kubectl delete --cascade=orphan`
/// takes the owner away from a Job that is at work.
fn jobs(context: &Context, upgrade: &CoderUpgrade) -> Vec<JobFacts> {
    let (Some(uid), Some(namespace)) = (&upgrade.metadata.uid, &upgrade.metadata.namespace) else { return Vec::new() };
    let step = upgrade.status.as_ref().and_then(|status| status.steps.last());
    let mut names = context.jobs_of.by(uid, namespace);
    names.extend(step.map(|step| step.job_name.clone()).filter(|name| !names.contains(name)));
    let recorded = |job: &Job| step.is_some_and(|step| job.metadata.uid.as_ref() == Some(&step.job_uid));
    let jobs = names.iter().filter_map(|name| context.jobs.get(&ObjectRef::new(name).within(namespace)));
    let ours = jobs.filter(|job| is_owned(job, upgrade) || recorded(job));
    ours.map(|job| JobFacts { pod: pod(context, &job), ..JobFacts::from(&*job) }).collect()
}

/// The pod of a Job: one that the Job controls, whatever the labels of others say.
fn pod(context: &Context, job: &Job) -> Option<RunnerPod> {
    let (uid, namespace) = (job.metadata.uid.as_deref()?, job.metadata.namespace.as_deref()?);
    let names = context.pods_of.by(uid, namespace);
    let pods = names.iter().filter_map(|name| context.pods.get(&ObjectRef::new(name).within(namespace)));
    let of_job = pods.filter(|pod| controlling(&**pod).is_some_and(|owner| owner.kind == "Job" && owner.uid == uid));
    of_job.map(|pod| RunnerPod::from(&*pod)).max_by_key(|pod| (pod.started, pod.outlived.is_none(), !pod.leaving))
}

/// Reads the Job of the running step of a deleted object if the cache lacks it: the object is let go once no Job of it is at
/// work, and a cache in which the Job is not yet tells nothing of that.
pub async fn recorded_job(context: &Context, observed: &mut Observed) -> Result<(), ReconcileError> {
    let Some(step) = observed.status().running_step().cloned().filter(|_| observed.deleting()) else { return Ok(()) };
    if step.job_uid.is_empty() || observed.jobs.iter().any(|job| job.uid == step.job_uid) {
        return Ok(());
    }
    let found = read_job(context, observed, &step.job_name).await?;
    observed.jobs.extend(found.filter(|job| job.uid == step.job_uid));
    Ok(())
}

async fn read_job(context: &Context, observed: &Observed, name: &str) -> Result<Option<JobFacts>, ReconcileError> {
    let namespace = observed.upgrade.namespace().unwrap_or_default();
    let api: Api<Job> = Api::namespaced(context.client.clone(), &namespace);
    let found = bounded(format!("read Job {name}"), api.get_opt(name)).await?;
    Ok(found.map(|found| JobFacts::from(&found)))
}

/// Takes the end of the runner's container for the end of its Job, where a container that a webhook has added keeps the Job
/// from ending. The cache of Jobs may lag behind that of pods, so what the runner said last is read now.
pub async fn runner_ended(context: &Context, observed: &mut Observed) -> Result<(), ReconcileError> {
    let Some(step) = observed.status().running_step().cloned() else { return Ok(()) };
    let ours = |job: &JobFacts| job.uid == step.job_uid && job.report.outcome.is_none();
    let Some(at) = observed.jobs.iter().position(ours) else { return Ok(()) };
    let Some(how) = observed.jobs[at].outlived().map(|outlived| outlived.how.clone()) else { return Ok(()) };
    let found = read_job(context, observed, &step.job_name).await?;
    let job = &mut observed.jobs[at];
    let Some(now) = found.filter(|now| now.uid == job.uid) else { return Ok(()) };
    *job = JobFacts { pod: job.pod.take(), ..now };
    if job.state == JobState::Active {
        job.state = JobState::Ended(how);
    }
    Ok(())
}

/// The objects that this one depends on, directly or over others.
fn siblings(context: &Context, upgrade: &CoderUpgrade) -> Vec<Sibling> {
    let namespace = upgrade.namespace().unwrap_or_default();
    let mut found: Vec<Sibling> = Vec::new();
    let mut wanted = upgrade.spec.dependencies();
    while let Some(name) = wanted.pop() {
        if found.iter().any(|sibling| sibling.name == name) {
            continue;
        }
        let Some(other) = context.upgrades.get(&ObjectRef::new(&name).within(&namespace)) else { continue };
        let sibling = Sibling::from(&*other);
        wanted.extend(sibling.depends_on.iter().cloned());
        found.push(sibling);
    }
    found
}

/// The object as it is stored now, for a decision that changes something in the cluster.
pub async fn fresh(context: &Context, upgrade: &CoderUpgrade) -> Result<Option<CoderUpgrade>, ReconcileError> {
    let name = upgrade.name_any();
    let api: Api<CoderUpgrade> = Api::namespaced(context.client.clone(), &upgrade.namespace().unwrap_or_default());
    let found = bounded(format!("read {}", ObjectRef::from_obj(upgrade)), api.get_opt(&name)).await?;
    Ok(found.filter(|found| found.uid() == upgrade.uid()))
}
