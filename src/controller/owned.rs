//! Which cached objects an object controls, so that nobody has to look through all of them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use kube::{Resource, ResourceExt, runtime::watcher::Event};

use crate::core::object::controlling;

/// Names of objects of one kind by the UID of the owner that controls them, as their owner references say.
#[derive(Debug, Default)]
pub struct OwnedIndex(Mutex<OwnedNames>);

#[derive(Debug, Default)]
struct OwnedNames {
    by_owner: HashMap<String, BTreeSet<NamespacedName>>,
    /// Those of a list that is not complete yet.
    listing: HashMap<String, BTreeSet<NamespacedName>>,
}

/// Namespace and name.
pub type NamespacedName = (String, String);

impl OwnedIndex {
    /// Takes over what the watch says.
    pub fn take<K: Resource>(&self, event: &Event<K>) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(object) => add(&mut names.by_owner, object),
            Event::InitApply(object) => add(&mut names.listing, object),
            Event::Delete(object) => {
                let Some(owner) = controlling(object) else { return };
                if let Some(owned) = names.by_owner.get_mut(&owner.uid) {
                    owned.remove(&key(object));
                    if owned.is_empty() {
                        names.by_owner.remove(&owner.uid);
                    }
                }
            }
            Event::Init => names.listing.clear(),
            Event::InitDone => names.by_owner = std::mem::take(&mut names.listing),
        }
    }

    /// The names of what an owner controls in a namespace.
    pub fn by(&self, owner_uid: &str, namespace: &str) -> Vec<String> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let owned = names.by_owner.get(owner_uid).into_iter().flatten();
        owned.filter(|(of, _)| of == namespace).map(|(_, name)| name.clone()).collect()
    }
}

fn add<K: Resource>(names: &mut HashMap<String, BTreeSet<NamespacedName>>, object: &K) {
    if let Some(owner) = controlling(object) {
        names.entry(owner.uid.clone()).or_default().insert(key(object));
    }
}

/// Where an object is found.
pub fn key<K: Resource>(object: &K) -> NamespacedName {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str, controller: bool) -> Pod {
        serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name, "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": controller}]}}))
        .unwrap()
    }

    #[test]
    fn only_what_is_controlled_in_the_namespace_counts() {
        let owned = OwnedIndex::default();
        owned.take(&Event::InitApply(pod("ns", "a", true)));
        assert_eq!(owned.by("u", "ns"), [] as [String; 0], "the list is not complete");
        owned.take::<Pod>(&Event::InitDone);
        owned.take(&Event::Apply(pod("evil", "b", true)));
        owned.take(&Event::Apply(pod("ns", "c", false)));
        assert_eq!((owned.by("u", "ns"), owned.by("v", "ns").len()), (vec!["a".to_owned()], 0));
        owned.take(&Event::Delete(pod("ns", "a", true)));
        assert_eq!(owned.by("u", "ns"), [] as [String; 0]);
    }
}
