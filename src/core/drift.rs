//! Whether a workload is still what was verified.
//!
//! A workload is marked by two digests: of its labels, which a metadata watch sees, and of its spec. Left out is what changes
//! in the ordinary life of a release and never changes what Coder runs: the number of replicas (people and autoscalers), and
//! the annotations with which pods are started again (`kubectl rollout restart`). All other annotations of the workload itself
//! belong to controllers and count for nothing either; those of its pods count.

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde::Serialize;
use serde_json::Value;

use super::digest::short_hash;
use super::plan::WorkloadKind;
use crate::api::{CoderUpgradeStatus, Phase, StepName, WorkloadMark};

/// Digits of each of the two digests.
const DIGITS: usize = 16;

/// Annotations of pod templates that only say when the pods were started again: kubectl, Rancher, Reloader.
const RESTARTS: [&str; 3] =
    ["kubectl.kubernetes.io/restartedAt", "cattle.io/timestamp", "reloader.stakater.com/last-reloaded-from"];

/// A workload as a metadata watch sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glimpse {
    /// Its UID.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// Digest of its labels.
    pub labels: String,
}

/// A workload as it was read, because a glimpse of it gave reason to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The workload as it is.
    pub mark: WorkloadMark,
    /// Images of its containers.
    pub images: Vec<String>,
    /// Who wrote it last, as that program calls itself.
    pub writer: Option<String>,
}

/// A workload that is not what was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// What became of it, as a line for people.
    pub line: String,
    /// The workload as it is. One that is gone has no UID.
    pub now: WorkloadMark,
}

/// Whether changes from outside are looked for: Coder was verified, or the change that was noticed last could not be planned
/// away, so that only a further one is of interest.
#[must_use]
pub fn is_watched(status: &CoderUpgradeStatus) -> bool {
    let planned_only = || status.steps.last().is_some_and(|step| step.name == StepName::Plan);
    match status.phase {
        Phase::Succeeded => true,
        Phase::Failed => !status.changed_outside.is_empty() && planned_only(),
        _ => false,
    }
}

/// Digest of the labels of an object.
#[must_use]
pub fn labels_digest(labels: &BTreeMap<String, String>) -> String {
    let parts: Vec<&str> = labels.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]).collect();
    short_hash(&parts, DIGITS)
}

/// The mark of a workload as it is.
#[must_use]
pub fn mark<K: ResourceExt + Serialize>(kind: WorkloadKind, workload: &K) -> WorkloadMark {
    let labels = labels_digest(workload.labels());
    WorkloadMark {
        kind: kind.to_string(),
        name: workload.name_any(),
        uid: workload.uid().unwrap_or_default(),
        generation: workload.meta().generation.unwrap_or_default(),
        fingerprint: format!("{labels}.{}", short_hash(&[&comparable_spec(workload).to_string()], DIGITS)),
    }
}

/// A workload that was read, for the comparison with its mark.
#[must_use]
pub fn found<K: ResourceExt + Serialize>(kind: WorkloadKind, workload: &K) -> Found {
    let spec = comparable_spec(workload);
    let containers = spec.pointer("/template/spec/containers").and_then(Value::as_array);
    let images = containers.into_iter().flatten().filter_map(|container| container["image"].as_str());
    // What is written to the status or the scale of an object is not written to its spec.
    let writes = workload.managed_fields().iter().filter(|entry| entry.subresource.is_none());
    let last = writes.max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    Found {
        mark: mark(kind, workload),
        images: images.map(Into::into).collect(),
        writer: last.and_then(|entry| entry.manager.clone()),
    }
}

/// The spec without what may change. Maps have their keys in order, so that equal specs have equal texts.
fn comparable_spec<K: Serialize>(workload: &K) -> Value {
    let mut workload = serde_json::to_value(workload).unwrap_or_default();
    let mut spec = workload["spec"].take();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("replicas");
    }
    if let Some(annotations) = spec.pointer_mut("/template/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !RESTARTS.contains(&key.as_str()));
    }
    // A map that has become empty is the same as none.
    for (parent, child) in [("/template/metadata", "annotations"), ("/template", "metadata")] {
        if let Some(parent) = spec.pointer_mut(parent).and_then(Value::as_object_mut)
            && parent.get(child).is_some_and(|child| child == &Value::Object(serde_json::Map::new()))
        {
            parent.remove(child);
        }
    }
    spec
}

/// Whether a workload must be read to know if it is still what was marked. One that is seen older than its mark is not: the
/// watch has not come so far.
#[must_use]
pub fn may_differ(mark: &WorkloadMark, seen: Option<&Glimpse>) -> bool {
    match seen {
        None => !mark.uid.is_empty(),
        Some(seen) if seen.uid == mark.uid => {
            seen.generation > mark.generation
                || (seen.generation == mark.generation
                    && Some(seen.labels.as_str()) != parts(&mark.fingerprint).map(|p| p.0))
        }
        Some(_) => true,
    }
}

