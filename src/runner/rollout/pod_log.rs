//! Why a server does not start, by its log and by the events of its pod.

use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};

use crate::{
    core::rollout::{
        migration::{self, StartupState},
        refusal::StartRefusal,
        workload::PodFacts,
    },
    runner::context::{Context, request},
};

/// How many events of a pod are looked at.
const EVENTS: u32 = 100;

/// Why a pod does not start, as its log and its events tell.
pub async fn refusal(ctx: &Context, pod: &PodFacts, log: &str) -> Option<StartRefusal> {
    match migration::said(log) {
        Some(StartupState::Refuses(refusal)) => Some(refusal),
        Some(StartupState::WaitsForDatabase(line)) => Some(migration::why_it_waits(&line)),
        _ if killed(ctx, pod, log).await => Some(StartRefusal::killed()),
        _ => None,
    }
}

/// Whether a liveness probe has killed the pod's container in the middle of a migration.
pub async fn killed(ctx: &Context, pod: &PodFacts, log: &str) -> bool {
    if pod.restarts() == 0 || !migration::was_migrating(log) {
        return false;
    }
    let events: Api<Event> = ctx.api();
    let ours = ListParams::default().fields(&format!("involvedObject.uid={},reason=Killing", pod.uid)).limit(EVENTS);
    match request(&format!("read the events of Pod/{}", pod.name), || events.list(&ours)).await {
        Ok(found) => found
            .iter()
            .any(|event| event.message.as_deref().is_some_and(|message| message.contains("failed liveness probe"))),
        Err(error) => {
            tracing::warn!("{error}");
            false
        }
    }
}
