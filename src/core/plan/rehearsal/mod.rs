//! What a rehearsal has shown: every write that helm would make, and what the API server says to it.

mod dependency;
pub mod discovery;
mod drift;
pub mod permission;
pub mod request;
mod shrunk;

pub use dependency::{Dependent, if_dependency_existed};
pub use drift::{conflicting_managers, edited_by_hand, only_scaled};
pub use permission::not_permitted;
pub use shrunk::shrunk;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::api::{PlannedRepair, Remedy};
use crate::core::helm::failures::Cause;
use crate::core::object::ObjectRef;
use crate::core::rights::Right;

/// How an object would be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
pub enum Verb {
    /// It would be created.
    Create,
    /// It would be patched or replaced in place.
    Update,
    /// It would be deleted.
    Delete,
}

/// A write that helm would make. helm's own records are not among them.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// What it would do.
    pub verb: Verb,
    /// To which object.
    pub object: ObjectRef,
    /// The object as it is; none if it does not exist.
    pub before: Option<Value>,
    /// The object as the API server would store it; none if it would go or the write was refused. Of an object that is
    /// replaced: as it would be recreated; none if that could not be rehearsed.
    pub after: Option<Value>,
}

/// The result of a rehearsal, repeated until nothing new showed up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rehearsal {
    /// The writes of the last run, in helm's order.
    pub writes: Vec<Write>,
    /// Repairs with which helm would go through.
    pub repairs: Vec<PlannedRepair>,
    /// What no repair cures. Empty: helm would go through.
    pub refusals: Vec<Cause>,
    /// What could not be rehearsed, a line each.
    pub not_rehearsed: Vec<String>,
    /// The rights that helm's requests took, each with its namespace; none for the whole cluster.
    pub asked: BTreeSet<(Option<String>, Right)>,
}

impl Rehearsal {
    /// UIDs of the objects that the repairs replace, by Kind/name.
    pub fn replaced(&self) -> BTreeMap<String, String> {
        let repairs = self.repairs.iter().filter(|repair| repair.remedy == Remedy::Replace);
        let uid = |named: &str| {
            let write = self.writes.iter().find(|write| write.object.is(named))?;
            write.before.as_ref()?["metadata"]["uid"].as_str().map(ToOwned::to_owned)
        };
        repairs.filter_map(|repair| Some((repair.object.clone(), uid(&repair.object)?))).collect()
    }
}
