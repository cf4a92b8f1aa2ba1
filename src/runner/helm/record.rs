//! helm's record of a revision: base64 of gzip of JSON, in a Secret.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value};

use crate::api::Installed;
use crate::core::helm::chart::ChartMetadata;
use crate::core::helm::documents::Documents;
use crate::core::helm::hooks::Hook;
use crate::core::helm::manifest::ManifestError;
use crate::core::helm::version;
use crate::core::helm::wrapped::Dependency;
use crate::core::rollout::started::{containers_in, images_in};
use crate::core::rollout::workload::SERVERS;
use crate::core::text::bounded;
use crate::core::text::bounded::Unreadable;

/// Greatest size of a record when unpacked, in bytes. A Secret holds at most 1 MiB, of which base64 takes a quarter; text
/// rarely packs better than 1:20.
const LIMIT: usize = 24 << 20;

/// A record, unpacked. It is kept as JSON and not as a type of ours, so that writing it back loses nothing that this
/// program does not know.
#[derive(Clone, Debug)]
pub struct Record(Value);

/// A record that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The Secret has no such key.
    #[error("has no key named release")]
    Missing,
    /// It is no base64.
    #[error("is no base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// It cannot be unpacked or parsed.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It cannot be packed.
    #[error("cannot be packed: {0}")]
    Gzip(#[from] std::io::Error),
    /// A part of it is not of the form that every record has.
    #[error("is not the expected JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A field that every record has is not there.
    #[error("has no {0}")]
    Incomplete(&'static str),
}

impl RecordError {
    /// Whether it goes beyond a limit, and is not merely broken.
    pub fn is_excess(&self) -> bool {
        matches!(self, Self::Unreadable(why) if why.is_excess())
    }
}

/// Label in which a chart names itself.
const CHART_LABEL: &str = "helm.sh/chart";

impl Record {
    /// Unpacks a record from what the Secret holds under the key `release`.
    pub fn decode(stored: &[u8]) -> Result<Self, RecordError> {
        let packed = STANDARD.decode(stored)?;
        // The first releases of helm 3 did not pack; helm itself goes by these bytes, too.
        if !packed.starts_with(&[0x1f, 0x8b, 0x08]) {
            return Self::read(&packed);
        }
        Self::read(&bounded::gunzip(&packed, LIMIT)?)
    }

    /// What is not a map cannot be written to later.
    fn read(json: &[u8]) -> Result<Self, RecordError> {
        let record: Value = bounded::json(json)?;
        let fields = record.as_object().ok_or(RecordError::Incomplete("fields"))?;
        if fields.get("info").is_some_and(|info| !info.is_object()) {
            return Err(RecordError::Incomplete("info"));
        }
        Ok(Self(record))
    }

    /// Packs the record as helm does.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(&serde_json::to_vec(&self.0)?)?;
        Ok(STANDARD.encode(packer.finish()?).into_bytes())
    }

    /// Number of the revision.
    pub fn revision(&self) -> Result<i32, RecordError> {
        self.0["version"].as_i64().and_then(|n| i32::try_from(n).ok()).ok_or(RecordError::Incomplete("version"))
    }

    /// Status in Helm's words.
    pub fn status(&self) -> Result<&str, RecordError> {
        self.0["info"]["status"].as_str().ok_or(RecordError::Incomplete("info.status"))
    }

    /// The chart's Chart.yaml.
    pub fn chart(&self) -> Result<ChartMetadata, RecordError> {
        let chart: ChartMetadata = serde_json::from_value(self.0["chart"]["metadata"].clone())?;
        let locked = self.0["chart"]["lock"]["dependencies"].clone();
        let locked = serde_json::from_value::<Vec<Dependency>>(locked).unwrap_or_default();
        Ok(chart.recorded_with(self.label_of_server().as_deref(), &locked))
    }

    /// The label with name and version of a chart on the first workload that runs a server of Coder.
    fn label_of_server(&self) -> Option<String> {
        if !self.manifest().contains(CHART_LABEL) {
            return None;
        }
        let documents = Documents::parse(self.manifest(), "").ok()?;
        let runs = |object: &Value| {
            let containers = object["spec"]["template"]["spec"]["containers"].as_array();
            containers.into_iter().flatten().any(|c| c["name"].as_str().is_some_and(|name| SERVERS.contains(&name)))
        };
        let label = |object: &Value| object["metadata"]["labels"][CHART_LABEL].as_str().map(ToOwned::to_owned);
        documents.objects().filter(|(_, object)| runs(object)).find_map(|(_, object)| label(object))
    }

    /// The values that the release was given; empty if it was given none (helm stores null then).
    pub fn values(&self) -> Map<String, Value> {
        self.0["config"].as_object().cloned().unwrap_or_default()
    }

    /// The rendered manifest, without hooks.
    pub fn manifest(&self) -> &str {
        self.0["manifest"].as_str().unwrap_or_default()
    }

    /// A part of the chart: metadata (Chart.yaml), values (the defaults). Null if the record has no such part.
    pub fn chart_part(&self, part: &str) -> &Value {
        &self.0["chart"][part]
    }

    /// The templates and other files of the chart, each with its path in the chart. The charts in it are not recorded.
    pub fn chart_files(&self) -> Vec<(String, Vec<u8>)> {
        let parts = ["templates", "files"].iter().filter_map(|part| self.0["chart"][*part].as_array());
        let file = |file: &Value| {
            let content = STANDARD.decode(file["data"].as_str().unwrap_or_default()).ok()?;
            Some((file["name"].as_str()?.to_owned(), content))
        };
        parts.flatten().filter_map(file).collect()
    }

    /// The hooks as helm rendered them, as one manifest.
    pub fn hooks(&self) -> String {
        let hooks = self.0["hooks"].as_array().map(Vec::as_slice).unwrap_or_default();
        hooks
            .iter()
            .filter_map(|hook| hook["manifest"].as_str())
            .map(|text| format!("---\n{}\n", text.trim_end()))
            .collect::<Vec<_>>()
            .concat()
    }

    /// The hooks, as far as their manifests can be read; objects without a namespace lie in that of the release.
    pub fn hook_objects(&self, namespace: &str) -> Result<Vec<Hook>, ManifestError> {
        let mut found = Vec::new();
        for hook in self.0["hooks"].as_array().into_iter().flatten() {
            let events = hook["events"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let events: Vec<String> = events.map(Into::into).collect();
            let documents = Documents::parse(hook["manifest"].as_str().unwrap_or_default(), namespace)?;
            found.extend(documents.objects().map(|(object, manifest)| Hook {
                object,
                events: events.clone(),
                images: images_in(manifest).into_iter().collect(),
                containers: containers_in(manifest).into_iter().collect(),
            }));
        }
        Ok(found)
    }

    /// The hooks: kind, name, and the events that run them.
    pub fn hook_names(&self) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let hooks = self.0["hooks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let named = hooks.iter().map(|hook| {
            let events = hook["events"].as_array().map(Vec::as_slice).unwrap_or_default();
            (text(&hook["kind"]), text(&hook["name"]), events.iter().map(text).collect::<Vec<_>>().join(", "))
        });
        named.collect()
    }

    /// The files of the chart with definitions of kinds, which helm applies before everything else when it installs.
    pub fn definitions(&self) -> Vec<String> {
        let files = self.0["chart"]["files"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names = files.iter().filter_map(|file| file["name"].as_str());
        names.filter(|name| name.starts_with("crds/")).map(ToOwned::to_owned).collect()
    }

    /// Puts another manifest into the record. helm reads it when it uninstalls the revision, and when it upgrades from it.
    pub fn set_manifest(&mut self, manifest: String) {
        self.0["manifest"] = manifest.into();
    }

    /// Whether helm changes the objects of the release by server-side apply, in which two managers of a field are a
    /// conflict. helm 3 knows no such thing and writes nothing here.
    pub fn server_side(&self) -> bool {
        self.0["apply_method"] == "ssa"
    }

    /// The release in short.
    pub fn installed(&self) -> Result<Installed, RecordError> {
        let chart = self.chart()?;
        let version = version::parse(chart.coder_version());
        let version = version.ok_or(RecordError::Incomplete("semantic version of the chart"))?;
        let within = chart.wrapped.as_ref().map(|_| chart.app_version().to_owned());
        Ok(Installed {
            line: version::product_line(&version),
            app_version: within.or(chart.app_version),
            version: chart.version,
            revision: self.revision()?,
            status: self.status()?.to_owned(),
        })
    }

    /// Marks the revision as failed, as helm does itself when it is told to stop.
    pub fn mark_failed(&mut self, description: &str) {
        self.0["info"]["status"] = "failed".into();
        self.0["info"]["description"] = description.into();
    }

    /// Whether both records hold the same chart: same Chart.yaml, templates, default values, schema and files. A chart
    /// that was published again under its old version does not, and neither do rendered manifests tell: a template may
    /// render something else each time (random passwords), or look at the cluster.
    pub fn same_chart(&self, other: &Self) -> bool {
        ["metadata", "templates", "values", "schema", "files"]
            .iter()
            .all(|part| content(&self.0["chart"][*part]) == content(&other.0["chart"][*part]))
    }
}

