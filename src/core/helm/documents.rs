//! A manifest as helm stores it: YAML documents, of which single ones can be changed while all others stay letter by
//! letter as helm wrote them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::manifest;
use super::manifest::{Document, ManifestError, REPLICAS, Unread};
use crate::core::helm::workload::Workload;
use crate::core::object::{ObjectRef, pod_spec};

/// Annotation of an object that helm shall leave in place when it uninstalls the release.
pub const RESOURCE_POLICY: &str = "helm.sh/resource-policy";
/// Its value.
pub const KEEP: &str = "keep";

/// The documents of a manifest.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// Namespace of the release: where objects lie that name none.
    namespace: String,
    documents: Vec<Document>,
}

/// What becomes of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It stays as it is.
    None,
    /// It becomes this one.
    To(Value),
    /// It is taken out of the manifest.
    Remove,
}

impl Documents {
    /// Splits the manifest of a release in `namespace`. Of a document that cannot be read, only the text is known.
    pub fn parse(manifest: &str, namespace: &str) -> Result<Self, ManifestError> {
        Ok(Self { namespace: namespace.to_owned(), documents: manifest::documents(manifest)? })
    }

    /// As [`Self::parse`], for a change that has to know every object.
    pub fn parse_whole(manifest: &str, namespace: &str) -> Result<Self, ManifestError> {
        let documents = Self::parse(manifest, namespace)?;
        let unread = documents.unread().next().cloned();
        unread.map_or(Ok(documents), |unread| Err(ManifestError::Document(unread)))
    }

    /// The documents that cannot be read.
    pub fn unread(&self) -> impl Iterator<Item = &Unread> {
        self.documents.iter().filter_map(|document| document.unread.as_ref())
    }

    /// The manifest as text.
    pub fn text(&self) -> String {
        self.documents
            .iter()
            .map(|document| format!("---\n{}\n", document.text.trim_end()))
            .collect::<Vec<_>>()
            .concat()
    }

    /// The objects with their names, those of other namespaces and of the cluster included.
    pub fn objects(&self) -> impl Iterator<Item = (ObjectRef, &Value)> {
        let objects = self.documents.iter().flat_map(|document| &document.objects);
        objects.filter_map(|object| Some((self.name(object)?, object)))
    }

    /// The template that helm made an object of, if that stands above it.
    pub fn template(&self, name: &ObjectRef) -> Option<&str> {
        let holds =
            |document: &&Document| document.objects.iter().any(|object| self.name(object).as_ref() == Some(name));
        manifest::template(&self.documents.iter().find(holds)?.text)
    }

    /// The coordinates of an object, with its namespace; that of the release if it names none.
    fn name(&self, object: &Value) -> Option<ObjectRef> {
        let reference = ObjectRef::of(object)?;
        Some(ObjectRef { namespace: Some(reference.namespace.unwrap_or_else(|| self.namespace.clone())), ..reference })
    }

