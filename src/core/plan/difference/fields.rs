//! Two versions of an object, field by field.

use std::collections::BTreeSet;

use serde_json::Value;

use super::FieldChange;
use super::mask;
use super::mask::Mask;
use crate::core::helm::merge;

/// Fields that the API server and the controllers keep for themselves.
const BOOKKEEPING: [&[&str]; 9] = [
    &["status"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
    &["metadata", "generation"],
    &["metadata", "uid"],
    &["metadata", "selfLink"],
    &["metadata", "creationTimestamp"],
    &["metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration"],
    &["metadata", "annotations", "deployment.kubernetes.io/revision"],
];

/// The fields that differ, without those of the API server's own, and without secrets.
pub fn changes(kind: &str, before: &Value, after: &Value, mask: &Mask) -> Vec<FieldChange> {
    let mut leaves = Vec::new();
    let mut path = Vec::new();
    compare(&mut path, Some(before), Some(after), &mut leaves);
    let leaves = leaves.into_iter().filter(|leaf| !is_bookkeeping(&leaf.path));
    leaves.map(|leaf| shown(kind, &leaf, mask)).collect()
}

/// Whether the API server or a controller keeps the field for itself.
pub fn is_bookkeeping(path: &[PathSegment]) -> bool {
    let starts = |field: &[&str]| {
        let names = path.iter().take(field.len()).map(|part| part.name.as_str());
        path.len() >= field.len() && names.eq(field.iter().copied())
    };
    BOOKKEEPING.iter().any(|field| starts(field))
}

fn shown(kind: &str, leaf: &Leaf<'_>, mask: &Mask) -> FieldChange {
    let path = written(&leaf.path, mask);
    let top = leaf.path.first().map_or("", |part| part.name.as_str());
    let is_data = kind == "Secret" && matches!(top, "data" | "stringData");
    let in_variables = matches!(leaf.path.as_slice(), [.., all, one] if all.name == "env" && one.name == "value");
    let is_variable = in_variables && [leaf.before, leaf.after].into_iter().flatten().any(mask::is_hidden_variable);
    if is_data || is_variable {
        return FieldChange { path, before: None, after: None };
    }
    let show = |value: Option<&Value>| value.map(|value| mask.value(value));
    match (show(leaf.before), show(leaf.after)) {
        (before, after) if before == after => FieldChange { path, before: None, after: None },
        (before, after) => FieldChange { path, before, after },
    }
}

/// One step on the way to a field.
#[derive(Clone, Debug, PartialEq)]
pub struct PathSegment {
    /// Name of the field.
    pub name: String,
    /// For an item of a list: what tells it apart from the others.
    pub item: Option<String>,
}

/// A field without fields of its own, of which at least one side has a value.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    /// The way to it.
    pub path: Vec<PathSegment>,
    /// Its value before.
    pub before: Option<&'a Value>,
    /// Its value afterwards.
    pub after: Option<&'a Value>,
}

impl Leaf<'_> {
    /// Name of the field itself.
    pub fn name(&self) -> &str {
        self.path.last().map_or("", |part| part.name.as_str())
    }

    /// Whether it is what tells the items of that list apart.
    fn is_key_of(&self, list: &str) -> bool {
        let item = self.path.iter().rev().nth(1).and_then(|part| part.item.as_deref());
        let value = self.before.or(self.after).and_then(Value::as_str);
        value == item && merge::item_keys(list).is_some_and(|keys| keys.contains(&self.name()))
    }
}

/// The path as people read it, for example `spec.template.spec.containers[coder].image`. A dot in a name is escaped, as helm
/// wants it in `--set`.
pub fn written(path: &[PathSegment], mask: &Mask) -> String {
    let part = |part: &PathSegment| {
        let name = mask.name(&part.name).replace('.', "\\.");
        part.item.as_ref().map_or(name.clone(), |item| format!("{name}[{}]", mask.name(item)))
    };
    path.iter().map(part).collect::<Vec<_>>().join(".")
}

