//! What is made for a backup before a change: a Job from a `CronJob`, or a `VolumeSnapshot`.
//!
//! Neither belongs to the `CoderUpgrade`: a backup outlives what it was made for.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Resource, ResourceExt};
use serde_json::json;

use crate::api::label;

/// API version of the snapshots that are made.
pub const SNAPSHOT_API: &str = "snapshot.storage.k8s.io/v1";
/// Kind of the snapshots that are made.
pub const SNAPSHOT_KIND: &str = "VolumeSnapshot";

/// Marks a Job that was not started by the clock, as kubectl does.
const INSTANTIATE: &str = "cronjob.kubernetes.io/instantiate";

/// The Job of a `CronJob`, started now, whether the `CronJob` is suspended or not. It belongs to the `CronJob`, whose limits
/// of history then hold for it.
pub fn job(cron_job: &CronJob, name: &str, upgrade: &str, plan: &str) -> Job {
    let template = cron_job.spec.as_ref().map(|spec| spec.job_template.clone()).unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.insert(INSTANTIATE.to_owned(), "manual".to_owned());
    let mut labels = metadata.labels.unwrap_or_default();
    labels.extend(ours(upgrade, plan));
    Job {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: cron_job.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: owner(cron_job).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

fn owner(cron_job: &CronJob) -> Option<OwnerReference> {
    let mut owner = cron_job.controller_owner_ref(&())?;
    owner.block_owner_deletion = None; // It would need the right to set finalizers of the CronJob.
    Some(owner)
}

/// The snapshot of a claim.
pub fn snapshot(claim: &str, class: &str, name: &str, namespace: &str, upgrade: &str, plan: &str) -> DynamicObject {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", SNAPSHOT_KIND));
    let mut snapshot = DynamicObject::new(name, &kind).within(namespace);
    snapshot.metadata.labels = Some(ours(upgrade, plan));
    snapshot.data = json!({"spec": {"volumeSnapshotClassName": class, "source": {"persistentVolumeClaimName": claim}}});
    snapshot
}

fn ours(upgrade: &str, plan: &str) -> BTreeMap<String, String> {
    let upgrade = crate::core::object::label_value(upgrade);
    BTreeMap::from([(label::UPGRADE.to_owned(), upgrade), (label::PLAN.to_owned(), plan.to_owned())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_made_as_kubectl_makes_one() {
        let cron_job: CronJob = serde_json::from_value(json!({
            "metadata": {"name": "nightly", "namespace": "coder", "uid": "u"},
            "spec": {"schedule": "0 3 * * *", "suspend": true, "jobTemplate": {
                "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
                "spec": {"backoffLimit": 2, "template": {"spec": {"containers": []}}}}},
        }))
        .unwrap();
        let job = job(&cron_job, "nightly-1", "coder", "p");
        assert_eq!(job.annotations()[INSTANTIATE], "manual");
        assert_eq!((job.annotations()["c"].as_str(), job.labels()["a"].as_str()), ("d", "b"));
        assert_eq!(job.labels()[label::PLAN], "p");
        let owner = &job.owner_references()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("CronJob", "u", Some(true)));
        assert_eq!((owner.block_owner_deletion, job.spec.unwrap().backoff_limit), (None, Some(2)));
    }

    #[test]
    fn a_snapshot_belongs_to_nobody() {
        let snapshot = snapshot("data", "fast", "data-1", "coder", "coder", "p");
        assert_eq!(snapshot.owner_references(), []);
        assert_eq!(snapshot.data["spec"]["source"]["persistentVolumeClaimName"], "data");
        assert_eq!(snapshot.types.unwrap().api_version, SNAPSHOT_API);
    }
}