    /// The objects of a kind that lie in the namespace of the release.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.here().filter(move |object| object["kind"] == kind)
    }

    /// Names of the objects of a kind that lie in the namespace of the release.
    pub fn names<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        self.of_kind(kind).filter_map(|object| object["metadata"]["name"].as_str())
    }

    /// The workloads in the namespace of the release, in the order of their names.
    pub fn workloads(&self) -> Vec<Workload> {
        let mut workloads: Vec<Workload> = self.here().filter_map(manifest::workload).collect();
        workloads.sort();
        workloads
    }

    /// Names of the claims that objects in the namespace of the release use: those in the manifest, those that pod templates
    /// mount, and those that `StatefulSets` make from templates (template-set-ordinal).
    pub fn claims(&self) -> Result<BTreeSet<String>, ManifestError> {
        let mut claims: BTreeSet<String> = self.names("PersistentVolumeClaim").map(Into::into).collect();
        for object in self.here() {
            let volumes = pod_spec(object)["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
            claims.extend(
                volumes.iter().filter_map(|v| v["persistentVolumeClaim"]["claimName"].as_str()).map(Into::into),
            );
        }
        claims.extend(self.claim_templates()?.into_iter().map(|(claim, _)| claim));
        Ok(claims)
    }

    /// The claims that `StatefulSets` make from templates (template-set-ordinal), each with what its template asks for.
    pub fn claim_templates(&self) -> Result<Vec<(String, Shape)>, ManifestError> {
        let mut claims = Vec::new();
        for set in self.of_kind("StatefulSet") {
            let (spec, name) = (&set["spec"], set["metadata"]["name"].as_str().unwrap_or_default());
            let replicas = spec["replicas"].as_i64().unwrap_or(1);
            if replicas > REPLICAS {
                return Err(ManifestError::Replicas(name.to_owned(), replicas));
            }
            let first = spec["ordinals"]["start"].as_i64().unwrap_or(0);
            let templates = spec["volumeClaimTemplates"].as_array().map(Vec::as_slice).unwrap_or_default();
            for template in templates {
                let Some(template_name) = template["metadata"]["name"].as_str() else { continue };
                let ordinals = first..first.saturating_add(replicas);
                let claim = |ordinal| (format!("{template_name}-{name}-{ordinal}"), shape(&template["spec"]));
                claims.extend(ordinals.map(claim));
            }
        }
        Ok(claims)
    }

    /// The objects that lie in the namespace of the release.
    fn here(&self) -> impl Iterator<Item = &Value> {
        let objects = self.documents.iter().flat_map(|document| &document.objects);
        objects.filter(|object| object["metadata"]["namespace"].as_str().is_none_or(|found| found == self.namespace))
    }

    /// Adds the objects of another manifest that this one does not contain.
    pub fn add_missing(&mut self, other: &Self) {
        let known: Vec<ObjectRef> = self.objects().map(|(name, _)| name).collect();
        for document in &other.documents {
            let is_new = |object: &&Value| other.name(object).is_some_and(|name| !known.iter().any(|k| k.same(&name)));
            let new: Vec<Value> = document.objects.iter().filter(is_new).cloned().collect();
            if new.is_empty() {
                continue;
            }
            if new.len() == document.objects.len() {
                self.documents.push(document.clone());
            } else {
                self.documents.extend(new.into_iter().map(as_json));
            }
        }
    }

    /// Changes single objects.
    pub fn change(&mut self, change: impl Fn(&ObjectRef, &Value) -> Change) {
        let mut documents = Vec::new();
        for document in &self.documents {
            let named = |object| self.name(object).map_or(Change::None, |name| change(&name, object));
            let changes: Vec<Change> = document.objects.iter().map(named).collect();
            if changes.iter().all(|change| *change == Change::None) {
                documents.push(document.clone());
                continue;
            }
            for (object, change) in document.objects.iter().zip(changes) {
                match change {
                    Change::None => documents.push(as_json(object.clone())),
                    Change::To(other) => documents.push(as_json(other)),
                    Change::Remove => {}
                }
            }
        }
        self.documents = documents;
    }

    /// Removes the objects for which this is true.
    pub fn remove(&mut self, unwanted: impl Fn(&ObjectRef) -> bool) {
        self.change(|name, _| if unwanted(name) { Change::Remove } else { Change::None });
    }

    /// Marks the objects for which this is true, so that helm leaves them when it uninstalls. Returns the names of all
    /// objects that are marked now, those that the chart marked itself included.
    pub fn keep(&mut self, wanted: impl Fn(&ObjectRef) -> bool) -> Vec<ObjectRef> {
        let mut marked = Vec::new();
        let mut documents = Vec::new();
        for document in &self.documents {
            let mut objects = document.objects.clone();
            for object in &mut objects {
                let Some(name) = self.name(object) else { continue };
                if is_kept(object) || wanted(&name) {
                    mark(object);
                    marked.push(name);
                }
            }
            if objects == document.objects {
                documents.push(document.clone());
            } else {
                // helm reads the annotation of a document, not of the objects in a List.
                documents.extend(objects.into_iter().map(as_json));
            }
        }
        self.documents = documents;
        marked
    }
}

