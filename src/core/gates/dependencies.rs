//! Which `CoderUpgrades` must be ready before another one begins.

use std::collections::BTreeSet;

use kube::ResourceExt;

use super::request;
use crate::api::{CoderUpgrade, ConditionType, Phase, annotation};

/// Another `CoderUpgrade` of the namespace, as far as one that depends on it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// Its name.
    pub name: String,
    /// It was verified at what its spec asks for now.
    pub ready: bool,
    /// Where it stands.
    pub phase: Phase,
    /// The names of those that it depends on itself.
    pub depends_on: Vec<String>,
}

impl From<&CoderUpgrade> for Sibling {
    fn from(upgrade: &CoderUpgrade) -> Self {
        let status = upgrade.status.clone().unwrap_or_default();
        let ready = ConditionType::Ready.to_string();
        let verified = status.conditions.iter().any(|c| c.type_ == ready && c.status == "True");
        let requested = upgrade.annotations().get(annotation::REQUESTED_AT).map(String::as_str);
        // The status may be older than the spec: nobody has looked at the newest one yet.
        let present = Some(status.observed_generation) == upgrade.metadata.generation
            && status.request == request::digest(&upgrade.spec, requested);
        Self {
            name: upgrade.name_any(),
            ready: verified && present,
            phase: status.phase,
            depends_on: upgrade.spec.dependencies(),
        }
    }
}

/// What keeps an upgrade waiting for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// There is no `CoderUpgrade` of that name.
    Missing(String),
    /// It is not ready.
    NotReady(String, Phase),
    /// It waits, over others, for itself. The names in their order, the first one again at the end.
    Circle(Vec<String>),
}

/// What keeps the `CoderUpgrade` of that name waiting: a circle before anything else, as no time can cure it.
pub fn obstacle(name: &str, depends_on: &[String], siblings: &[Sibling]) -> Option<Obstacle> {
    if let Some(circle) = circle(name, depends_on, siblings) {
        return Some(Obstacle::Circle(circle));
    }
    let find = |wanted: &String| siblings.iter().find(|sibling| sibling.name == *wanted);
    if let Some(missing) = depends_on.iter().find(|wanted| find(wanted).is_none()) {
        return Some(Obstacle::Missing(missing.clone()));
    }
    let waiting = depends_on.iter().filter_map(find).find(|sibling| !sibling.ready)?;
    Some(Obstacle::NotReady(waiting.name.clone(), waiting.phase))
}

/// The way from a name back to itself, if there is one.
fn circle(name: &str, depends_on: &[String], siblings: &[Sibling]) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut ways: Vec<Vec<String>> = depends_on.iter().map(|next| vec![name.to_owned(), next.clone()]).collect();
    while let Some(way) = ways.pop() {
        let last = way.last()?;
        if last == name {
            return Some(way);
        }
        if !seen.insert(last.clone()) {
            continue;
        }
        let Some(sibling) = siblings.iter().find(|sibling| sibling.name == *last) else { continue };
        ways.extend(sibling.depends_on.iter().map(|next| way.iter().chain([next]).cloned().collect()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sibling(name: &str, ready: bool, after: &[&str]) -> Sibling {
        Sibling { name: name.into(), ready, phase: Phase::Upgrading, depends_on: names(after) }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn all_that_are_named_must_be_there_and_ready() {
        let siblings = [sibling("a", true, &[]), sibling("b", false, &[])];
        assert_eq!(obstacle("me", &names(&["a"]), &siblings), None);
        let waiting = Some(Obstacle::NotReady("b".into(), Phase::Upgrading));
        assert_eq!(obstacle("me", &names(&["a", "b"]), &siblings), waiting);
        assert_eq!(obstacle("me", &names(&["b", "c"]), &siblings), Some(Obstacle::Missing("c".into())));
        assert_eq!(obstacle("me", &[], &siblings), None);
    }

    #[test]
    fn a_circle_is_named_in_its_order() {
        let siblings = [sibling("a", true, &["b", "x"]), sibling("b", true, &["c"]), sibling("c", true, &["me", "b"])];
        let circle = Obstacle::Circle(names(&["me", "a", "b", "c", "me"]));
        assert_eq!(obstacle("me", &names(&["a"]), &siblings), Some(circle));
        assert_eq!(obstacle("me", &names(&["me"]), &siblings), Some(Obstacle::Circle(names(&["me", "me"]))));
    }

    #[test]
    fn a_circle_of_others_is_theirs() {
        let siblings = [sibling("a", false, &["b"]), sibling("b", false, &["a"])];
        let waiting = Some(Obstacle::NotReady("a".into(), Phase::Upgrading));
        assert_eq!(obstacle("me", &names(&["a"]), &siblings), waiting);
    }
}
