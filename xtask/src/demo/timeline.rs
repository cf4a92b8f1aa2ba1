//! Follows an upgrade and tells each change as it happens: the phases, the steps, the pods and their versions.

use std::{
    collections::BTreeMap,
    pin::pin,
    time::{Duration, Instant},
};

use coder_upgrade_operator::api::{CoderUpgrade, CoderUpgradeStatus, Phase, StepState, label};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};

use crate::Result;

/// Tells what happens until the attempt has ended. Returns whether it was verified.
pub async fn follow(client: Client, namespace: &str, name: &str, patience: Duration) -> Result<bool> {
    let upgrades: Api<CoderUpgrade> = Api::namespaced(client.clone(), namespace);
    let mut upgrades = pin!(watcher::watch_object(upgrades, name));
    // The runner's own pods are told as steps.
    let others = watcher::Config::default().labels(&format!("!{}", label::UPGRADE_UID));
    let mut pods = pin!(watcher(Api::<Pod>::namespaced(client, namespace), others).touched_objects());
    let mut teller = Teller { begin: Instant::now(), phase: None, told: Vec::new(), pods: BTreeMap::new() };
    let watch = async {
        loop {
            tokio::select! {
                pod = pods.try_next() => if let Some(pod) = pod? { teller.pod(&pod) },
                object = upgrades.try_next() => {
                    let Some(status) = object?.flatten().and_then(|object| object.status) else { continue };
                    teller.upgrade(&status);
                    if matches!(status.phase, Phase::Succeeded | Phase::Failed) {
                        return Ok(status.phase == Phase::Succeeded);
                    }
                }
            }
        }
    };
    let limit = patience.as_secs();
    tokio::time::timeout(patience, watch).await.map_err(|_| format!("nothing was decided within {limit} s"))?
}

struct Teller {
    begin: Instant,
    phase: Option<Phase>,
    told: Vec<String>,
    pods: BTreeMap<String, &'static str>,
}

impl Teller {
    fn upgrade(&mut self, status: &CoderUpgradeStatus) {
        if status.observed_generation < 0 {
            return; // The controller has not seen it yet.
        }
        for step in &status.steps {
            self.once(None, &format!("Job {} does the step {}", step.job_name, step.name));
            if step.state != StepState::Running {
                self.once(None, &step.message);
            }
        }
        self.once(Some(status.phase), &status.message);
    }

    fn pod(&mut self, pod: &Pod) {
        let name = pod.name_any();
        let known = self.pods.get(&name).copied();
        let state = state(pod);
        if known == Some(state) || (known.is_none() && state == "ready") {
            self.pods.insert(name, state); // Those that were there before the upgrade are no news.
            return;
        }
        let image = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.clone()).unwrap_or_default();
        let version = image.rsplit(':').next().unwrap_or_default().to_owned();
        self.print(None, &format!("Pod {name} ({version}) is {state}"));
        self.pods.insert(name, state);
    }

    /// A status is told again with each change; what was said is not repeated.
    fn once(&mut self, phase: Option<Phase>, line: &str) {
        if !line.is_empty() && !self.told.iter().any(|told| told == line) {
            self.told.push(line.to_owned());
            self.print(phase, line);
        }
    }

    fn print(&mut self, phase: Option<Phase>, line: &str) {
        let changed = phase.filter(|_| phase != self.phase);
        self.phase = phase.or(self.phase);
        let heading = changed.map(|phase| phase.to_string()).unwrap_or_default();
        println!("    {:+6.1}  {heading:<10} {line}", self.begin.elapsed().as_secs_f32());
    }
}

fn state(pod: &Pod) -> &'static str {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    match (pod.metadata.deletion_timestamp.is_some(), ready) {
        (true, _) => "ending",
        (false, true) => "ready",
        (false, false) => "starting",
    }
}