/// What a claim is, or what a template asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Size that is asked for, as a quantity.
    pub size: Option<String>,
    /// Storage class; none for the default of the cluster.
    pub class: Option<String>,
    /// Access modes.
    pub modes: Vec<String>,
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

/// JSON is YAML that every reader of YAML takes for the same thing.
fn as_json(object: Value) -> Document {
    Document { text: object.to_string(), objects: vec![object], unread: None }
}

fn is_kept(object: &Value) -> bool {
    let policy = object["metadata"]["annotations"][RESOURCE_POLICY].as_str();
    policy.is_some_and(|policy| policy.trim().eq_ignore_ascii_case(KEEP))
}

fn mark(object: &mut Value) {
    let metadata = &mut object["metadata"];
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = Value::Object(serde_json::Map::new());
    }
    if !is_kept(object) {
        object["metadata"]["annotations"][RESOURCE_POLICY] = KEEP.into();
    }
}

#[cfg(test)]
mod tests {
    use indoc::indoc;

    use super::*;
    use crate::core::helm::workload::WorkloadKind;

    const MANIFEST: &str = indoc! {r#"
        ---
        # Source: coder/templates/service.yaml
        apiVersion: v1
        kind: Service
        metadata: {name: coder}
        spec: {type: LoadBalancer}
        ---
        # Source: coder/templates/list.yaml
        apiVersion: v1
        kind: List
        items:
          - {apiVersion: v1, kind: Secret, metadata: {name: token, annotations: null}, data: {"a": "b"}}
          - {apiVersion: v1, kind: ConfigMap, metadata: {name: odd}, data: {yes: "on", mode: "0420"}}
        --- # a comment
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: plain, namespace: other}
        data:
          text: |
            two
             -- lines
    "#};

