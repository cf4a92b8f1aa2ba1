//! Events about a pod, published as a kubelet's recorder does: what is said again is counted, and their number is bounded.
//!
//! The recorder of kube tells events apart by reason alone: it would go on showing the first note of a reason after the
//! cause has changed.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Mutex;

/// A kubelet publishes 25 events about an object, and then one more every five minutes (client-go, `tools/record`:
/// `defaultSpamBurst`, `defaultSpamQPS`). Each publication is one request.
const BURST: i64 = 25;
const REFILL_EVERY: SignedDuration = SignedDuration::from_secs(300);
/// Further notes of the same reason share one event after so many (`defaultAggregateMaxEvents`).
const MAX_NOTES: usize = 10;
const COMBINED: &str = "(combined from similar events): ";
/// What programs that read events take for the node's agent.
const COMPONENT: &str = "kubelet";
/// The most of a note that is published, and of a pod's name in that of an event, in characters.
const MAX_NOTE: usize = 1000;
const MAX_NAME: usize = 200;

/// The events about one pod.
pub struct Events {
    client: Client,
    /// The pod.
    about: ObjectReference,
    /// Name of the node.
    host: String,
    log: Mutex<Log>,
}

impl Events {
    /// Nothing is said yet about the pod of this namespace, name and UID.
    pub fn new(client: Client, host: String, [namespace, name, uid]: [&str; 3]) -> Self {
        let about = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        Self { client, about, host, log: Mutex::default() }
    }

    /// Publishes a warning. One that cannot be published is only logged, as a kubelet does.
    pub async fn warn(&self, reason: &str, note: &str) {
        // Locked until it is published, so that a count never overtakes the event it belongs to.
        let mut log = self.log.lock().await;
        let pod = self.about.name.as_deref().unwrap_or_default();
        let Some(publication) = log.record(pod, reason, note, Timestamp::now()) else { return };
        if let Err(error) = self.publish(reason, publication).await {
            tracing::debug!(pod, reason, %error, "event not published");
        }
    }

    async fn publish(&self, reason: &str, publication: Publication) -> Result<(), kube::Error> {
        let namespace = self.about.namespace.clone();
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace.as_deref().unwrap_or_default());
        let Publication { name, note, count, first, last } = publication;
        if count > 1 {
            let patch = Patch::Merge(json!({"count": count, "message": note, "lastTimestamp": Time(last)}));
            match events.patch(&name, &PatchParams::default(), &patch).await {
                // It has expired, or was never published.
                Err(kube::Error::Api(answer)) if answer.is_not_found() => {}
                done => return done.map(drop),
            }
        }
        let event = Event {
            metadata: ObjectMeta { name: Some(name), namespace, ..ObjectMeta::default() },
            involved_object: self.about.clone(),
            type_: Some("Warning".into()),
            reason: Some(reason.to_owned()),
            message: Some(note),
            count: Some(count),
            first_timestamp: Some(Time(first)),
            last_timestamp: Some(Time(last)),
            source: Some(EventSource { component: Some(COMPONENT.into()), host: Some(self.host.clone()) }),
            reporting_component: Some(COMPONENT.into()),
            reporting_instance: Some(self.host.clone()),
            ..Event::default()
        };
        events.create(&PostParams::default(), &event).await.map(drop)
    }
}

/// An event as it is to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Publication {
    name: String,
    note: String,
    /// How often it was said.
    count: i32,
    first: Timestamp,
    last: Timestamp,
}

/// What was said of a pod.
#[derive(Debug, Default)]
struct Log {
    /// By reason and note.
    said: BTreeMap<(String, String), Publication>,
    spent: i64,
    refilled: Option<Timestamp>,
}

impl Log {
    /// Takes down what is said; `None` if it is not to be published for now.
    fn record(&mut self, pod: &str, reason: &str, note: &str, now: Timestamp) -> Option<Publication> {
        let note: String = note.chars().take(MAX_NOTE).collect();
        let mut key = (reason.to_owned(), note.clone());
        let mut shown = note;
        let notes = self.said.keys().filter(|(of, _)| of == reason).count();
        if notes >= MAX_NOTES && !self.said.contains_key(&key) {
            COMBINED.clone_into(&mut key.1);
            shown = format!("{COMBINED}{shown}");
        }
        let said = self.said.entry(key).or_insert_with(|| {
            let pod: String = pod.chars().take(MAX_NAME).collect();
            let name = format!("{pod}.{:x}", now.as_nanosecond());
            Publication { name, note: String::new(), count: 0, first: now, last: now }
        });
        said.count += 1;
        said.note = shown;
        said.last = now;
        let said = said.clone();
        self.may_publish(now).then_some(said)
    }

    fn may_publish(&mut self, now: Timestamp) -> bool {
        let refilled = *self.refilled.get_or_insert(now);
        let periods = now.duration_since(refilled).as_secs() / REFILL_EVERY.as_secs();
        if periods > 0 {
            self.spent = (self.spent - periods).max(0);
            self.refilled = Some(now);
        }
        let may = self.spent < BURST;
        self.spent += i64::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_said_again_is_counted_and_another_note_is_another_event() {
        let mut log = Log::default();
        let first = log.record("pod", "FailedMount", "not synced", at(0)).unwrap();
        let other = log.record("pod", "FailedMount", "not found", at(1)).unwrap();
        let again = log.record("pod", "FailedMount", "not found", at(2)).unwrap();
        assert_eq!((first.count, other.count, again.count), (1, 1, 2));
        assert_ne!(first.name, other.name);
        assert_eq!((again.name, again.first, again.last), (other.name, at(1), at(2)));
    }

    #[test]
    fn their_number_is_bounded_and_nothing_that_was_said_is_forgotten() {
        let mut log = Log::default();
        let published = (0..100).filter(|_| log.record("pod", "BackOff", "again", at(0)).is_some()).count();
        assert_eq!(published, 25);
        assert!(log.record("pod", "Killing", "another reason", at(299)).is_none());
        assert_eq!(log.record("pod", "BackOff", "again", at(300)).unwrap().count, 101);
        assert!(log.record("pod", "BackOff", "again", at(300)).is_none());
    }

    #[test]
    fn many_notes_of_one_reason_share_an_event() {
        let mut log = Log::default();
        let said: Vec<_> = (0..20).map(|n| log.record("pod", "Unhealthy", &format!("{n}"), at(n)).unwrap()).collect();
        assert_eq!(said[9].note, "9");
        assert_eq!(said[19].note, "(combined from similar events): 19");
        assert_eq!((&said[19].name, said[19].count), (&said[10].name, 10));
    }
}
