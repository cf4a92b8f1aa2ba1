//! Follows an upgrade and tells each change as it happens: the phases, the steps, the repairs, what is waited for, and the
//! pods with their versions.

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

/// Tells what happens until the upgrade is in one of the phases `ends`. Returns its status then. What the status `known` says
/// is no news, and its phase no end.
pub async fn follow(
    client: Client,
    namespace: &str,
    name: &str,
    patience: Duration,
    known: Option<&CoderUpgradeStatus>,
    ends: &[Phase],
) -> Result<CoderUpgradeStatus> {
    let upgrades: Api<CoderUpgrade> = Api::namespaced(client.clone(), namespace);
    let mut teller = Teller::new(known);
    let mut upgrades = pin!(watcher::watch_object(upgrades, name));
    // The runner's own pods are told as steps.
    let others = watcher::Config::default().labels(&format!("!{}", label::UPGRADE_UID));
    let mut pods = pin!(watcher(Api::<Pod>::namespaced(client, namespace), others).touched_objects());
    let watch = async {
        loop {
            tokio::select! {
                pod = pods.try_next() => if let Some(pod) = pod? { teller.pod(&pod) },
                object = upgrades.try_next() => {
                    let Some(status) = object?.flatten().and_then(|object| object.status) else { continue };
                    teller.upgrade(&status);
                    if teller.moved && ends.contains(&status.phase) {
                        return Ok(status);
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
    /// The phase is another one than it was known to be.
    moved: bool,
    told: Vec<String>,
    /// What is being waited for, with the time of the first sight.
    waiting: BTreeMap<String, Instant>,
    pods: BTreeMap<String, &'static str>,
}

impl Teller {
    fn new(known: Option<&CoderUpgradeStatus>) -> Self {
        let (phase, told) = (known.map(|status| status.phase), known.map(lines).unwrap_or_default());
        let (waiting, pods) = (BTreeMap::new(), BTreeMap::new());
        Self { begin: Instant::now(), phase, moved: phase.is_none(), told, waiting, pods }
    }

    fn upgrade(&mut self, status: &CoderUpgradeStatus) {
        if status.observed_generation < 0 {
            return; // The controller has not seen it yet.
        }
        self.moved |= self.phase != Some(status.phase);
        for line in lines(status) {
            self.once(None, &line);
        }
        self.waiting(status);
        // What is waited for has lines of its own.
        if status.waiting_for.is_empty() || self.phase != Some(status.phase) {
            self.once(Some(status.phase), &status.message);
        }
    }

    /// Each object that is being deleted, once, and once more when it is gone.
    fn waiting(&mut self, status: &CoderUpgradeStatus) {
        let named = |object: &coder_upgrade_operator::api::WaitingFor| format!("{}/{}", object.kind, object.name);
        for object in &status.waiting_for {
            self.waiting.entry(named(object)).or_insert_with(Instant::now);
            let held = match object.finalizers.as_slice() {
                [] => String::new(),
                finalizers => format!(", held by {}", finalizers.join(", ")),
            };
            self.once(None, &format!("Waiting until {} is gone{held}", named(object)));
            if let Some(explanation) = &object.explanation {
                self.once(None, &format!("{}: {explanation}", named(object)));
            }
        }
        let present: Vec<String> = status.waiting_for.iter().map(named).collect();
        let gone: Vec<String> = self.waiting.keys().filter(|name| !present.contains(name)).cloned().collect();
        for name in gone {
            if let Some(since) = self.waiting.remove(&name) {
                self.print(None, &format!("{name} is gone, after {:.1} s", since.elapsed().as_secs_f32()));
            }
        }
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
        println!("    {:+6.1}  {heading:<16} {line}", self.begin.elapsed().as_secs_f32());
    }
}

/// What a status says that stays true: steps, repairs, addresses, what differs about volumes.
fn lines(status: &CoderUpgradeStatus) -> Vec<String> {
    let mut lines = Vec::new();
    for step in &status.steps {
        if !step.job_name.is_empty() {
            lines.push(format!("Job {} started ({})", step.job_name, step.name));
        }
        if step.state != StepState::Running {
            lines.push(step.message.clone());
        }
    }
    lines.extend(
        status.repairs.iter().map(|repair| format!("{} of {}: {}", repair.remedy, repair.object, repair.message)),
    );
    lines.extend(status.address_changes.iter().map(|change| {
        let addresses = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        let (before, after) = (addresses(&change.before), addresses(&change.after));
        let hosts = change.hosts.join(", ");
        format!("Address of {}/{}: {before} before, {after} now; point {hosts} there", change.kind, change.name)
    }));
    let claims = status.persistent_volume_claims.iter();
    lines.extend(claims.filter_map(|claim| Some(format!("Claim {}: {}", claim.name, claim.note.as_ref()?))));
    lines
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
