//! Everything that the API server shows of a `CoderUpgrade` while it is upgraded.

use std::sync::{Arc, Mutex};

use coder_upgrade_operator::api::CoderUpgrade;
use futures::StreamExt;
use kube::{
    Api,
    api::{ApiResource, DynamicObject},
    runtime::watcher::{self, Event},
};
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::common::World;

pub struct Recording {
    seen: Arc<Mutex<Vec<Value>>>,
    watch: JoinHandle<()>,
    name: String,
}

impl Recording {
    /// Records the object of that name from now on. It need not exist yet.
    pub async fn start(world: &World, name: &str) -> Self {
        let kind = ApiResource::erase::<CoderUpgrade>(&());
        let api = Api::<DynamicObject>::namespaced_with(world.client.clone(), &world.namespace, &kind);
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (started, watched) = oneshot::channel();
        let kept = seen.clone();
        let watch = tokio::spawn(async move {
            let mut started = Some(started);
            let mut events = watcher::watcher(api, only).boxed();
            while let Some(event) = events.next().await {
                match event.expect("a watch that goes on") {
                    Event::Apply(object) | Event::InitApply(object) => {
                        kept.lock().unwrap().push(serde_json::to_value(object).unwrap());
                    }
                    Event::InitDone => drop(started.take().map(|started| started.send(()))),
                    Event::Init | Event::Delete(_) => {}
                }
            }
        });
        watched.await.expect("a watch that begins");
        Self { seen, watch, name: name.to_owned() }
    }

    /// All that was shown until now, oldest first.
    pub async fn end(self, world: &World) -> Vec<Value> {
        let newest = world.get(&self.name).await.metadata.resource_version.unwrap();
        let shown = || async {
            let seen = self.seen.lock().unwrap();
            seen.iter().any(|object| object["metadata"]["resourceVersion"] == newest.as_str()).then_some(())
        };
        world.eventually("newest state in the recording", shown).await;
        self.watch.abort();
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}
