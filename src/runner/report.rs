//! What the runner says to the controller, in an annotation of its own Job.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::Instrument;

use super::error::Error;
use super::secrets::Secrets;
use crate::api::{FailureClass, Repair, ScaledDown, annotation};
use crate::core::report::{Activity, Outcome, Problem, Report};
use crate::core::rights::Lacking;
use crate::runner::error::said;

/// Progress is written at most this often.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a line may wait for what follows at once: it is written with that.
const TOGETHER: Duration = Duration::from_millis(200);
/// How long one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long something that must be recorded before it is done is tried to be written.
const RECORD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the outcome is tried to be written. The grace period of the pod is longer.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(90);
/// The same if the right to write it is missing, for rights that are being granted in this moment.
const RIGHTS_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes lines of progress and writes them in the background.
#[derive(Clone, Debug)]
pub struct Reporter {
    lines: watch::Sender<Report>,
    written: watch::Receiver<Report>,
}

/// The Job that reports go into.
#[derive(Clone, Debug)]
pub struct Addressee {
    /// Name of the Job.
    pub name: String,
    /// Its UID, where it is known: a later Job of that name gets no reports.
    pub uid: Option<String>,
}

/// Writes the reports of one Job.
pub struct ReportWriter {
    jobs: Api<Job>,
    job: Addressee,
    secrets: Secrets,
    task: Option<JoinHandle<()>>,
    reporter: Reporter,
}

impl Reporter {
    /// For a step that runs at a terminal and not in a Job: its lines go to standard error, unless it shall be quiet.
    pub fn to_terminal(secrets: Secrets, quiet: bool) -> Self {
        let (lines, mut changes) = watch::channel(Report::default());
        let (done, written) = watch::channel(Report::default());
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let report = changes.borrow_and_update().clone();
                if !quiet {
                    secrets.say(&report.progress);
                }
                done.send_replace(report);
            }
        });
        Self { lines, written }
    }

    /// Says where the step stands. Lines that come faster than they can be written are dropped but for the newest.
    pub fn progress(&self, line: &str) {
        let line = line.to_owned();
        self.lines.send_if_modified(|report| {
            let new = report.progress != line;
            report.progress = line;
            new
        });
    }

    /// Says that helm has succeeded and the pods are being asked.
    pub fn verifying(&self) {
        self.lines.send_modify(|report| {
            report.activity = Activity::Verifying;
            report.progress = "helm has succeeded; asking the pods".into();
        });
    }

    /// Says that a pod of the new version may have started. It is never taken back.
    pub fn started(&self) {
        self.lines.send_if_modified(|report| !std::mem::replace(&mut report.started, true));
    }

    /// Whether a pod of the new version may have started.
    pub fn has_started(&self) -> bool {
        self.lines.borrow().started
    }

    /// Says that workloads of the new version are left behind, of which a pod may start later.
    pub fn may_start(&self) {
        self.lines.send_if_modified(|report| !std::mem::replace(&mut report.may_start, true));
    }

    /// Records that helm is about to be started to change the release. Returns when it stands in the Job: afterwards nobody
    /// can mistake this step for one that touched nothing.
    pub async fn helm_starts(&self) -> Result<(), Error> {
        self.lines.send_if_modified(|report| !std::mem::replace(&mut report.helm_started, true));
        if self.recorded(|report| report.helm_started).await {
            return Ok(());
        }
        Err(unrecorded("running helm").into())
    }

    /// Records a repair. Returns when it stands in the Job: nothing is repaired that nobody would know of. Followed
    /// by [`Self::repaired`].
    pub async fn repair(&self, repair: Repair) -> Result<(), Error> {
        self.lines.send_modify(|report| {
            report.progress = format!("{} of {}: {}", repair.remedy, repair.object, repair.message);
            report.activity = Activity::Repairing;
            report.repairs.push(repair.clone());
        });
        if self.recorded(|report| report.repairs.contains(&repair)).await {
            return Ok(());
        }
        Err(unrecorded(&format!("the repair of {}", repair.object)).object(repair.object).into())
    }

    /// Says that the repair is made.
    pub fn repaired(&self) {
        self.lines.send_if_modified(|report| {
            let repairing = report.activity == Activity::Repairing;
            report.activity = if repairing { Activity::Working } else { report.activity };
            repairing
        });
    }

    /// Records what is about to be scaled to zero, with the replicas that come back. Returns when it stands in the
    /// Job: otherwise nobody would bring them back after a kill.
    pub async fn scaled_down(&self, down: &[ScaledDown]) -> Result<(), Error> {
        self.still_scaled_down(down.to_vec());
        if self.recorded(|report| report.scaled_down.as_deref() == Some(down)).await {
            return Ok(());
        }
        Err(unrecorded("scaling Coder to zero").into())
    }

    /// Says what is still at zero.
    pub fn still_scaled_down(&self, down: Vec<ScaledDown>) {
        self.lines.send_modify(|report| report.scaled_down = Some(down));
    }

    /// Waits until the Job says so; not for ever.
    async fn recorded(&self, stands: impl FnMut(&Report) -> bool) -> bool {
        let mut written = self.written.clone();
        let written = timeout(RECORD_TIMEOUT, written.wait_for(stands)).await;
        matches!(written, Ok(Ok(_)))
    }
}

