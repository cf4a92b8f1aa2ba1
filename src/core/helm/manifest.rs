//! What a rendered manifest contains, as far as the operator looks at it.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;
use serde_json::Value;

use crate::core::plan::Workload;
use crate::core::repair::volumes::Shape;
use crate::core::text::bounded;
use crate::core::text::bounded::Unreadable;
use crate::core::text::yaml::Refused;

/// The objects of a manifest that lie in the namespace of the release.
#[derive(Clone, Debug, Default)]
pub struct Manifest(Vec<Value>);

/// Greatest number of replicas of a `StatefulSet`: each has its claims, which are looked at one by one.
const REPLICAS: i64 = 1000;

/// A document and what stands in it; more than one object if it is a List, none if it is only comments.
#[derive(Clone, Debug)]
pub struct Document {
    /// As helm wrote it.
    pub text: String,
    /// What stands in it.
    pub objects: Vec<Value>,
    /// Why nothing of it is known.
    pub unread: Option<Unread>,
}

/// A document that cannot be read, as far as its lines tell which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The object, as Kind/name.
    pub object: Option<String>,
    /// The template that helm made it of.
    pub template: Option<String>,
    /// What is wrong, and in which line of the document.
    pub why: Refused,
}

impl Unread {
    fn new(text: &str, why: Refused) -> Self {
        let after = |begin: &str| text.lines().find_map(|line| line.strip_prefix(begin));
        let word = |text: &str| {
            let word = text.trim().trim_matches(['"', '\'']).to_owned();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
            Some(word).filter(|word| !word.is_empty() && word.chars().all(plain))
        };
        let kind = after("kind:").and_then(word);
        let mut metadata = text.lines().skip_while(|line| !line.starts_with("metadata:")).skip(1);
        let name = metadata.find_map(|line| line.trim_start().strip_prefix("name:")).and_then(word);
        Self {
            object: kind.zip(name).map(|(kind, name)| format!("{kind}/{name}")),
            template: after("# Source:").and_then(word),
            why,
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.object.as_deref().unwrap_or("an object"))?;
        if let Some(template) = &self.template {
            write!(f, " (from {template})")?;
        }
        write!(f, " is no valid YAML: {}", self.why)
    }
}

/// A manifest that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// There is more of it than can be read.
    #[error("the manifest of the release {0}")]
    Unreadable(#[from] Unreadable),
    /// One of its documents cannot be read.
    #[error("{0}")]
    Document(Unread),
    /// More replicas, and so more claims, than anybody has.
    #[error("StatefulSet/{0} asks for {1} replicas; at most {REPLICAS} can be looked after")]
    Replicas(String, i64),
}

impl ManifestError {
    /// Whether it goes beyond a limit, and is not merely broken.
    #[must_use]
    pub fn is_excess(&self) -> bool {
        match self {
            Self::Unreadable(why) => why.is_excess(),
            Self::Document(_) => false,
            Self::Replicas(..) => true,
        }
    }
}

impl Manifest {
    /// Reads a manifest as helm stores it. A document that cannot be read is left out: it is a finding of the plan.
    pub fn parse(text: &str, namespace: &str) -> Result<Self, ManifestError> {
        let here = |object: &Value| object["metadata"]["namespace"].as_str().is_none_or(|found| found == namespace);
        let objects = documents(text)?.into_iter().flat_map(|document| document.objects);
        let manifest = Self(objects.filter(here).collect());
        manifest.check_replicas()?;
        Ok(manifest)
    }

    fn check_replicas(&self) -> Result<(), ManifestError> {
        for set in self.of_kind("StatefulSet") {
            let replicas = replicas(set);
            if replicas > REPLICAS {
                let name = set["metadata"]["name"].as_str().unwrap_or_default();
                return Err(ManifestError::Replicas(name.to_owned(), replicas));
            }
        }
        Ok(())
    }

    /// Names of the objects of a kind.
    pub fn names<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        self.of_kind(kind).filter_map(|object| object["metadata"]["name"].as_str())
    }

    /// The objects of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    /// The workloads, in the order of their names.
    #[must_use]
    pub fn workloads(&self) -> Vec<Workload> {
        let mut workloads: Vec<Workload> = self.0.iter().filter_map(workload).collect();
        workloads.sort();
        workloads
    }

    /// Names of the claims that the objects use: those in the manifest, those that pod templates mount, and those that
    /// `StatefulSets` make from templates (template-set-ordinal).
    #[must_use]
    pub fn claims(&self) -> BTreeSet<String> {
        let mut claims: BTreeSet<String> = self.names("PersistentVolumeClaim").map(Into::into).collect();
        for object in &self.0 {
            let pod = match object["kind"].as_str() {
                Some("Pod") => &object["spec"],
                Some("CronJob") => &object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
                _ => &object["spec"]["template"]["spec"],
            };
            let volumes = pod["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
            claims.extend(
                volumes.iter().filter_map(|v| v["persistentVolumeClaim"]["claimName"].as_str()).map(Into::into),
            );
        }
        claims.extend(self.claim_templates().into_iter().map(|(claim, _)| claim));
        claims
    }

    /// The claims that `StatefulSets` make from templates (template-set-ordinal), each with what its template asks for.
    #[must_use]
    pub fn claim_templates(&self) -> Vec<(String, Shape)> {
        let mut claims = Vec::new();
        for set in self.of_kind("StatefulSet") {
            let (spec, name) = (&set["spec"], set["metadata"]["name"].as_str().unwrap_or_default());
            let first = spec["ordinals"]["start"].as_i64().unwrap_or(0);
            let templates = spec["volumeClaimTemplates"].as_array().map(Vec::as_slice).unwrap_or_default();
            for template in templates {
                let Some(template_name) = template["metadata"]["name"].as_str() else { continue };
                let ordinals = first..first.saturating_add(replicas(set));
                let claim = |ordinal| (format!("{template_name}-{name}-{ordinal}"), shape(&template["spec"]));
                claims.extend(ordinals.map(claim));
            }
        }
        claims
    }
}