/// What became of a workload, if it is not what was marked.
#[must_use]
pub fn compare(mark: &WorkloadMark, found: Option<Found>) -> Option<Drift> {
    let object = format!("{}/{}", mark.kind, mark.name);
    let Some(Found { mark: now, images, writer }) = found else {
        let gone = WorkloadMark { uid: String::new(), generation: 0, fingerprint: String::new(), ..mark.clone() };
        return (!mark.uid.is_empty()).then(|| Drift { line: format!("{object} is gone"), now: gone });
    };
    let by = writer.map(|writer| format!(" by {writer}")).unwrap_or_default();
    let line = if mark.uid.is_empty() {
        format!("{object} is there again, made{by}")
    } else if mark.uid != now.uid {
        format!("{object} is another one than was verified: it was deleted and made anew{by}")
    } else if parts(&mark.fingerprint).map(|p| p.1) != parts(&now.fingerprint).map(|p| p.1) {
        let images = images.join(", ");
        format!("{object} was changed{by}: its spec differs from what was verified (image now {images})")
    } else if mark.fingerprint != now.fingerprint {
        format!("{object} was changed{by}: its labels differ from what was verified")
    } else {
        return None;
    };
    Some(Drift { line, now })
}

/// The digests of labels and spec.
fn parts(fingerprint: &str) -> Option<(&str, &str)> {
    fingerprint.split_once('.')
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn deployment(change: impl FnOnce(&mut Value)) -> Found {
        let mut object = json!({
            "metadata": {"name": "coder", "uid": "u", "generation": 3, "labels": {"a": "b"}, "managedFields": [
                {"manager": "helm", "time": "2026-01-01T00:00:00Z"},
                {"manager": "kubectl-set", "time": "2026-01-02T00:00:00Z"},
                {"manager": "controllers", "subresource": "status", "time": "2026-01-03T00:00:00Z"},
            ]},
            "spec": {"replicas": 1, "selector": {}, "template": {"spec": {"containers": [{"name": "c", "image": "coder:1"}]}}},
        });
        change(&mut object);
        found(WorkloadKind::Deployment, &serde_json::from_value::<Deployment>(object).unwrap())
    }

    fn after(change: impl FnOnce(&mut Value)) -> Option<String> {
        compare(&deployment(|_| {}).mark, Some(deployment(change))).map(|drift| drift.line)
    }

    fn glimpse(found: &Found) -> Glimpse {
        let labels = parts(&found.mark.fingerprint).unwrap().0.to_owned();
        Glimpse { uid: found.mark.uid.clone(), generation: found.mark.generation, labels }
    }

    #[rstest]
    #[case::nothing(json!({}))]
    #[case::scaled(json!({"metadata": {"generation": 4}, "spec": {"replicas": 5}}))]
    #[case::annotated(json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": "7"}}}))]
    #[case::restarted(json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}}))]
    fn ordinary_life_is_no_change(#[case] patch: Value) {
        assert_eq!(after(|object| merge(object, &patch)), None);
    }

    #[rstest]
    #[case::label(json!({"metadata": {"labels": {"a": "c"}}}), "Deployment/coder was changed by kubectl-set: its labels")]
    #[case::pod_annotation(json!({"spec": {"template": {"metadata": {"annotations": {"inject": "no"}}}}}), "its spec differs")]
    #[case::paused(json!({"spec": {"paused": true}}), "its spec differs from what was verified (image now coder:1)")]
    #[case::made_anew(json!({"metadata": {"uid": "v"}}), "another one than was verified")]
    fn what_differs_is_named(#[case] patch: Value, #[case] part: &str) {
        let line = after(|object| merge(object, &patch)).unwrap_or_default();
        assert!(line.contains(part), "{line}");
    }

    fn merge(object: &mut Value, patch: &Value) {
        match (object, patch) {
            (Value::Object(object), Value::Object(patch)) => {
                for (key, value) in patch {
                    merge(object.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
            (object, patch) => *object = patch.clone(),
        }
    }

    #[test]
    fn one_that_is_gone_stays_gone_until_it_is_back() {
        let before = deployment(|_| {});
        let drift = compare(&before.mark, None).unwrap();
        assert_eq!(drift.line, "Deployment/coder is gone");
        assert!(!may_differ(&drift.now, None) && compare(&drift.now, None).is_none());
        assert!(may_differ(&drift.now, Some(&glimpse(&before))));
        assert!(compare(&drift.now, Some(before)).unwrap().line.contains("there again"));
    }

    #[test]
    fn only_what_a_watch_sees_change_is_read() {
        let before = deployment(|_| {});
        let seen = glimpse(&before);
        let differs = |seen: Glimpse| may_differ(&before.mark, Some(&seen));
        assert!(!differs(seen.clone()) && may_differ(&before.mark, None));
        assert!(!differs(Glimpse { generation: 2, labels: "x".into(), ..seen.clone() }), "the watch is behind");
        assert!(differs(Glimpse { generation: 4, ..seen.clone() }));
        assert!(differs(Glimpse { labels: "x".into(), ..seen.clone() }));
        assert!(differs(Glimpse { uid: "v".into(), ..seen }));
    }
}