fn unrecorded(what: &str) -> Problem {
    let seconds = RECORD_TIMEOUT.as_secs();
    let message = format!(
        "{what} was not started: its intent could not be written to the annotation of the Job within {seconds} s"
    );
    Problem::new(FailureClass::ApiUnavailable, message)
}

impl ReportWriter {
    /// Begins to write reports into the Job.
    pub fn start(jobs: Api<Job>, job: Addressee, secrets: Secrets) -> Self {
        let (lines, changes) = watch::channel(Report::default());
        let (done, written) = watch::channel(Report::default());
        let writing = keep_writing(jobs.clone(), job.clone(), secrets.clone(), changes, done);
        let task = tokio::spawn(writing.in_current_span());
        Self { jobs, job, secrets, task: Some(task), reporter: Reporter { lines, written } }
    }

    /// The side that parts of the step speak to.
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    /// Writes the outcome, the last thing that is written. Tries again until it succeeds or the time is up; without it
    /// the controller takes the step for interrupted and begins it again.
    pub async fn finish(mut self, outcome: Outcome) -> Result<(), String> {
        // A line under way must not overtake the outcome.
        if let Some(task) = self.task.take() {
            task.abort();
            // The only error is that it was aborted.
            let _ = task.await;
        }
        let report = Report { outcome: Some(outcome), ..self.reporter.lines.borrow().clone() };
        let begun = Instant::now();
        let mut pause = Duration::from_millis(250);
        loop {
            let error = match write(&self.jobs, &self.job, &report, &self.secrets).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let patience = if error.lacks_right() { RIGHTS_TIMEOUT } else { OUTCOME_TIMEOUT };
            if begun.elapsed() + pause > patience || error.is_final() {
                return Err(format!("the outcome could not be written to Job/{}: {error}", self.job.name));
            }
            tracing::warn!("the outcome could not be written to Job/{} and is written again: {error}", self.job.name);
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(8));
        }
    }
}

/// Writes the newest report whenever it is not what the Job says, and says which one is written.
async fn keep_writing(
    jobs: Api<Job>,
    job: Addressee,
    secrets: Secrets,
    mut changes: watch::Receiver<Report>,
    written: watch::Sender<Report>,
) {
    while changes.wait_for(|report| *report != *written.borrow()).await.is_ok() {
        let before = written.borrow().clone();
        if timeout(TOGETHER, changes.wait_for(|now| is_urgent(now, &before))).await.is_ok_and(|open| open.is_err()) {
            return;
        }
        let report = changes.borrow_and_update().clone();
        let begun = Instant::now();
        if !report.progress.is_empty() && report.progress != written.borrow().progress {
            tracing::info!("{}", report.progress);
        }
        match write(&jobs, &job, &report, &secrets).await {
            Ok(()) => drop(written.send_replace(report.clone())),
            Err(error) => tracing::warn!("progress could not be written to Job/{}: {error}", job.name),
        }
        // What somebody waits for is not held up by a line that was written just before.
        let rest = INTERVAL.saturating_sub(begun.elapsed());
        if timeout(rest, changes.wait_for(|now| is_urgent(now, &report))).await.is_ok_and(|open| open.is_err()) {
            return;
        }
    }
}

/// Whether a report has something that somebody waits for until it is written.
fn is_urgent(now: &Report, before: &Report) -> bool {
    now.repairs != before.repairs
        || (now.started, now.helm_started) != (before.started, before.helm_started)
        || now.scaled_down != before.scaled_down
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("{}", said(.0))]
    Api(#[from] kube::Error),
    #[error("no answer within {} s", WRITE_TIMEOUT.as_secs())]
    Silent,
}

impl WriteError {
    /// The runner may not write reports.
    fn lacks_right(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 403 && Lacking::read(&status.message).is_some())
    }

    /// Trying again is of no use: the Job is gone, another one has its name by now, or nothing of this form will ever be
    /// accepted.
    fn is_final(&self) -> bool {
        matches!(self, Self::Json(_))
            || matches!(self, Self::Api(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422))
    }
}

/// The only way from a report into the Job: without secrets, and within its limits.
async fn write(jobs: &Api<Job>, job: &Addressee, report: &Report, secrets: &Secrets) -> Result<(), WriteError> {
    let report = secrets.cleaned(report)?.limited();
    let mut patch = json!({"metadata": {"annotations": {annotation::REPORT: report.written()?}}});
    if let Some(uid) = &job.uid {
        patch["metadata"]["uid"] = json!(uid);
    }
    let patch = Patch::Merge(patch);
    let parameters = PatchParams::default();
    let write = jobs.patch_metadata(&job.name, &parameters, &patch);
    timeout(WRITE_TIMEOUT, write).await.map_err(|_| WriteError::Silent)??;
    Ok(())
}
