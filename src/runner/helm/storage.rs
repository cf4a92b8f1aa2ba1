//! Helm's storage: one Secret per revision, found by labels.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams};
use serde_json::json;

use super::record::{Record, RecordError};
use crate::api::{FailureClass, label};
use crate::core::helm::documents::Documents;
use crate::core::helm::history::Revision;
use crate::core::report::Problem;
use crate::runner::cluster::lease::Held;
use crate::runner::context::request;
use crate::runner::error::Error;

/// Key of the record in its Secret.
const RECORD_KEY: &str = "release";
/// Key beside it, while the record holds another manifest for a time: one that has the manifest as it was.
const ORIGINAL_KEY: &str = "coderupgrade.dev.original";

/// What the data of a Secret may take together, in bytes: a limit of the API server.
const LIMIT: usize = 1 << 20;

/// The records of one release.
#[derive(Clone)]
pub struct Storage {
    secrets: Api<Secret>,
    release: String,
}

/// A record with the bytes that it was read from.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The record.
    pub record: Record,
    /// The record as stored.
    pub raw: Vec<u8>,
    /// When helm began with this revision: whatever it made for it is not older.
    pub created: Option<Timestamp>,
    /// The Secret holds another manifest for a time; `record` and `raw` are as they were before. See [`super::held_release::HeldRelease::write_temporarily`].
    pub temporary: bool,
    /// Version of the Secret that was read.
    resource_version: Option<String>,
    /// Name of the Secret.
    secret: String,
}

impl Storage {
    /// The records of a release in the namespace of `secrets`.
    pub fn new(secrets: Api<Secret>, release: &str) -> Self {
        Self { secrets, release: release.to_owned() }
    }

    /// The revisions, the newest first, from the labels alone: records are large.
    pub async fn history(&self) -> Result<Vec<Revision>, Error> {
        let selector = ListParams::default().labels(&format!("owner=helm,name={}", self.release));
        let doing = format!("list the records of the Helm release {}", self.release);
        let found = request(&doing, || self.secrets.list_metadata(&selector)).await?;
        Ok(revisions(found.items.into_iter().map(|secret| secret.metadata).collect()))
    }

    /// Reads the record of a revision.
    pub async fn read(&self, revision: &Revision) -> Result<Stored, Error> {
        let secret =
            request(&format!("read Secret/{}", revision.secret), || self.secrets.get(&revision.secret)).await?;
        let broken = |source| Error::Record { secret: revision.secret.clone(), source };
        let mut data = secret.data.unwrap_or_default();
        let ByteString(mut raw) = data.remove(RECORD_KEY).ok_or_else(|| broken(RecordError::Missing))?;
        let mut record = Record::decode(&raw).map_err(broken)?;
        let original = data.remove(ORIGINAL_KEY);
        if let Some(ByteString(original)) = &original {
            record.set_manifest(Record::decode(original).map_err(broken)?.manifest().to_owned());
            raw = record.encode().map_err(broken)?;
        }
        let created = secret.metadata.creation_timestamp.map(|time| time.0);
        Ok(Stored {
            record,
            raw,
            created,
            temporary: original.is_some(),
            resource_version: secret.metadata.resource_version,
            secret: revision.secret.clone(),
        })
    }

    /// The objects of all these revisions; what several contain is taken from the first of them. Records that were read already
    /// are in `known`.
    pub async fn union(&self, revisions: &[Revision], known: &[&Stored], namespace: &str) -> Result<Documents, Error> {
        let mut union = Documents::parse("", namespace)?;
        for revision in revisions {
            let known = known.iter().find(|stored| stored.secret == revision.secret);
            let manifest = match known {
                Some(stored) => stored.record.manifest().to_owned(),
                None => self.read(revision).await?.record.manifest().to_owned(),
            };
            union.add_missing(&Documents::parse_whole(&manifest, namespace)?);
        }
        Ok(union)
    }

    /// See [`super::held_release::HeldRelease::rewrite`].
    pub(super) async fn rewrite(&self, lease: &Held, stored: &Stored) -> Result<(), Error> {
        self.write(lease, stored, &stored.record, None).await
    }

