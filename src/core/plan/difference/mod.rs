//! What an upgrade changes, for people: objects field by field, values by key, images, versions.

mod fields;
mod images;
mod interruption;
mod mask;
mod patches;
mod touched;
mod values;
mod versions;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::mask::Mask;
pub use self::patches::{Patch, Rendered, patches, unsteady};
use self::touched::Touched;
use super::rehearsal::Rehearsal;
use crate::api::{Interruption, ObjectCounts, Strategy};
use crate::core::helm::documents::Documents;
use crate::core::object::ObjectRef;

/// What a difference is found from.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// What the rehearsal has shown.
    pub rehearsal: &'a Rehearsal,
    /// The manifest of what is installed.
    pub old: &'a Documents,
    /// The manifest of what would be.
    pub new: &'a Documents,
    /// The values that the installed release was given.
    pub old_values: &'a Map<String, Value>,
    /// The values that the release would be given.
    pub new_values: &'a Map<String, Value>,
    /// The installed version of the chart; none if nothing is installed.
    pub from: Option<&'a str>,
    /// The version that the plan leads to.
    pub version: &'a str,
    /// The versions that follow after it.
    pub hops: &'a [String],
    /// Whether Coder is scaled to zero for the change.
    pub strategy: Strategy,
}

/// What an upgrade changes, and how long Coder will be interrupted by it.
pub fn between(sides: &Sides<'_>) -> (Difference, Interruption) {
    let touched = touched::list(sides);
    let mask = Mask::new(sides.old_values, sides.new_values);
    let difference = Difference {
        objects: touched.iter().filter_map(|touched| change(touched, &mask)).collect(),
        values: values::changes(sides.old_values, sides.new_values, &mask),
        images: touched.iter().flat_map(|touched| images::changes(touched, &mask)).collect(),
        versions: versions::crossed(sides.from, sides.version, sides.hops),
    };
    let interruption = interruption::expected(sides, &touched);
    (difference, interruption)
}

/// What becomes of an object; none if nothing does.
fn change(touched: &Touched<'_>, mask: &Mask) -> Option<ObjectChange> {
    let Touched { object, kind, before, after } = touched;
    let fields = match (before, after) {
        (Some(before), Some(after)) => fields::changes(&object.kind, before, after, mask),
        _ => Vec::new(),
    };
    if *kind == ChangeKind::Changed && fields.is_empty() {
        return None;
    }
    Some(ObjectChange { object: object.clone(), kind: *kind, fields })
}

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
    /// Versions that are skipped, the target included, with their release notes.
    #[serde(default)]
    pub versions: Vec<CrossedVersion>,
}

impl Difference {
    /// How many objects become what.
    pub fn counts(&self) -> ObjectCounts {
        let count = |kind| {
            let found = self.objects.iter().filter(|object| object.kind == kind).count();
            i32::try_from(found).unwrap_or(i32::MAX)
        };
        ObjectCounts {
            added: count(ChangeKind::Added),
            changed: count(ChangeKind::Changed),
            removed: count(ChangeKind::Removed),
            replaced: count(ChangeKind::Replaced),
        }
    }
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
    /// It is deleted and recreated.
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

/// A field that changes. Secret values never stand here: where neither value is told, both are nobody's business.
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
