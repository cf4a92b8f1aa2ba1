//! A backup by a Job that is made from a `CronJob`, as `kubectl create job --from` does.

use std::pin::pin;

use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, ResourceExt};
use tokio::time::timeout;

use super::{BackupOrder, failed, foreign, record};
use crate::api::{BackupRecord, FailureClass, label};
use crate::core::decide::job::JOB_NAME_LABEL;
use crate::core::object::controlling;
use crate::core::plan::Plan;
use crate::core::report::Problem;
use crate::core::rollout::workload::PodFacts;
use crate::core::steps::backup::{BackupOutcome, ended, is_of, is_stale, recent_job};
use crate::core::steps::backup_objects;
use crate::runner::cluster::pod_secrets;
use crate::runner::cluster::watch::broken;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::rollout::diagnosis;

/// Finds a recent success of the `CronJob`, or makes a Job and waits for its end.
pub async fn run(ctx: &Context, plan: &Plan, order: &BackupOrder, name: &str) -> Result<BackupRecord, Error> {
    let cron_jobs: Api<CronJob> = ctx.api();
    let object = format!("CronJob/{name}");
    let Some(cron_job) = request(&format!("read {object}"), || cron_jobs.get_opt(name)).await? else {
        let message = format!("{object}, which spec.backup.cronJob names, does not exist");
        return Err(Problem::new(FailureClass::ReferenceMissing, message)
            .object(object)
            .field("spec.backup.cronJob")
            .into());
    };
    if let Some(since) = order.since()
        && let Some(found) = recent(ctx, plan, &cron_job, since).await?
    {
        return Ok(found);
    }
    let job = made(ctx, plan, order, &cron_job).await?;
    let name = job.name_any();
    let Ok(end) = timeout(order.left(&job.metadata), Box::pin(end(ctx, &job))).await else {
        let message = format!(
            "Job/{name}, made from {object}, has not ended within {} s (spec.backup.timeout); it is left alone",
            order.timeout.as_secs()
        );
        return Err(failed(message).object(format!("Job/{name}")).into());
    };
    let detail = format!("Job/{name} of {object}");
    Ok(record(plan, vec![format!("Job/{name}")], end?, false, detail))
}

/// The last success that is recent enough. Jobs are removed after a while; then the `CronJob` still tells when it was.
async fn recent(
    ctx: &Context,
    plan: &Plan,
    cron_job: &CronJob,
    since: Timestamp,
) -> Result<Option<BackupRecord>, Error> {
    let jobs: Api<Job> = ctx.api();
    let all = ListParams::default();
    let found = request("list Jobs", || jobs.list(&all)).await?.items;
    let object = format!("CronJob/{}", cron_job.name_any());
    if let Some((name, at)) = recent_job(&found, cron_job, since) {
        let detail = format!("Job/{name} of {object}");
        return Ok(Some(record(plan, vec![format!("Job/{name}")], at, true, detail)));
    }
    let last = cron_job.status.as_ref().and_then(|status| status.last_successful_time.as_ref());
    Ok(last
        .filter(|time| time.0 >= since)
        .map(|time| record(plan, vec![object.clone()], time.0, true, format!("{object}, whose last Job succeeded"))))
}

/// The Job, which an earlier try may have made already.
async fn made(ctx: &Context, plan: &Plan, order: &BackupOrder, cron_job: &CronJob) -> Result<Job, Error> {
    let mut round = 0;
    loop {
        let job = made_in(ctx, plan, order, cron_job, round).await?;
        match ended(&job) {
            Some(BackupOutcome::Succeeded(at)) if is_stale(at, Timestamp::now()) => round += 1,
            _ => return Ok(job),
        }
    }
}

async fn made_in(
    ctx: &Context,
    plan: &Plan,
    order: &BackupOrder,
    cron_job: &CronJob,
    round: u32,
) -> Result<Job, Error> {
    let jobs: Api<Job> = ctx.api();
    let name = order.purpose(ctx, plan, round).job_name(&cron_job.name_any());
    let new = backup_objects::job(cron_job, &name, &ctx.upgrade, &plan.id);
    if let Ok(job) = serde_json::to_value(&new) {
        pod_secrets::of_objects(ctx, [&job]).await;
    }
    let object = format!("Job/{name}");
    ctx.reporter.progress(&format!("starting {object} from CronJob/{}", cron_job.name_any()));
    let parameters = PostParams::default();
    match request(&format!("create {object}"), || jobs.create(&parameters, &new)).await {
        Err(error) if error.has_code(409) => {
            let found = request(&format!("read {object}"), || jobs.get(&name)).await?;
            let ours = found.labels().get(label::PLAN) == Some(&plan.id) && is_of(&found, cron_job);
            if ours { Ok(found) } else { Err(foreign(&object)) }
        }
        other => other,
    }
}