/// How many pods a `StatefulSet` asks for.
fn replicas(set: &Value) -> i64 {
    set["spec"]["replicas"].as_i64().unwrap_or(1)
}

fn shape(claim: &Value) -> Shape {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let modes = claim["accessModes"].as_array().map(Vec::as_slice).unwrap_or_default();
    Shape {
        size: text(&claim["resources"]["requests"]["storage"]),
        class: text(&claim["storageClassName"]),
        modes: modes.iter().filter_map(text).collect(),
    }
}

/// All objects of a manifest as helm stores it: YAML documents, Lists among them taken apart.
pub fn objects(text: &str) -> Result<Vec<Value>, ManifestError> {
    let mut all = Vec::new();
    for document in documents(text)? {
        match document.unread {
            Some(unread) => return Err(ManifestError::Document(unread)),
            None => all.extend(document.objects),
        }
    }
    Ok(all)
}

/// The documents of a manifest.
pub fn documents(text: &str) -> Result<Vec<Document>, ManifestError> {
    let read = bounded::yaml_documents(text)?.into_iter().map(|(text, read)| {
        let (objects, unread) = match read {
            Ok(document) => (taken_apart(document), None),
            Err(why) => (Vec::new(), Some(Unread::new(text, why))),
        };
        Document { text: text.to_owned(), objects, unread }
    });
    Ok(read.collect())
}

fn taken_apart(document: Value) -> Vec<Value> {
    match document {
        Value::Null => Vec::new(),
        Value::Object(mut list) if list.get("kind").and_then(Value::as_str).is_some_and(|k| k.ends_with("List")) => {
            match list.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        object => vec![object],
    }
}

/// The workload that an object is, if it is one.
#[must_use]
pub fn workload(object: &Value) -> Option<Workload> {
    let kind = object["kind"].as_str()?.parse().ok()?;
    if !object["apiVersion"].as_str()?.starts_with("apps/") {
        return None;
    }
    let selector: LabelSelector = serde_json::from_value(object["spec"]["selector"].clone()).ok()?;
    let selector = Selector::try_from(selector).ok()?.to_string();
    Some(Workload { kind, name: object["metadata"]["name"].as_str()?.to_owned(), selector })
}

#[cfg(test)]
mod tests {
    use indoc::indoc;

    use super::*;
    use crate::core::plan::WorkloadKind;

    const MANIFEST: &str = indoc! {r#"
        ---
        # Source: coder/templates/coder.yaml
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: coder, namespace: here}
        spec:
          selector: {matchLabels: {app: coder, tier: "1"}}
          template:
            spec:
              volumes:
                - {name: a, persistentVolumeClaim: {claimName: shared}}
                - {name: b, emptyDir: {}}
        ---
        ---
        apiVersion: apps/v1
        kind: StatefulSet
        metadata: {name: timescale}
        spec:
          replicas: 2
          ordinals: {start: 3}
          selector: {matchLabels: {app: db}}
          volumeClaimTemplates: [{metadata: {name: data}}]
        ---
        apiVersion: v1
        kind: List
        items:
          - {apiVersion: v1, kind: Service, metadata: {name: coder, name: coder}}
          - {apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: extra}}
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: elsewhere, namespace: other}
    "#};

    #[test]
    fn what_belongs_to_the_namespace_is_found() {
        let manifest = Manifest::parse(MANIFEST, "here").unwrap();
        assert_eq!(manifest.names("Service").collect::<Vec<_>>(), ["coder"]);
        assert_eq!(
            manifest.claims().into_iter().collect::<Vec<_>>(),
            ["data-timescale-3", "data-timescale-4", "extra", "shared"]
        );
        let workloads = manifest.workloads();
        assert_eq!(
            workloads.iter().map(|w| (w.kind, w.name.as_str(), w.selector.as_str())).collect::<Vec<_>>(),
            [
                (WorkloadKind::Deployment, "coder", "app=coder,tier=1"),
                (WorkloadKind::StatefulSet, "timescale", "app=db"),
            ]
        );
    }

    #[test]
    fn an_empty_manifest_is_none() {
        assert!(Manifest::parse("", "here").unwrap().workloads().is_empty());
        assert!(objects("a: [").is_err());
    }

    /// Each ordinal is a name in memory and a request to the API server.
    #[test]
    fn nobody_asks_for_a_billion_claims() {
        let set = |replicas: &str, start: &str| {
            format!(
                "kind: StatefulSet\nmetadata: {{name: db}}\nspec: {{replicas: {replicas}, ordinals: {{start: {start}}}, \
                 volumeClaimTemplates: [{{metadata: {{name: data}}}}]}}\n"
            )
        };
        let error = Manifest::parse(&set("2147483647", "0"), "here").unwrap_err().to_string();
        assert_eq!(error, "StatefulSet/db asks for 2147483647 replicas; at most 1000 can be looked after");
        assert_eq!(Manifest::parse(&set("1000", "0"), "here").unwrap().claims().len(), 1000);
        assert_eq!(Manifest::parse(&set("1e3", "0"), "here").unwrap().claims().len(), 1000, "as for helm");
        for odd in ["-1", "many", "1e99999", "0.5"] {
            assert!(Manifest::parse(&set(odd, "0"), "here").unwrap().claims().len() <= 1, "{odd}");
        }
        let last = Manifest::parse(&set("2", &i64::MAX.to_string()), "here").unwrap();
        assert!(last.claims().is_empty(), "past the last ordinal there is nothing");
    }
}
