//! The YAML documents of a manifest, each read by itself. [`super::documents`] has what they say together.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;
use serde_json::Value;

use crate::core::helm::workload::Workload;
use crate::core::text::bounded;
use crate::core::text::bounded::Unreadable;
use crate::core::text::yaml::YamlError;

/// Greatest number of replicas of a `StatefulSet`: each has its claims, which are looked at one by one.
pub const REPLICAS: i64 = 1000;

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
    pub why: YamlError,
}

impl Unread {
    fn new(text: &str, why: YamlError) -> Self {
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
            template: template(text).and_then(word),
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
    #[error("StatefulSet/{0} asks for {1} replicas; at most {REPLICAS} can be managed")]
    Replicas(String, i64),
}

impl ManifestError {
    /// Whether it goes beyond a limit, and is not merely broken.
    pub fn is_excess(&self) -> bool {
        match self {
            Self::Unreadable(why) => why.is_excess(),
            Self::Document(_) => false,
            Self::Replicas(..) => true,
        }
    }
}

/// The template that helm made a document of.
pub fn template(document: &str) -> Option<&str> {
    document.lines().find_map(|line| line.strip_prefix("# Source:")).map(str::trim)
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
    use super::*;

    #[test]
    fn a_document_that_cannot_be_read_has_no_objects() {
        assert!(objects("a: [").is_err());
        assert!(objects("").unwrap().is_empty());
    }
}