/// Watches the Job to its end, and its pods meanwhile: when it has failed, they may be gone.
async fn end(ctx: &Context, job: &Job) -> Result<Timestamp, Error> {
    let (name, uid) = (job.name_any(), job.uid());
    let mut jobs = pin!(watch_object(ctx.api::<Job>(), &name).default_backoff());
    let of_job = watcher::Config::default().labels(&format!("{JOB_NAME_LABEL}={name}"));
    let mut pods = pin!(watcher::watcher(ctx.api::<Pod>(), of_job).default_backoff().applied_objects());
    let mut diagnosis = JobDiagnosis::default();
    loop {
        tokio::select! {
            seen = jobs.try_next() => match seen {
                Ok(Some(Some(now))) if now.uid() == uid => match ended(&now) {
                    None => {}
                    Some(BackupOutcome::Succeeded(at)) => return Ok(at),
                    Some(BackupOutcome::Failed(why)) => return Err(diagnosis.explain(ctx, job, &why).await.into()),
                },
                Ok(_) => {
                    let message = format!("Job/{name} was deleted before it had ended");
                    return Err(failed(message).object(format!("Job/{name}")).into());
                }
                Err(error) => broken(format!("Job/{name}"), error)?,
            },
            seen = pods.try_next() => match seen {
                Ok(Some(pod)) if is_of_job(&pod, uid.as_ref()) => diagnosis.diagnose(ctx, &name, &pod).await,
                Ok(_) => {}
                Err(error) => broken(format!("the pods of Job/{name}"), error)?,
            },
        }
    }
}

/// Whether the Job controls the pod: a label with the Job's name can be anybody's.
fn is_of_job(pod: &Pod, uid: Option<&String>) -> bool {
    controlling(pod).is_some_and(|owner| Some(&owner.uid) == uid)
}

/// What the pods of the Job have told until now.
#[derive(Default)]
struct JobDiagnosis {
    /// Name of the last pod in trouble, and what its trouble was.
    trouble: Option<(String, String)>,
    /// The end of its log.
    log: Option<String>,
}

impl JobDiagnosis {
    /// Says how the pod is, and takes down its log once it is in trouble.
    async fn diagnose(&mut self, ctx: &Context, job: &str, pod: &Pod) {
        let facts = PodFacts::from(pod);
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let failed = phase == "Failed";
        let exit = facts.containers.iter().find_map(|container| container.last_exit.filter(|code| *code != 0));
        let trouble = match (failed, exit) {
            (true, Some(code)) => Some(format!("has failed with exit code {code}")),
            (true, None) => Some("has failed".to_owned()),
            _ => facts.trouble(),
        };
        let state = trouble.clone().unwrap_or_else(|| {
            match phase {
                "Running" => "is at work",
                "Succeeded" => "has succeeded",
                _ => "is being started",
            }
            .to_owned()
        });
        ctx.reporter.progress(&format!("Job/{job}: Pod/{} {state}", facts.name));
        let now = trouble.map(|trouble| (facts.name.clone(), trouble));
        if now.is_some() && now != self.trouble {
            self.log = diagnosis::of_pod(ctx, &facts).await;
            self.trouble = now;
        }
    }

    async fn explain(mut self, ctx: &Context, job: &Job, why: &str) -> Problem {
        let (job, uid) = (&job.name_any(), job.uid());
        if self.trouble.is_none() {
            // The end of the Job was seen before that of its pod.
            let pods: Api<Pod> = ctx.api();
            let of_job = ListParams::default().labels(&format!("{JOB_NAME_LABEL}={job}"));
            match request(&format!("list the pods of Job/{job}"), || pods.list(&of_job)).await {
                Ok(found) => {
                    for pod in found.items.into_iter().filter(|pod| is_of_job(pod, uid.as_ref())) {
                        self.diagnose(ctx, job, &pod).await;
                    }
                }
                Err(error) => tracing::warn!("{error}"),
            }
        }
        let trouble = self.trouble.map(|(pod, trouble)| format!("\nPod/{pod} {trouble}")).unwrap_or_default();
        let message = format!("Job/{job} has failed: {why}{trouble}");
        Problem { excerpt: self.log, ..failed(message).object(format!("Job/{job}")) }
    }
}
