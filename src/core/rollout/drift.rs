//! Whether a workload is still what was verified.
//!
//! A workload is marked by digests: of its labels, which a metadata watch sees, of its spec, and of the parts of the spec that
//! programs change most, so that people read what was changed. Left out is what changes
//! in the ordinary life of a release and never changes what Coder runs: the number of replicas (people and autoscalers), and
//! the annotations with which pods are started again (`kubectl rollout restart`). All other annotations of the workload itself
//! belong to controllers and count for nothing either; those of its pods count.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;
use serde::Serialize;
use serde_json::Value;

use crate::api::{CoderUpgradeStatus, Phase, StepName, WorkloadMark};
use crate::core::helm::workload::WorkloadKind;
use crate::core::text::digest::short_hash;

/// Digits of the digests of labels and spec, which tell whether something was changed.
const DIGITS: usize = 16;
/// Digits of the other digests, which tell what was changed.
const PART_DIGITS: usize = 8;
/// The most labels or annotations that are named.
const FEW: usize = 4;

/// Annotations of pod templates that only say when the pods were started again: kubectl, Rancher, Reloader.
const RESTARTS: [&str; 3] =
    ["kubectl.kubernetes.io/restartedAt", "cattle.io/timestamp", "reloader.stakater.com/last-reloaded-from"];

/// A workload as a metadata watch sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadMeta {
    /// Its UID.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// Digest of its labels.
    pub labels: String,
}

/// A workload as it was read, because its metadata gave reason to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadState {
    /// The workload as it is.
    pub mark: WorkloadMark,
    /// Images of its containers.
    pub images: Vec<String>,
    /// Who wrote each part of it last.
    pub writers: Vec<(WorkloadPart, FieldManager)>,
}

/// A part of a workload that is compared by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadPart {
    /// Its labels.
    Labels,
    /// Its spec.
    Spec,
    /// The images of its containers.
    Images,
    /// The annotations of its pods.
    PodAnnotations,
    /// The labels of its pods.
    PodLabels,
}

/// The parts in the order of their digests in a fingerprint.
const PARTS: [WorkloadPart; 5] = [
    WorkloadPart::Labels,
    WorkloadPart::Spec,
    WorkloadPart::Images,
    WorkloadPart::PodAnnotations,
    WorkloadPart::PodLabels,
];

/// Who wrote a part of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldManager {
    /// The program, as it calls itself.
    pub manager: String,
    /// Names of the labels or annotations that it has set.
    pub keys: Vec<String>,
}

/// A workload that is not what was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// What became of it, as a line for people.
    pub line: String,
    /// Who did it, as that program calls itself.
    pub manager: Option<String>,
    /// The workload as it is. One that is gone has no UID.
    pub now: WorkloadMark,
}

/// Whether changes from outside are looked for: Coder was verified, or the change that was noticed last could not be planned
/// away, so that only a further one is of interest.
pub fn is_watched(status: &CoderUpgradeStatus) -> bool {
    let planned_only = || status.steps.last().is_some_and(|step| step.name == StepName::Plan);
    match status.phase {
        Phase::Succeeded => true,
        Phase::Failed => !status.drift.is_empty() && planned_only(),
        _ => false,
    }
}

/// Digest of the labels of an object.
pub fn labels_digest(labels: &BTreeMap<String, String>) -> String {
    let parts: Vec<&str> = labels.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]).collect();
    short_hash(&parts, DIGITS)
}

/// The mark of a workload as it is.
pub fn mark<K: ResourceExt + Serialize>(kind: WorkloadKind, workload: &K) -> WorkloadMark {
    let spec = comparable_spec(workload);
    let digests = PARTS.map(|part| match part {
        WorkloadPart::Labels => labels_digest(workload.labels()),
        WorkloadPart::Spec => short_hash(&[&spec.to_string()], DIGITS),
        WorkloadPart::Images => short_hash(&images(&spec).collect::<Vec<_>>(), PART_DIGITS),
        WorkloadPart::PodAnnotations => part_digest(&spec, "/template/metadata/annotations"),
        WorkloadPart::PodLabels => part_digest(&spec, "/template/metadata/labels"),
    });
    WorkloadMark {
        kind: kind.to_string(),
        name: workload.name_any(),
        uid: workload.uid().unwrap_or_default(),
        generation: workload.meta().generation.unwrap_or_default(),
        fingerprint: digests.join("."),
    }
}

fn part_digest(spec: &Value, pointer: &str) -> String {
    let part = spec.pointer(pointer).map(Value::to_string).unwrap_or_default();
    short_hash(&[&part], PART_DIGITS)
}

