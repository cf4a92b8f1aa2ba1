//! The pods that run on the node, by their names: where the log server and the control port find them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::context::lock;
use super::pod::PodRuntime;

/// The pods that run on the node.
#[derive(Default)]
pub struct Running(Mutex<BTreeMap<(String, String), Arc<PodRuntime>>>);

impl Running {
    /// The pod of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<PodRuntime>> {
        lock(&self.0).get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// From now on the pod has its name.
    pub fn insert(&self, pod: Arc<PodRuntime>) {
        lock(&self.0).insert(key(&pod), pod);
    }

    /// The pod has ended. A new one may have taken its name already, and keeps it.
    pub fn remove(&self, pod: &PodRuntime) {
        let pods = &mut *lock(&self.0);
        if pods.get(&key(pod)).is_some_and(|known| known.uid == pod.uid) {
            pods.remove(&key(pod));
        }
    }
}

fn key(pod: &PodRuntime) -> (String, String) {
    (pod.namespace.clone(), pod.name.clone())
}
