//! Success is measured: the release, every workload, every pod, every claim, and all of it for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::diagnosis;
use super::diagnosis::PodDiagnosis;
use super::goal::Goal;
use super::health;
use super::health::Opinion;
use super::observer::Observer;
use crate::api::{ClaimStatus, FailureClass};
use crate::core::report::Problem;
use crate::core::rollout::migration;
use crate::core::rollout::verify;
use crate::core::rollout::verify::{Deviation, WorkloadPods};
use crate::runner::cluster::inventory;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::storage::Storage;

/// How often pods are asked when nothing else makes one look.
const LOOK: Duration = Duration::from_secs(1);
/// How long Coder, which does not find itself well, is left alone before it looks at itself again.
const RECOVERY: Duration = Duration::from_secs(5);

/// What was found to be right.
pub struct Verified {
    /// As a line for people.
    pub summary: String,
    /// The claims of the plan, as they are.
    pub claims: Vec<ClaimStatus>,
}

/// Waits until everything is right, and for the soak after that.
///
/// A container that is started again in the soak ends it at once, unless it has ended itself because its database was away;
/// so does a pod that works on another database. Anything else that goes wrong restarts the soak, as long as there is time:
/// a node that is drained meanwhile is no failed upgrade.
pub async fn verify(ctx: &Context, storage: &Storage, observer: &Observer, goal: &Goal<'_>) -> Result<Verified, Error> {
    observer.ready().await;
    same_claims(ctx, goal.claims).await?;
    let begun = Instant::now();
    let mut right: Option<HealthySince> = None;
    loop {
        let seen = observer.asked().await;
        let wrong = verify::judge(&goal.expected, &seen).into_iter().next();
        match wrong {
            None => {
                let restarts = restarts(&seen);
                if let Some(finding) = right.as_ref().and_then(|right| right.restarted(&restarts)) {
                    counted(ctx, finding, &seen).await?;
                    right = None;
                }
                let since = right.get_or_insert_with(|| HealthySince { since: Instant::now(), restarts });
                let held = since.since.elapsed();
                if held >= goal.soak {
                    let opinion = match goal.token {
                        Some(token) => health::ask(observer, token, goal).await?,
                        None => Opinion::default(),
                    };
                    if let Some(finding) = opinion.finding {
                        if begun.elapsed() > goal.timeout {
                            return Err(failed(ctx, finding, &seen).await);
                        }
                        ctx.reporter.progress(&format!("{} {}", finding.object, finding.message));
                        sleep(RECOVERY).await;
                        continue;
                    }
                    // Read again: a person may have run helm since this began.
                    check_release(storage, goal).await?;
                    let claims = same_claims(ctx, goal.claims).await?;
                    let summary = verify::summary(&goal.expected, &seen) + &opinion.remarks;
                    return Ok(Verified { summary, claims });
                }
                let summary = verify::summary(&goal.expected, &seen);
                let left = goal.soak.saturating_sub(held).as_secs_f64().ceil();
                tracing::debug!("{summary}; {left} s to go");
                ctx.reporter.progress(&format!("{summary}; watching for {} s", goal.soak.as_secs()));
            }
            Some(finding) => {
                if let Some(finding) = right.take().and_then(|right| right.restarted(&restarts(&seen))) {
                    counted(ctx, finding, &seen).await?;
                }
                if finding.is_final() || begun.elapsed() > goal.timeout {
                    let trouble = observer.trouble().filter(|_| !finding.is_final());
                    let message = trouble.map_or(finding.message, |why| format!("cannot be watched: {why}"));
                    let finding = Deviation { message, ..finding };
                    return Err(failed(ctx, finding, &seen).await);
                }
                ctx.reporter.progress(&format!("{} {}", finding.object, finding.message));
            }
        }
        // Only a question tells what a pod answers, so it is asked every second even if no watch says anything.
        let _ = timeout(LOOK, observer.changed()).await;
        sleep(Duration::from_millis(100)).await;
    }
}

/// Since when everything is right, and how often the containers had been started by then.
struct HealthySince {
    since: Instant,
    restarts: BTreeMap<String, (String, i32)>,
}