    fn names(documents: &Documents) -> Vec<String> {
        documents.objects().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn what_is_not_changed_stays_as_helm_wrote_it() {
        let mut documents = Documents::parse(MANIFEST, "here").unwrap();
        documents.change(|_, _| Change::None);
        let untouched = documents.text();
        documents.change(|name, object| match name.to_string().as_str() {
            "Secret/token" => Change::Remove,
            "Service/coder" => {
                Change::To(serde_json::json!({"apiVersion": "v2", "yes": "on", "no": "1e3", "n": object["spec"]}))
            }
            _ => Change::None,
        });
        let text = documents.text();
        assert!(text.starts_with("---\n{\"apiVersion\":\"v2\",\"n\":"), "{text}");
        assert!(text.contains(r#""no":"1e3","yes":"on""#), "strings stay strings: {text}");
        assert!(!text.contains("token"));
        let rest = "--- # a comment".trim_start_matches("---").trim();
        assert!(untouched[untouched.find(rest).unwrap()..] == text[text.find(rest).unwrap()..]);
    }

    #[test]
    fn what_is_not_marked_stays_as_helm_wrote_it() {
        let mut documents = Documents::parse(MANIFEST, "here").unwrap();
        assert_eq!(names(&documents), ["Service/coder", "Secret/token", "ConfigMap/odd", "ConfigMap/plain"]);
        let kept = documents.keep(|name| name.kind == "Secret");
        assert_eq!(kept.iter().map(ToString::to_string).collect::<Vec<_>>(), ["Secret/token"]);
        let text = documents.text();
        assert!(text.starts_with(&MANIFEST[..MANIFEST.find("---\n# Source: coder/templates/list").unwrap()]));
        assert!(text.contains("  text: |\n    two\n     -- lines\n"));
        assert!(text.contains(r#""annotations":{"helm.sh/resource-policy":"keep"}"#), "{text}");

        let mut again = Documents::parse(&text, "here").unwrap();
        assert_eq!(names(&again), names(&documents), "the List was taken apart, nothing is lost");
        assert_eq!(again.keep(|_| false), kept);
        assert_eq!(again.text(), text, "nothing changes when it is done again");
    }

    #[test]
    fn a_union_adds_only_what_is_missing() {
        let newer = "apiVersion: v1\nkind: Service\nmetadata: {name: coder, namespace: here}\n---\n\
                     apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web}\n---\n\
                     apiVersion: v1\nkind: ConfigMap\nmetadata: {name: odd}\n";
        let older = format!("{MANIFEST}---\napiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {{name: web}}\n");
        let mut union = Documents::parse(newer, "here").unwrap();
        union.add_missing(&Documents::parse(&older, "here").unwrap());
        assert_eq!(names(&union), ["Service/coder", "Ingress/web", "ConfigMap/odd", "Secret/token", "ConfigMap/plain"]);
        let text = union.text();
        union.add_missing(&Documents::parse(&older, "here").unwrap());
        assert_eq!(union.text(), text);
    }

    #[test]
    fn what_is_removed_leaves_its_neighbours() {
        let mut documents = Documents::parse(MANIFEST, "here").unwrap();
        documents.remove(|name| name.kind == "Secret" || name.is_in("other"));
        assert_eq!(names(&documents), ["Service/coder", "ConfigMap/odd"]);
    }

    #[test]
    fn a_manifest_that_is_no_yaml_is_refused() {
        assert!(Documents::parse_whole("a: [", "here").is_err());
        let unread =
            "---\n# Source: coder/templates/x.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\ndata: [\n";
        let documents = Documents::parse(&format!("{MANIFEST}{unread}"), "here").unwrap();
        assert_eq!(names(&documents), names(&Documents::parse(MANIFEST, "here").unwrap()), "nothing else is held up");
        assert!(documents.text().contains("data: ["), "helm gets what it wrote");
        let found: Vec<String> = documents.unread().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("ConfigMap/x (from coder/templates/x.yaml) is no valid YAML: line "),
            "{}",
            found[0]
        );
        assert_eq!(Documents::parse("# nothing\n---\n", "here").unwrap().objects().count(), 0);
    }

    const RELEASE: &str = indoc! {r#"
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
        let manifest = Documents::parse(RELEASE, "here").unwrap();
        assert_eq!(manifest.names("Service").collect::<Vec<_>>(), ["coder"]);
        assert_eq!(
            manifest.claims().unwrap().into_iter().collect::<Vec<_>>(),
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

    /// Each ordinal is a name in memory and a request to the API server.
    #[test]
    fn nobody_asks_for_a_billion_claims() {
        let set = |replicas: &str, start: &str| {
            format!(
                "kind: StatefulSet\nmetadata: {{name: db}}\nspec: {{replicas: {replicas}, ordinals: {{start: {start}}}, \
                 volumeClaimTemplates: [{{metadata: {{name: data}}}}]}}\n"
            )
        };
        let error = Documents::parse(&set("2147483647", "0"), "here").unwrap().claims().unwrap_err().to_string();
        assert_eq!(error, "StatefulSet/db asks for 2147483647 replicas; at most 1000 can be managed");
        assert_eq!(Documents::parse(&set("1000", "0"), "here").unwrap().claims().unwrap().len(), 1000);
        assert_eq!(Documents::parse(&set("1e3", "0"), "here").unwrap().claims().unwrap().len(), 1000, "as for helm");
        for odd in ["-1", "many", "1e99999", "0.5"] {
            assert!(Documents::parse(&set(odd, "0"), "here").unwrap().claims().unwrap().len() <= 1, "{odd}");
        }
        let last = Documents::parse(&set("2", &i64::MAX.to_string()), "here").unwrap();
        assert!(last.claims().unwrap().is_empty(), "past the last ordinal there is nothing");
    }
}
