//! What an upgrade changes, for people: objects field by field, values by key, images, versions.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::object::ObjectRef;

/// What an upgrade changes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Objects, in the order in which helm comes to them.
    #[serde(default)]
    pub objects: Vec<ObjectChange>,
    /// Values that the release was given, by key.
    #[serde(default)]
    pub values: Vec<ValueChange>,
    /// Images of containers.
    #[serde(default)]
    pub images: Vec<ImageChange>,
    /// Versions that are crossed, the target included, with their release notes.
    #[serde(default)]
    pub versions: Vec<CrossedVersion>,
}

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, strum::Display)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is changed in place.
    Changed,
    /// It goes.
    Removed,
    /// It is deleted and made anew.
    Replaced,
}

/// An object that changes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// The object.
    pub object: ObjectRef,
    /// What becomes of it.
    pub kind: ChangeKind,
    /// The fields that change; empty for an object that is new or goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
}

/// A field that changes. Secret values never stand here.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// Path of the field, for example `spec.template.spec.containers[coder].image`.
    pub path: String,
    /// Its value before; none if it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Its value afterwards; none if it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// A value that the release was or will be given.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueChange {
    /// Dotted path of the value.
    pub path: String,
    /// Added, changed or removed.
    pub kind: ChangeKind,
    /// Before and afterwards, if the key is one whose values everybody may read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<(Option<Value>, Option<Value>)>,
}

/// The image of a container that changes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageChange {
    /// Workload, as Kind/name.
    pub object: String,
    /// Name of the container.
    pub container: String,
    /// Image before; none if the container is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Image afterwards; none if the container goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A version that is crossed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CrossedVersion {
    /// The version.
    pub version: String,
    /// Address of its release notes.
    pub notes: String,
}