impl HealthySince {
    fn restarted(&self, now: &BTreeMap<String, (String, i32)>) -> Option<Deviation> {
        now.iter().find_map(|(uid, (pod, count))| {
            let (_, before) = self.restarts.get(uid)?;
            (count > before).then(|| Deviation {
                class: FailureClass::VerificationFailed,
                object: format!("Pod/{pod}"),
                message: format!(
                    "was right, and then a container of it ended and was started again ({count} times until now)"
                ),
                pod: Some(pod.clone()),
            })
        })
    }
}

/// Counts a restart against the upgrade. Coder ends itself 5 minutes after its database was away, be it for a moment only, and
/// does so with every version.
async fn counted(ctx: &Context, finding: Deviation, seen: &[WorkloadPods]) -> Result<(), Error> {
    let mut pods = seen.iter().flat_map(|observed| &observed.pods).map(|asked| &asked.pod);
    let pod = pods.find(|pod| Some(&pod.name) == finding.pod.as_ref());
    let log = match pod {
        Some(pod) => diagnosis::of_last_run(ctx, pod).await,
        None => None,
    };
    if !log.is_some_and(|log| migration::lost_its_database(&log)) {
        return Err(failed(ctx, finding, seen).await);
    }
    let message = "has ended itself because its database was away a while ago; it is watched from the beginning again";
    tracing::warn!("{} {message}", finding.object);
    ctx.reporter.progress(&format!("{} {message}", finding.object));
    Ok(())
}

/// By the UID of each pod that stays: its name, and how often its containers were started again.
fn restarts(observed: &[WorkloadPods]) -> BTreeMap<String, (String, i32)> {
    let pods = observed.iter().flat_map(|observed| &observed.pods).map(|asked| &asked.pod).filter(|pod| !pod.leaving);
    pods.map(|pod| (pod.uid.clone(), (pod.name.clone(), pod.restarts()))).collect()
}

/// These claims must be there, with the UID and the volume that they had.
pub async fn same_claims(ctx: &Context, before: &[ClaimStatus]) -> Result<Vec<ClaimStatus>, Error> {
    let now = inventory::claims(ctx, &before.iter().map(|claim| claim.name.clone()).collect()).await?;
    compare_claims(before, &now)?;
    Ok(now.into_values().collect())
}

/// Refuses if a claim is not what it was. Compared with themselves, claims must only not be on their way out.
pub fn compare_claims(before: &[ClaimStatus], now: &BTreeMap<String, ClaimStatus>) -> Result<(), Error> {
    verify::lost_claims(before, now).into_iter().next().map_or(Ok(()), |finding| Err(problem(finding).into()))
}

/// The revision must be the newest, and deployed.
pub async fn check_release(storage: &Storage, goal: &Goal<'_>) -> Result<(), Error> {
    let history = storage.history().await?;
    let newest = history.first().map(|newest| (newest.number, newest.status.clone()));
    match newest {
        Some((number, status)) if number == goal.revision && status == "deployed" => Ok(()),
        Some((number, status)) => Err(Problem::new(
            FailureClass::VerificationFailed,
            format!(
                "the release is at revision {number} ({status}) instead of {} (deployed): somebody else changed it",
                goal.revision
            ),
        )
        .into()),
        None => Err(Problem::new(FailureClass::VerificationFailed, "the release is gone").into()),
    }
}

fn problem(finding: Deviation) -> Problem {
    Problem::new(finding.class, format!("{} {}", finding.object, finding.message)).object(finding.object)
}

async fn failed(ctx: &Context, finding: Deviation, observed: &[WorkloadPods]) -> Error {
    let named = finding.pod.clone();
    let pods = || observed.iter().flat_map(|o| &o.pods).map(|asked| &asked.pod);
    let pod = pods().find(|pod| Some(&pod.name) == named.as_ref());
    let Some(pod) = pod else { return problem(finding).into() };
    let PodDiagnosis { log, refusal, .. } = diagnosis::diagnose(ctx, pod).await;
    let problem = match refusal.filter(|_| finding.class == FailureClass::VerificationFailed) {
        Some(refusal) => Problem::new(refusal.class, format!("Pod/{} {}", pod.name, refusal.message))
            .object(format!("Pod/{}", pod.name)),
        None => problem(finding),
    };
    Problem { excerpt: log, ..problem }.into()
}
