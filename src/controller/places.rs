//! How many upgrades have a Job at a time: the others wait in a row, and each is woken when its turn has come.
//!
//! What is known here is derived from the status of the objects: whoever has a step with a Job has a place. It is kept
//! because the cache may lag behind a decision that was just made; another controller begins with what the objects say.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use futures::channel::mpsc::UnboundedSender;
use kube::{
    ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};

use crate::api::{CoderUpgrade, CoderUpgradeStatus, StepName};
use crate::core::decide::observed::{Capacity, Observed};
use crate::core::decide::{Decision, PlaceUse, decide};

/// The places for Jobs.
pub struct Places {
    limit: usize,
    waking: UnboundedSender<ObjectRef<CoderUpgrade>>,
    state: Mutex<State>,
}

/// Place in the row: a planned change goes before a new plan, and then whoever came first.
type Turn = (bool, u64);

#[derive(Default)]
struct State {
    seeded: bool,
    /// UIDs of the upgrades that have a place.
    running: HashSet<String>,
    row: BTreeMap<Turn, (String, ObjectRef<CoderUpgrade>)>,
    turns: HashMap<String, Turn>,
    last: u64,
}

impl Places {
    /// As many as `limit`, at least one. Sends to `waking` whatever has its turn.
    pub fn new(limit: usize, waking: UnboundedSender<ObjectRef<CoderUpgrade>>) -> Self {
        Self { limit: limit.max(1), waking, state: Mutex::default() }
    }

    /// Gives their places to those that have a Job already, once.
    pub fn seed(&self, upgrades: &Store<CoderUpgrade>) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.seeded, true) {
            let running = upgrades.state_filter(|upgrade| upgrade.status.as_ref().is_some_and(has_job));
            state.running.extend(running.iter().filter_map(|upgrade| upgrade.uid()));
        }
    }

    /// Decides, with the knowledge whether there is a place, and takes or gives back the place. One at a time: of two that
    /// see the same free place only one may take it.
    pub fn decide(&self, observed: &mut Observed) -> Decision {
        let uid = observed.uid().to_owned();
        let mut state = self.lock();
        observed.place = state.place(&uid, self.limit);
        let decision = decide(observed);
        let moved = match decision.place {
            PlaceUse::Has => {
                state.leave(&uid);
                state.running.insert(uid);
                false
            }
            PlaceUse::Waits => state.running.remove(&uid) | !state.wait(uid, &observed.upgrade, &decision.status),
            PlaceUse::None => state.running.remove(&uid) | state.leave(&uid),
        };
        if moved {
            self.wake(&state);
        }
        decision
    }

    /// An object is gone, or its Job could not be created.
    pub fn give_back(&self, uid: &str) {
        let mut state = self.lock();
        if state.running.remove(uid) | state.leave(uid) {
            self.wake(&state);
        }
    }

    /// Wakes as many as there are free places.
    fn wake(&self, state: &State) {
        let free = self.limit.saturating_sub(state.running.len());
        for (_, object) in state.row.values().take(free) {
            // Fails only when nobody reconciles any more.
            let _ = self.waking.unbounded_send(object.clone());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn place(&self, uid: &str, limit: usize) -> Capacity {
        let ahead = self.turns.get(uid).map_or(self.row.len(), |turn| self.row.range(..turn).count());
        let free = self.running.contains(uid) || self.running.len() + ahead < limit;
        if free { Capacity::Free } else { Capacity::Taken { limit } }
    }

    /// Puts an upgrade into the row, or leaves it where it stands. Returns whether it stands where it stood.
    fn wait(&mut self, uid: String, upgrade: &CoderUpgrade, status: &CoderUpgradeStatus) -> bool {
        let new = status.plan.is_none();
        if self.turns.get(&uid).is_some_and(|turn| turn.0 == new) {
            return true;
        }
        let moved = self.leave(&uid);
        self.last += 1;
        self.turns.insert(uid.clone(), (new, self.last));
        self.row.insert((new, self.last), (uid, ObjectRef::from_obj(upgrade)));
        !moved
    }

    fn leave(&mut self, uid: &str) -> bool {
        self.turns.remove(uid).is_some_and(|turn| self.row.remove(&turn).is_some())
    }
}

/// Whether an upgrade has a Job that runs, as far as its status tells.
pub fn has_job(status: &CoderUpgradeStatus) -> bool {
    status.running_step().is_some_and(|step| step.name != StepName::Drain) && status.blocked.is_none()
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;
    use jiff::Timestamp;

    use super::*;
    use crate::api::{CoderUpgradeSpec, Phase};

    fn observed(name: &str) -> Observed {
        let mut upgrade =
            CoderUpgrade::new(name, CoderUpgradeSpec { version: Some("2.31.7".into()), ..Default::default() });
        upgrade.metadata.uid = Some(name.into());
        upgrade.metadata.generation = Some(1);
        Observed::new(upgrade, Timestamp::UNIX_EPOCH)
    }

    /// Decides, and keeps the status.
    fn pass(places: &Places, observed: &mut Observed) -> Phase {
        let status = places.decide(observed).status;
        observed.upgrade.status = Some(status.clone());
        status.phase
    }

    #[test]
    fn whoever_came_first_is_woken_first_and_nobody_overtakes() {
        let (waking, mut woken) = mpsc::unbounded();
        let places = Places::new(1, waking);
        let [mut a, mut b, mut c] = ["a", "b", "c"].map(observed);
        assert_eq!(pass(&places, &mut a), Phase::Planning);
        assert_eq!((pass(&places, &mut b), pass(&places, &mut c)), (Phase::AwaitingPlace, Phase::AwaitingPlace));
        assert_eq!(pass(&places, &mut a), Phase::Planning, "it keeps its place");
        a.upgrade.spec.suspend = true;
        a.upgrade.metadata.generation = Some(2);
        a.upgrade.spec.version = Some("2.32.0".into());
        assert_eq!(pass(&places, &mut a), Phase::Suspended);
        assert_eq!(woken.try_recv().map(|object| object.name), Ok("b".into()));
        assert_eq!(pass(&places, &mut c), Phase::AwaitingPlace, "b is before it");
        assert_eq!(pass(&places, &mut b), Phase::Planning);
        places.give_back("b");
        assert_eq!(woken.try_recv().map(|object| object.name), Ok("c".into()));
        assert_eq!(pass(&places, &mut c), Phase::Planning);
    }

    #[test]
    fn one_that_is_deleted_while_it_waits_holds_nobody_up() {
        let (waking, mut woken) = mpsc::unbounded();
        let places = Places::new(1, waking);
        let [mut a, mut b, mut c] = ["a", "b", "c"].map(observed);
        for one in [&mut a, &mut b, &mut c] {
            pass(&places, one);
        }
        places.give_back("b");
        places.give_back("a");
        let objects: Vec<_> = std::iter::from_fn(|| woken.try_recv().ok()).map(|object| object.name).collect();
        assert_eq!(objects, ["c"]);
        assert_eq!(pass(&places, &mut c), Phase::Planning);
    }
}
