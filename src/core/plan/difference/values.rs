//! Values that a release is given, key by key.

use serde_json::{Map, Value};

use super::fields::{Leaf, compare, written};
use super::mask::Mask;
use super::{ChangeKind, ValueChange};

/// The values that differ.
pub fn changes(old: &Map<String, Value>, new: &Map<String, Value>, mask: &Mask) -> Vec<ValueChange> {
    let mut leaves = Vec::new();
    for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
        let mut path = vec![super::fields::PathSegment { name: key.clone(), item: None }];
        compare(&mut path, old.get(key), new.get(key), &mut leaves);
    }
    leaves.iter().map(|leaf| change(leaf, mask)).collect()
}

fn change(leaf: &Leaf<'_>, mask: &Mask) -> ValueChange {
    let kind = match (leaf.before, leaf.after) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        _ => ChangeKind::Changed,
    };
    let sides = [leaf.before, leaf.after];
    let shown = sides.map(|side| side.and_then(|value| mask.given(leaf.name(), value)));
    let all = sides.iter().zip(&shown).all(|(side, shown)| side.is_some() == shown.is_some());
    let [before, after] = shown;
    ValueChange { path: written(&leaf.path, mask), kind, shown: all.then_some((before, after)) }
}