fn images(spec: &Value) -> impl Iterator<Item = &str> {
    let containers =
        ["/template/spec/initContainers", "/template/spec/containers"].map(|pointer| spec.pointer(pointer));
    let containers = containers.into_iter().flatten().filter_map(Value::as_array).flatten();
    containers.filter_map(|container| container["image"].as_str())
}

/// A workload that was read, for the comparison with its mark.
pub fn found<K: ResourceExt + Serialize>(kind: WorkloadKind, workload: &K) -> WorkloadState {
    let spec = comparable_spec(workload);
    WorkloadState {
        mark: mark(kind, workload),
        images: images(&spec).map(Into::into).collect(),
        writers: PARTS.iter().filter_map(|part| Some((*part, writer(workload.managed_fields(), *part)?))).collect(),
    }
}

/// Who wrote a part last: of those that own something of it the newest, otherwise (something was removed) the newest at all.
/// What is written to the status or the scale of an object is not written to its spec.
fn writer(owners: &[ManagedFieldsEntry], part: WorkloadPart) -> Option<FieldManager> {
    let writes = || owners.iter().filter(|entry| entry.subresource.is_none());
    let time = |entry: &&ManagedFieldsEntry| entry.time.as_ref().map(|time| time.0);
    let of_part = writes().filter(|entry| !owned(entry, part).is_empty()).max_by_key(time);
    let last = of_part.or_else(|| writes().max_by_key(time))?;
    let named = |field: String| field.strip_prefix("f:").map(str::to_owned);
    let keys = match part {
        WorkloadPart::Labels | WorkloadPart::PodAnnotations | WorkloadPart::PodLabels => {
            owned(last, part).into_iter().filter_map(named).collect()
        }
        WorkloadPart::Spec | WorkloadPart::Images => Vec::new(),
    };
    Some(FieldManager { manager: last.manager.clone().unwrap_or_default(), keys })
}

