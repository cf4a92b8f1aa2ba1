//! The lines of a pod's log that explain why it does not do what it should.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;

use super::pod_log;
use crate::core::report::TEXT_LIMIT;
use crate::core::rollout::migration;
use crate::core::rollout::refusal;
use crate::core::rollout::refusal::StartRefusal;
use crate::core::rollout::verify::WorkloadPods;
use crate::core::rollout::workload::{ContainerFacts, PodFacts};
use crate::core::text::display::printable;
use crate::core::text::redact;
use crate::runner::cluster::pod_secrets;
use crate::runner::context::{Context, request};

/// How much of a log is searched for secrets, in bytes.
const SEARCHED: usize = 64 * 1024;
/// How many lines are enough.
const LINES: i64 = 40;
/// How many bytes of them are asked for at most.
const MOST: i64 = 1 << 20;

/// The pod that most likely explains a rollout that did not end: one in trouble, else one that is not ready.
pub fn failing_pod(observed: &[WorkloadPods]) -> Option<&PodFacts> {
    let live =
        || observed.iter().flat_map(|o| &o.pods).map(|asked| &asked.pod).filter(|pod| !pod.leaving && !pod.ready);
    live().find(|pod| pod.trouble().is_some()).or_else(|| live().next())
}

/// What a pod tells about a rollout that does not end.
pub struct PodDiagnosis {
    /// Name of the pod.
    pub pod: String,
    /// What keeps it from being ready.
    pub trouble: String,
    /// The end of its log, if there is one.
    pub log: Option<String>,
    /// Why it does not start on its database, if it says so.
    pub refusal: Option<StartRefusal>,
}

/// Hears a pod.
pub async fn diagnose(ctx: &Context, pod: &PodFacts) -> PodDiagnosis {
    let mut log = of_pod(ctx, pod).await;
    let mut refusal = match &log {
        Some(log) => pod_log::refusal(ctx, pod, log).await,
        None => None,
    };
    // It has just been started again, and would say the same once more.
    if refusal.is_none()
        && let Some(before) = before(ctx, pod).await
        && let Some(refused) = refusal::of_log(&before)
    {
        (log, refusal) = (Some(before), Some(refused));
    }
    let does = migration::activity(pod, log.as_deref(), Timestamp::now());
    let trouble = does.or_else(|| pod.trouble()).unwrap_or_else(|| pod.unready());
    PodDiagnosis { pod: pod.name.clone(), trouble, log, refusal }
}

/// The end of the log of the container that keeps the pod from being ready; of its previous run if it is not running, or has
/// not said anything yet. None if there is no log, or no way to it.
pub async fn of_pod(ctx: &Context, pod: &PodFacts) -> Option<String> {
    let container = failing_container(pod)?;
    if container.waiting.is_some() && container.restarts > 0 {
        return read(ctx, pod, container, true).await;
    }
    match read(ctx, pod, container, false).await {
        Some(log) => Some(log),
        None => before(ctx, pod).await,
    }
}

/// The end of the log of the previous run of a container that runs again.
async fn before(ctx: &Context, pod: &PodFacts) -> Option<String> {
    let container = failing_container(pod).filter(|container| container.waiting.is_none() && container.restarts > 0)?;
    read(ctx, pod, container, true).await
}

/// The end of the log of the run before the present one, of a container that was started again.
pub async fn of_last_run(ctx: &Context, pod: &PodFacts) -> Option<String> {
    read(ctx, pod, pod.foremost(|container| container.restarts > 0)?, true).await
}

async fn read(ctx: &Context, pod: &PodFacts, container: &ContainerFacts, previous: bool) -> Option<String> {
    let parameters = LogParams {
        container: Some(container.name.clone()),
        previous,
        tail_lines: Some(LINES),
        limit_bytes: Some(MOST),
        ..LogParams::default()
    };
    pod_secrets::of_pod(ctx, &pod.name).await;
    let pods: Api<Pod> = ctx.api();
    match request(&format!("read the log of Pod/{}", pod.name), || pods.logs(&pod.name, &parameters)).await {
        Ok(log) if !log.trim().is_empty() => Some(shown(ctx, &log)),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!("{error}");
            None
        }
    }
}

/// The end of a log, without secrets. It is cut once more than it is shown, so that a line of gigabytes is not searched; what
/// that leaves of a secret at the edge is cut off by the second cut.
fn shown(ctx: &Context, log: &str) -> String {
    let log = printable(&redact::tail(log.trim_end(), SEARCHED));
    redact::tail(&ctx.secrets.clean(&log), TEXT_LIMIT)
}

/// A container that is not ready, a server of Coder before all others, and init containers before those that wait for them;
/// else one that was started again, or any.
fn failing_container(pod: &PodFacts) -> Option<&ContainerFacts> {
    let unready = pod.foremost(|c| !c.ready && (c.waiting.is_none() || c.last_exit.is_some()));
    unready.or_else(|| pod.foremost(|c| c.restarts > 0)).or_else(|| pod.foremost(|_| true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rollout::verify::PodAnswer;

    fn pod(name: &str, ready: bool, leaving: bool, unschedulable: bool) -> PodAnswer {
        let unschedulable = unschedulable.then(|| "no node".to_owned());
        PodAnswer {
            pod: PodFacts { name: name.into(), ready, leaving, unschedulable, ..PodFacts::default() },
            ..PodAnswer::default()
        }
    }

    #[test]
    fn the_pod_in_trouble_explains_it() {
        let pods = vec![
            pod("gone", false, true, false),
            pod("well", true, false, false),
            pod("slow", false, false, false),
            pod("stuck", false, false, true),
        ];
        let observed = [WorkloadPods { pods, ..WorkloadPods::default() }];
        assert_eq!(failing_pod(&observed).map(|p| p.name.as_str()), Some("stuck"));
        assert!(failing_pod(&[]).is_none());
    }

    #[test]
    fn the_container_that_is_not_ready_is_asked() {
        let container = |name: &str, ready: bool, waiting: bool, last_exit: Option<i32>| ContainerFacts {
            name: name.into(),
            ready,
            restarts: 0,
            waiting: waiting.then(|| ("PodInitializing".into(), String::new())),
            last_exit,
            ..ContainerFacts::default()
        };
        let pod = PodFacts {
            containers: vec![container("migrations", false, true, Some(1)), container("coder", false, true, None)],
            ..PodFacts::default()
        };
        assert_eq!(failing_container(&pod).unwrap().name, "migrations");
        // A server that is not well explains more than what a webhook has put beside it, or before it.
        let beside = |coder: ContainerFacts| {
            let proxy = ContainerFacts { restarts: 9, ..container("proxy", false, true, Some(1)) };
            let pod = PodFacts { containers: vec![proxy, coder], ..PodFacts::default() };
            failing_container(&pod).unwrap().name.clone()
        };
        assert_eq!(beside(container("coder", false, true, Some(1))), "coder");
        assert_eq!(beside(container("coder", false, false, None)), "coder");
        assert_eq!(beside(container("coder", true, false, None)), "proxy");
        assert_eq!(beside(container("coder", false, true, None)), "proxy", "it has not been started yet");
    }
}
