//! The images of containers that change.

use serde_json::Value;

use super::mask::Mask;
use super::touched::Touched;
use super::{ChangeKind, ImageChange};
use crate::core::object::pod_spec;

/// The containers of an object whose images are others afterwards; those of objects that are new or go included.
pub fn changes(touched: &Touched<'_>, mask: &Mask) -> Vec<ImageChange> {
    let before = touched.before.map(containers).unwrap_or_default();
    let after = touched.after.filter(|_| touched.kind != ChangeKind::Removed).map(containers).unwrap_or_default();
    let find = |list: &[(String, String)], name: &str| {
        list.iter().find(|(known, _)| known == name).map(|(_, image)| mask.text(image))
    };
    let new = after.iter().filter(|(name, _)| find(&before, name).is_none());
    let change = |(name, _): &(String, String)| ImageChange {
        object: touched.object.to_string(),
        container: mask.name(name),
        before: find(&before, name),
        after: find(&after, name),
    };
    before.iter().chain(new).map(change).filter(|change| change.before != change.after).collect()
}

/// Names and images of the containers of whatever has a pod template.
fn containers(object: &Value) -> Vec<(String, String)> {
    let pod = pod_spec(object);
    let lists = ["initContainers", "containers"].into_iter().filter_map(|list| pod[list].as_array());
    let named = |container: &Value| Some((container["name"].as_str()?.into(), container["image"].as_str()?.into()));
    lists.flatten().filter_map(named).collect()
}