impl From<Value> for Record {
    fn from(release: Value) -> Self {
        Self(release)
    }
}

/// A part of a chart without the times at which its files were packed (helm 4 keeps them), and with null for empty.
fn content(part: &Value) -> Value {
    match part {
        Value::Array(items) if items.is_empty() => Value::Null,
        Value::Array(items) => items.iter().map(content).collect(),
        Value::Object(map) if map.is_empty() => Value::Null,
        Value::Object(map) => Value::Object(
            map.iter().filter(|(key, _)| *key != "modtime").map(|(key, value)| (key.clone(), content(value))).collect(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    /// Records that the real helm wrote: a pending upgrade that was killed.
    const HELM_3: &str = include_str!("fixtures/helm-3.21.4-pending-upgrade.b64");
    const HELM_4: &str = include_str!("fixtures/helm-4.2.4-pending-upgrade.b64");

    fn read(fixture: &str) -> Record {
        let stored: String = fixture.split_whitespace().collect();
        Record::decode(stored.as_bytes()).unwrap()
    }

    #[rstest]
    #[case(HELM_3)]
    #[case(HELM_4)]
    fn records_of_real_helm_survive_a_round_trip(#[case] stored: &str) {
        let record = read(stored);
        let again = Record::decode(&record.encode().unwrap()).unwrap();
        assert_eq!(record.0, again.0);

        let installed = record.installed().unwrap();
        assert_eq!(
            (installed.version.as_str(), installed.revision, installed.status.as_str()),
            ("0.1.0", 2, "pending-upgrade")
        );
        assert_eq!(installed.app_version.as_deref(), Some("2.31.7"));
        assert_eq!(record.chart().unwrap().name, "coder");
        assert_eq!(Value::Object(record.values()), json!({"color": "blue", "nothing": null}));
        assert!(record.manifest().contains("kind: ConfigMap"));
    }

    #[rstest]
    #[case(HELM_3)]
    #[case(HELM_4)]
    fn releasing_a_lock_changes_the_status_only(#[case] stored: &str) {
        let before = read(stored);
        let mut after = before.clone();
        after.mark_failed("why");
        assert_eq!((after.status().unwrap(), after.revision().unwrap()), ("failed", 2));
        assert!(after.same_chart(&before) && after.values() == before.values());
    }

    #[test]
    fn charts_are_compared_by_content() {
        let three = read(HELM_3);
        let mut four = read(HELM_4);
        assert!(three.same_chart(&four), "the same archive, installed by either helm");
        four.0["chart"]["templates"][0]["data"] = "YQ==".into();
        assert!(!three.same_chart(&four));
    }

    /// What a Secret of a few kilobytes can hold. On 64 MiB of small objects, five gigabytes were taken.
    #[test]
    fn a_record_that_unpacks_to_more_than_any_is_refused_by_name() {
        let pack = |json: &str| {
            let mut packer = GzEncoder::new(Vec::new(), Compression::best());
            packer.write_all(json.as_bytes()).unwrap();
            STANDARD.encode(packer.finish().unwrap()).into_bytes()
        };
        let refused = |json: &str| Record::decode(&pack(json)).unwrap_err().to_string();
        let objects = format!(r#"{{"version": 1, "hooks": [{}{{}}]}}"#, r#"{"a":0},"#.repeat(2 << 20));
        assert_eq!(refused(&objects), "holds more than 250000 values");
        let text = format!(r#"{{"manifest": "{}"}}"#, "x".repeat(LIMIT));
        assert_eq!(refused(&text), "takes more than 24 MiB when unpacked");
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        assert!(refused(&deep).contains("recursion limit"));
        for odd in ["[]", "null", "7", r#""text""#, r#"{"info": []}"#, r#"{"info": "deployed"}"#] {
            assert!(refused(odd).starts_with("has no "), "{odd}");
        }
        for odd in ["{}", r#"{"version": "one", "info": {"status": 1}, "chart": 7, "manifest": {}, "hooks": {"a": 1}}"#]
        {
            let mut record = Record::decode(&pack(odd)).unwrap();
            assert!(record.installed().is_err() && record.revision().is_err() && record.manifest().is_empty(), "{odd}");
            assert!(
                record.values().is_empty() && record.hooks().is_empty() && record.definitions().is_empty(),
                "{odd}"
            );
            record.mark_failed("why");
            record.set_manifest("a: 1".into());
            assert_eq!((record.status().unwrap(), record.manifest()), ("failed", "a: 1"), "{odd}");
        }
    }

    #[test]
    fn no_values_are_an_empty_map() {
        assert!(Record::from(json!({"config": null})).values().is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(stored in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode(&stored);
            let _ = Record::decode(STANDARD.encode(&stored).as_bytes());
        }
    }
}