    /// See [`super::held_release::HeldRelease::write_temporarily`].
    pub(super) async fn write_temporarily(&self, lease: &Held, stored: &Stored, manifest: String) -> Result<(), Error> {
        let original = Record::from(json!({"manifest": stored.record.manifest()}));
        let original = original.encode().map_err(|source| stored.broken(source))?;
        let mut record = stored.record.clone();
        record.set_manifest(manifest);
        self.write(lease, stored, &record, Some(original)).await
    }

    async fn write(
        &self,
        lease: &Held,
        stored: &Stored,
        record: &Record,
        original: Option<Vec<u8>>,
    ) -> Result<(), Error> {
        let Stored { secret, resource_version, .. } = stored;
        let broken = |source| stored.broken(source);
        let labels = json!({
            "status": record.status().map_err(broken)?,
            "modifiedAt": Timestamp::now().as_second().to_string(),
        });
        let encoded = record.encode().map_err(broken)?;
        fits(secret, encoded.len() + original.as_ref().map_or(0, Vec::len))?;
        let patch = json!({
            "metadata": {"resourceVersion": resource_version, "labels": labels},
            "data": {RECORD_KEY: ByteString(encoded), ORIGINAL_KEY: original.map(ByteString)},
        });
        let doing = format!("write revision {} in Secret/{secret}", record.revision().map_err(broken)?);
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        lease.write(&doing, || self.secrets.patch_metadata(secret, &parameters, &patch)).await?;
        Ok(())
    }
}

/// The revisions of a release that helm has recorded in `ConfigMaps` (`HELM_DRIVER=configmap`), the newest first.
pub async fn in_config_maps(maps: &Api<ConfigMap>, release: &str) -> Result<Vec<Revision>, Error> {
    let selector = ListParams::default().labels(&format!("owner=helm,name={release}"));
    let doing = format!("list the records of the Helm release {release} in ConfigMaps");
    let found = request(&doing, || maps.list_metadata(&selector)).await?;
    Ok(revisions(found.items.into_iter().map(|map| map.metadata).collect()))
}

/// The record of such a revision as it is stored. A copy of it in a Secret has the same bytes.
pub async fn raw_in_config_map(maps: &Api<ConfigMap>, revision: &Revision) -> Result<Option<Vec<u8>>, Error> {
    let name = &revision.secret;
    let map = request(&format!("read ConfigMap/{name}"), || maps.get(name)).await?;
    Ok(map.data.and_then(|mut data| data.remove(RECORD_KEY)).map(String::into_bytes))
}

/// The revisions that these objects hold, the newest first.
fn revisions(records: Vec<ObjectMeta>) -> Vec<Revision> {
    let mut revisions: Vec<Revision> = records.into_iter().filter_map(revision).collect();
    revisions.sort_by_key(|revision| std::cmp::Reverse(revision.number));
    revisions
}

fn revision(record: ObjectMeta) -> Option<Revision> {
    let by_server = written_by_server(&record);
    let labels = record.labels.unwrap_or_default();
    let number = labels.get("version")?.parse().ok()?;
    let (plan, restored) = origin(&labels, number);
    Some(Revision {
        number,
        status: labels.get("status")?.clone(),
        plan,
        restored,
        secret: record.name?,
        written: written(&labels).max(by_server),
    })
}

/// Refuses a record that the API server would not take.
fn fits(secret: &str, size: usize) -> Result<(), Box<Problem>> {
    if size <= LIMIT {
        return Ok(());
    }
    let message = format!(
        "helm's record in Secret/{secret} would take {} KiB, and a Secret holds 1024 KiB; it was left as it is",
        size.div_ceil(1024)
    );
    Err(Problem::new(FailureClass::TooLarge, message).object(format!("Secret/{secret}")).boxed())
}

/// Labels for the revision that helm makes next: of this plan, and whether it restores the saved release.
pub fn labels(plan: &str, number: i32, restores: bool) -> Vec<(&'static str, String)> {
    let number = number.to_string();
    let also = restores.then(|| (label::RESTORED, number.clone()));
    [(label::PLAN, plan.to_owned()), (label::REVISION, number)].into_iter().chain(also).collect()
}

