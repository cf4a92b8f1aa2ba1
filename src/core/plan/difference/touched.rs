//! The objects that an upgrade touches, each before and after.

use serde_json::Value;

use super::{ChangeKind, Sides};
use crate::api::{PlannedRepair, Remedy};
use crate::core::helm::documents::Documents;
use crate::core::object::ObjectRef;
use crate::core::plan::rehearsal::{Verb, Write};

/// An object that is written, or would be if the rehearsal could see it.
#[derive(Clone, Debug)]
pub struct Touched<'a> {
    /// The object.
    pub object: ObjectRef,
    /// What becomes of it.
    pub kind: ChangeKind,
    /// The object before. Where it cannot be written in place, this is what the installed chart has rendered.
    pub before: Option<&'a Value>,
    /// The object afterwards, in the same form.
    pub after: Option<&'a Value>,
}

/// The objects in helm's order. What the rehearsal could not see is taken from the manifests.
pub fn list<'a>(sides: &Sides<'a>) -> Vec<Touched<'a>> {
    let mut list: Vec<Touched<'a>> = Vec::new();
    for write in &sides.rehearsal.writes {
        match list.iter_mut().find(|known| known.object.same(&write.object)) {
            Some(known) => again(known, write),
            None => list.push(written(sides, write)),
        }
    }
    for (object, after) in sides.new.objects() {
        if !is_unseen(sides, &object) || knows(&list, &object) {
            continue;
        }
        let before = find(sides.old, &object);
        let kind = if is_replaced(sides, &object) {
            ChangeKind::Replaced
        } else if before.is_some() {
            ChangeKind::Changed
        } else {
            ChangeKind::Added
        };
        list.push(Touched { object, kind, before, after: Some(after) });
    }
    for (object, before) in sides.old.objects() {
        if is_unseen(sides, &object) && !knows(&list, &object) && find(sides.new, &object).is_none() {
            list.push(Touched { object, kind: ChangeKind::Removed, before: Some(before), after: None });
        }
    }
    list
}

fn written<'a>(sides: &Sides<'a>, write: &'a Write) -> Touched<'a> {
    let object = write.object.clone();
    let rendered = |kind| Touched {
        kind,
        before: find(sides.old, &write.object),
        after: find(sides.new, &write.object),
        object: object.clone(),
    };
    match write.verb {
        _ if is_replaced(sides, &object) => rendered(ChangeKind::Replaced),
        Verb::Delete => Touched { object, kind: ChangeKind::Removed, before: write.before.as_ref(), after: None },
        // The API server has refused it, so nobody knows what it would store.
        Verb::Update if write.after.is_none() => rendered(ChangeKind::Changed),
        Verb::Create if write.before.is_none() => {
            let after = write.after.as_ref().or_else(|| find(sides.new, &object));
            Touched { object, kind: ChangeKind::Added, before: None, after }
        }
        Verb::Create | Verb::Update => {
            Touched { object, kind: ChangeKind::Changed, before: write.before.as_ref(), after: write.after.as_ref() }
        }
    }
}

/// helm comes to an object a second time: what counts is where it ends.
fn again<'a>(known: &mut Touched<'a>, write: &'a Write) {
    match (known.kind, write.verb) {
        (ChangeKind::Replaced, _) => {}
        (ChangeKind::Removed, Verb::Create) => {
            known.kind = ChangeKind::Replaced;
            known.after = write.after.as_ref();
        }
        (_, Verb::Delete) => {
            known.kind = ChangeKind::Removed;
            known.after = None;
        }
        _ => known.after = write.after.as_ref().or(known.after),
    }
}

fn is_replaced(sides: &Sides<'_>, object: &ObjectRef) -> bool {
    let replaces = |repair: &&PlannedRepair| repair.remedy == Remedy::Replace;
    sides.rehearsal.repairs.iter().filter(replaces).any(|repair| object.is(&repair.object))
}

/// Nothing was rehearsed, or not this object.
fn is_unseen(sides: &Sides<'_>, object: &ObjectRef) -> bool {
    let name = object.to_string();
    let named = |line: &String| line.split([' ', ':', ',']).any(|word| word == name);
    sides.rehearsal.writes.is_empty() || is_replaced(sides, object) || sides.rehearsal.not_rehearsed.iter().any(named)
}

fn knows(list: &[Touched<'_>], object: &ObjectRef) -> bool {
    list.iter().any(|known| is_same(&known.object, object))
}

fn find<'a>(manifest: &'a Documents, object: &ObjectRef) -> Option<&'a Value> {
    manifest.objects().find(|(name, _)| is_same(object, name)).map(|(_, found)| found)
}

/// A manifest gives a namespace to every object, even to those that lie in none.
fn is_same(written: &ObjectRef, rendered: &ObjectRef) -> bool {
    let namespace = rendered.namespace.clone().filter(|_| written.namespace.is_some());
    written.same(&ObjectRef { namespace, ..rendered.clone() })
}