/// What of a part an entry owns.
fn owned(entry: &ManagedFieldsEntry, part: WorkloadPart) -> Vec<String> {
    let Some(fields) = entry.fields_v1.as_ref().map(|fields| &fields.0) else { return Vec::new() };
    let pointer = match part {
        WorkloadPart::Labels => "/f:metadata/f:labels",
        WorkloadPart::Spec => "/f:spec",
        WorkloadPart::Images => "/f:spec/f:template/f:spec/f:containers",
        WorkloadPart::PodAnnotations => "/f:spec/f:template/f:metadata/f:annotations",
        WorkloadPart::PodLabels => "/f:spec/f:template/f:metadata/f:labels",
    };
    let inner = fields.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    let counts = |name: &str, value: &Value| match part {
        WorkloadPart::Images => value.get("f:image").is_some(),
        WorkloadPart::PodAnnotations => !RESTARTS.iter().any(|restart| name.strip_prefix("f:") == Some(restart)),
        _ => true,
    };
    inner.filter(|(name, value)| name.as_str() != "." && counts(name, value)).map(|(name, _)| name.clone()).collect()
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
pub fn may_differ(mark: &WorkloadMark, seen: Option<&WorkloadMeta>) -> bool {
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
pub fn compare(mark: &WorkloadMark, found: Option<WorkloadState>) -> Option<Drift> {
    let object = format!("{}/{}", mark.kind, mark.name);
    let Some(found) = found else {
        let gone = WorkloadMark { uid: String::new(), generation: 0, fingerprint: String::new(), ..mark.clone() };
        let line = format!("{object} is gone");
        return (!mark.uid.is_empty()).then_some(Drift { line, manager: None, now: gone });
    };
    let part = changed_part(mark, &found.mark);
    let writer =
        found.writers.iter().find(|(of, _)| *of == part.unwrap_or(WorkloadPart::Spec)).map(|(_, writer)| writer);
    let by = writer.map(|writer| format!(" by {}", writer.manager)).unwrap_or_default();
    let differs = |what: String| format!("{object} was changed{by}: {what}");
    let line = if mark.uid.is_empty() {
        format!("{object} is there again, made{by}")
    } else if mark.uid != found.mark.uid {
        format!("{object} is another one than was verified: it was deleted and created again{by}")
    } else {
        match part? {
            WorkloadPart::Labels => differs(format!("its labels differ from what was verified{}", set(writer))),
            WorkloadPart::PodLabels => {
                differs(format!("the labels of its pods differ from what was verified{}", set(writer)))
            }
            WorkloadPart::PodAnnotations => {
                differs(format!("the annotations of its pods differ from what was verified{}", set(writer)))
            }
            WorkloadPart::Images => {
                let images = found.images.join(", ");
                differs(format!("the images of its pods differ from what was verified (image now {images})"))
            }
            WorkloadPart::Spec => differs("its spec differs from what was verified".to_owned()),
        }
    };
    Some(Drift { line, manager: writer.map(|writer| writer.manager.clone()), now: found.mark })
}

/// What the writer has set, if that is few enough to be the change.
fn set(writer: Option<&FieldManager>) -> String {
    let keys = writer.map(|writer| writer.keys.as_slice()).unwrap_or_default();
    if keys.is_empty() || keys.len() > FEW { String::new() } else { format!(" ({})", keys.join(", ")) }
}

/// The most telling part that differs.
fn changed_part(before: &WorkloadMark, now: &WorkloadMark) -> Option<WorkloadPart> {
    let differs = |part: &WorkloadPart| {
        let digest = |mark: &WorkloadMark| mark.fingerprint.split('.').nth(*part as usize).map(str::to_owned);
        digest(before).is_some() && digest(before) != digest(now)
    };
    [
        WorkloadPart::Images,
        WorkloadPart::PodAnnotations,
        WorkloadPart::PodLabels,
        WorkloadPart::Spec,
        WorkloadPart::Labels,
    ]
    .into_iter()
    .find(differs)
}

/// The digests of labels and of the rest.
fn parts(fingerprint: &str) -> Option<(&str, &str)> {
    fingerprint.split_once('.')
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn deployment(change: impl FnOnce(&mut Value)) -> WorkloadState {
        let mut object = json!({
            "metadata": {"name": "coder", "uid": "u", "generation": 3, "labels": {"a": "b"}, "managedFields": [
                {"manager": "helm", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:paused": {}, "f:template": {"f:spec": {
                    "f:containers": {"k:{\"name\":\"c\"}": {"f:image": {}}}}}}}},
                {"manager": "vault", "time": "2026-01-02T00:00:00Z", "fieldsV1": {"f:spec": {"f:template": {"f:metadata": {
                    "f:annotations": {".": {}, "f:inject": {}}}}}}},
                {"manager": "kubectl-label", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:metadata": {"f:labels": {"f:a": {}}}}},
                {"manager": "controllers", "subresource": "status", "time": "2026-01-04T00:00:00Z"},
            ]},
            "spec": {"replicas": 1, "selector": {}, "template": {"spec": {"containers": [{"name": "c", "image": "coder:1"}]}}},
        });
        change(&mut object);
        found(WorkloadKind::Deployment, &serde_json::from_value::<Deployment>(object).unwrap())
    }

    fn after(change: impl FnOnce(&mut Value)) -> Option<String> {
        compare(&deployment(|_| {}).mark, Some(deployment(change))).map(|drift| drift.line)
    }

    fn metadata(found: &WorkloadState) -> WorkloadMeta {
        let labels = parts(&found.mark.fingerprint).unwrap().0.to_owned();
        WorkloadMeta { uid: found.mark.uid.clone(), generation: found.mark.generation, labels }
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
    #[case::label(json!({"metadata": {"labels": {"a": "c"}}}), "Deployment/coder was changed by kubectl-label: its labels differ from what was verified (a)")]
    #[case::pod_annotation(json!({"spec": {"template": {"metadata": {"annotations": {"inject": "no"}}}}}),
        "by vault: the annotations of its pods differ from what was verified (inject)")]
    #[case::image(json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "coder:2"}]}}}}),
        "by helm: the images of its pods differ from what was verified (image now coder:2)")]
    #[case::paused(json!({"spec": {"paused": true}}), "its spec differs from what was verified")]
    #[case::recreated(json!({"metadata": {"uid": "v"}}), "another one than was verified")]
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
        assert!(may_differ(&drift.now, Some(&metadata(&before))));
        assert!(compare(&drift.now, Some(before)).unwrap().line.contains("there again"));
    }

    #[test]
    fn only_what_a_watch_sees_change_is_read() {
        let before = deployment(|_| {});
        let seen = metadata(&before);
        let differs = |seen: WorkloadMeta| may_differ(&before.mark, Some(&seen));
        assert!(!differs(seen.clone()) && may_differ(&before.mark, None));
        assert!(!differs(WorkloadMeta { generation: 2, labels: "x".into(), ..seen.clone() }), "the watch is behind");
        assert!(differs(WorkloadMeta { generation: 4, ..seen.clone() }));
        assert!(differs(WorkloadMeta { labels: "x".into(), ..seen.clone() }));
        assert!(differs(WorkloadMeta { uid: "v".into(), ..seen }));
    }
}