/// The plan that made a revision, and whether it restored the saved release. Labels that were meant for an earlier
/// revision do not count: helm hands them on to what anybody does to the release afterwards.
fn origin(labels: &BTreeMap<String, String>, number: i32) -> (Option<String>, bool) {
    let here = |label: &str| labels.get(label).is_some_and(|meant| *meant == number.to_string());
    let plan = labels.get(label::PLAN).filter(|_| here(label::REVISION)).cloned();
    let restores = plan.is_some() && here(label::RESTORED);
    (plan, restores)
}

/// When helm wrote a record the last time, by its labels (in seconds since 1970): that is by the clock of whoever ran helm.
fn written(labels: &BTreeMap<String, String>) -> Option<Timestamp> {
    let seconds = ["createdAt", "modifiedAt"].iter().filter_map(|label| labels.get(*label)?.parse().ok()).max()?;
    Timestamp::from_second(seconds).ok()
}

/// When a record was written the last time, by the API server's clock.
fn written_by_server(metadata: &ObjectMeta) -> Option<Timestamp> {
    let managers = metadata.managed_fields.iter().flatten();
    managers.filter_map(|manager| manager.time.as_ref()).chain(&metadata.creation_timestamp).map(|time| time.0).max()
}

impl Stored {
    /// Puts the record into a Secret, with the label of its status, as [`super::held_release::HeldRelease::rewrite`] would write it.
    pub fn put_into(&self, secret: &mut Secret) -> Result<(), Error> {
        let broken = |source| self.broken(source);
        let encoded = self.record.encode().map_err(broken)?;
        secret.data.get_or_insert_default().insert(RECORD_KEY.to_owned(), ByteString(encoded));
        let status = self.record.status().map_err(broken)?.to_owned();
        secret.metadata.labels.get_or_insert_default().insert("status".to_owned(), status);
        Ok(())
    }

    /// For `map_err` after reading something from the record.
    pub fn broken(&self, source: RecordError) -> Error {
        Error::Record { secret: self.secret.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};

    use super::*;

    fn written_labels(plan: &str, number: i32, restores: bool) -> BTreeMap<String, String> {
        labels(plan, number, restores).into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    #[test]
    fn a_record_that_does_not_fit_is_not_written() {
        assert!(fits("a", LIMIT).is_ok());
        let problem = fits("a", LIMIT + 1).unwrap_err();
        assert_eq!((problem.class, problem.object.as_deref()), (FailureClass::TooLarge, Some("Secret/a")));
    }

    #[test]
    fn a_record_is_as_young_as_the_server_says_whatever_the_clock_of_the_client_was() {
        let time = |seconds| Time(Timestamp::from_second(seconds).unwrap());
        let metadata = ObjectMeta {
            creation_timestamp: Some(time(100)),
            managed_fields: Some(vec![ManagedFieldsEntry { time: Some(time(150)), ..ManagedFieldsEntry::default() }]),
            ..ObjectMeta::default()
        };
        let labels = BTreeMap::from([("createdAt".to_owned(), "50".to_owned())]);
        assert_eq!(written(&labels).max(written_by_server(&metadata)), Some(time(150).0));
        assert_eq!(written(&labels).max(written_by_server(&ObjectMeta::default())), Some(time(50).0));
    }

    #[test]
    fn labels_count_only_in_the_revision_that_they_were_meant_for() {
        let upgraded = written_labels("p", 4, false);
        assert_eq!(origin(&upgraded, 4), (Some("p".into()), false));
        assert_eq!(origin(&upgraded, 5), (None, false), "a person upgraded afterwards, and helm kept the labels");
        let mut restored = written_labels("p", 5, true);
        assert_eq!(origin(&restored, 5), (Some("p".into()), true));
        restored.extend(written_labels("q", 6, false));
        assert_eq!(origin(&restored, 6), (Some("q".into()), false), "the upgrade after a restore is no restore");
        assert_eq!(origin(&BTreeMap::new(), 1), (None, false));
    }
}
