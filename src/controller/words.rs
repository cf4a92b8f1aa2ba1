//! What the cluster says of a Job without a pod, or of a pod that does not start: the newest event about it.
//!
//! Read only for a step whose pod does not start, by the UID of the one object; nothing is watched.

use k8s_openapi::api::core::v1::Event;
use kube::{Api, ResourceExt, api::ListParams};
use tracing::warn;

use super::context::Context;
use super::request::bounded;
use crate::core::decide::is_silent;
use crate::core::decide::observed::Observed;
use crate::core::decide::start_failure::{EventFacts, clean, with_container};

/// Most events that are read about one object. Kubernetes counts repetitions in the event that is there.
const MOST: u32 = 50;

/// The newest event about the running step's Job or pod, if no pod of it starts.
pub async fn look(context: &Context, observed: &Observed) -> Option<EventFacts> {
    let status = observed.upgrade.status.as_ref()?;
    let job = observed.job(status.running_step()?).filter(|job| is_silent(job, observed.now))?;
    let (kind, uid) = job.pod.as_ref().map_or(("Job", &job.uid), |pod| ("Pod", &pod.uid));
    let api: Api<Event> = Api::namespaced(context.client.clone(), &observed.upgrade.namespace()?);
    let about =
        ListParams::default().fields(&format!("involvedObject.kind={kind},involvedObject.uid={uid}")).limit(MOST);
    match bounded(format!("read the events of {kind} {uid}"), api.list(&about)).await {
        Ok(events) => newest(events.items).map(|event| words(&event, uid, &job.name)),
        Err(error) => {
            warn!(%error, "nothing is known of a pod that does not start");
            None
        }
    }
}

fn newest(events: Vec<Event>) -> Option<Event> {
    let warning = |event: &Event| event.type_.as_deref() == Some("Warning");
    // In whole seconds, as older events have it; a warning of the same second tells more.
    let time = |event: &Event| {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        let first = event.event_time.as_ref().map(|time| time.0);
        let created = event.creation_timestamp().map(|time| time.0);
        series.or(last).or(first).or(created).map(jiff::Timestamp::as_second)
    };
    events.into_iter().max_by_key(|event| (time(event), warning(event)))
}

fn words(event: &Event, uid: &str, job: &str) -> EventFacts {
    let message = clean(event.message.as_deref().unwrap_or_default(), job);
    EventFacts {
        uid: uid.to_owned(),
        warning: event.type_.as_deref() == Some("Warning"),
        reason: event.reason.clone().unwrap_or_default(),
        message: with_container(&message, event.involved_object.field_path.as_deref()),
    }
}