/// Collects the leaves that differ. Null is a value, and another one than none.
pub fn compare<'a>(
    path: &mut Vec<PathSegment>,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
    leaves: &mut Vec<Leaf<'a>>,
) {
    if before == after {
        return;
    }
    let filled = |value: &&Value| value.as_object().is_some_and(|map| !map.is_empty());
    match (before.filter(filled), after.filter(filled)) {
        (None, None) => lists(path, before, after, leaves),
        (one, other) => {
            let maps = [one, other].map(|side| side.and_then(Value::as_object));
            let names: BTreeSet<&String> = maps.iter().flatten().flat_map(|map| map.keys()).collect();
            for name in names {
                path.push(PathSegment { name: name.clone(), item: None });
                let [one, other] = maps.map(|map| map.and_then(|map| map.get(name)));
                compare(path, one, other, leaves);
                path.pop();
            }
        }
    }
}

/// Lists of maps item by item; everything else is a value.
fn lists<'a>(
    path: &mut Vec<PathSegment>,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
    leaves: &mut Vec<Leaf<'a>>,
) {
    let items = |side: Option<&'a Value>| match side {
        None => Some([].as_slice()),
        Some(Value::Array(items)) if items.iter().all(Value::is_object) => Some(items.as_slice()),
        Some(_) => None,
    };
    let (Some(one), Some(other), Some(list)) = (items(before), items(after), path.last().cloned()) else {
        return leaves.push(Leaf { path: path.clone(), before, after });
    };
    if one.is_empty() && other.is_empty() || list.item.is_some() {
        return leaves.push(Leaf { path: path.clone(), before, after });
    }
    for (item, one, other) in pairs(&list.name, one, other) {
        if let Some(last) = path.last_mut() {
            last.item = Some(item);
        }
        let known = leaves.len();
        compare(path, one, other, leaves);
        // What an item that comes or goes is called stands in its path already.
        let named = |leaf: &Leaf<'_>| leaf.path.len() == path.len() + 1 && leaf.is_key_of(&list.name);
        if leaves.len() > known + 1
            && let Some(key) = leaves[known..].iter().position(named)
        {
            leaves.remove(known + key);
        }
    }
    if let Some(last) = path.last_mut() {
        last.item = None;
    }
}

type Pair<'a> = (String, Option<&'a Value>, Option<&'a Value>);

/// The items that belong together: by key where Kubernetes has one, otherwise by position between what is equal at the
/// beginning and at the end.
fn pairs<'a>(list: &str, before: &'a [Value], after: &'a [Value]) -> Vec<Pair<'a>> {
    if let Some(pairs) = merge::item_keys(list).and_then(|keys| keyed(keys, before, after)) {
        return pairs;
    }
    let alike = |(one, other): &(&Value, &Value)| one == other;
    let head = before.iter().zip(after).take_while(alike).count();
    let (before, after) = (&before[head..], &after[head..]);
    let tail = before.iter().rev().zip(after.iter().rev()).take_while(alike).count();
    let (before, after) = (&before[..before.len() - tail], &after[..after.len() - tail]);
    let count = before.len().max(after.len());
    (0..count).map(|index| ((head + index).to_string(), before.get(index), after.get(index))).collect()
}

/// None if an item has no key, or two have the same.
fn keyed<'a>(keys: &[&str], before: &'a [Value], after: &'a [Value]) -> Option<Vec<Pair<'a>>> {
    let key = |item: &Value| {
        keys.iter().find_map(|key| match &item[*key] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    let named = |items: &'a [Value]| -> Option<Vec<(String, &'a Value)>> {
        let named: Vec<_> = items.iter().map(|item| Some((key(item)?, item))).collect::<Option<_>>()?;
        let different: BTreeSet<&String> = named.iter().map(|(name, _)| name).collect();
        (different.len() == named.len()).then_some(named)
    };
    let (before, after) = (named(before)?, named(after)?);
    let find = |items: &[(String, &'a Value)], name: &str| {
        items.iter().find(|(known, _)| known == name).map(|(_, item)| *item)
    };
    let went = before.iter().filter(|(name, _)| find(&after, name).is_none());
    let gone = went.map(|(name, item)| (name.clone(), Some(*item), None));
    let rest = after.iter().map(|(name, item)| (name.clone(), find(&before, name), Some(*item)));
    Some(rest.chain(gone).collect())
}
