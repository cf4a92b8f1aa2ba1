//! What one chart takes: the least that suffices for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::table::{MANAGED, granted, own, own_in_cluster};
use super::{Grants, Right, RightsGroup, distinct, granted_by};
use crate::core::object::ObjectRef;

const RBAC: &str = "rbac.authorization.k8s.io";

/// What the API server calls a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// Plural name.
    pub plural: String,
    /// Objects of it lie in namespaces.
    pub namespaced: bool,
}

/// An object that helm writes.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Which one; with its namespace, if its kind has any.
    pub object: ObjectRef,
    /// What its kind is called.
    pub resource: Resource,
    /// All of it: a Role says what it grants.
    pub body: Value,
}

/// What an upgrade was seen to take.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Namespace of the release.
    pub namespace: String,
    /// The objects of the old and of the new chart, hooks included.
    pub subjects: Vec<Subject>,
    /// What helm and the templates asked for, each with the namespace; none for the whole cluster.
    pub asked: BTreeSet<(Option<String>, Right)>,
    /// helm installs definitions of custom resources.
    pub defines: bool,
}

/// By namespace; none for the whole cluster.
type Rights = BTreeMap<Option<String>, BTreeSet<Right>>;

/// The least that suffices for it.
#[must_use]
pub fn needs(needs: &Needs) -> Grants {
    let (mut objects, mut grants, mut asked) = (Rights::new(), Rights::new(), Rights::new());
    for Subject { object, resource, body } in &needs.subjects {
        let namespace = object.namespace.clone().filter(|_| resource.namespaced);
        let managed = MANAGED.iter().map(|verb| Right::new(&resource.group, &resource.plural, verb));
        objects.entry(namespace.clone()).or_default().extend(managed);
        if resource.group == RBAC {
            let rights = match object.kind.as_str() {
                "Role" | "ClusterRole" => granted_by(body),
                _ => binds(needs, namespace.as_deref(), body).into_iter().collect(),
            };
            grants.entry(namespace).or_default().extend(rights);
        }
    }
    if needs.defines {
        let define = |verb| Right::new("apiextensions.k8s.io", "customresourcedefinitions", verb);
        objects.entry(None).or_default().extend(["get", "list", "watch", "create"].map(define));
    }
    for (namespace, right) in &needs.asked {
        asked.entry(namespace.clone()).or_default().insert(right.clone());
    }
    let mut all: BTreeSet<Option<String>> = BTreeSet::new();
    all.extend([&objects, &grants, &asked].into_iter().flat_map(BTreeMap::keys).cloned());
    let of = |namespace: &Option<String>| {
        let take = |rights: &Rights| rights.get(namespace).cloned().unwrap_or_default();
        [
            RightsGroup {
                why: "The objects of the chart, as it is installed and as it will be.".into(),
                rights: take(&objects),
            },
            granted(take(&grants)),
            RightsGroup { why: "What helm and the chart's templates look up.".into(), rights: take(&asked) },
        ]
    };
    let (home, cluster) = (Some(needs.namespace.clone()), None);
    let others = all.iter().filter(|namespace| **namespace != home).filter_map(Option::as_ref);
    let elsewhere = others.map(|name| (name.clone(), distinct(of(&Some(name.clone())).into())));
    let elsewhere = elsewhere.collect();
    Grants {
        home: distinct(own().into_iter().chain(of(&home)).collect()),
        elsewhere,
        cluster: distinct(own_in_cluster().into_iter().chain(of(&cluster)).collect()),
    }
}

/// To bind a role that is none of the chart's own takes the right to bind that very one.
fn binds(needs: &Needs, namespace: Option<&str>, binding: &Value) -> Option<Right> {
    let (kind, name) = (binding["roleRef"]["kind"].as_str()?, binding["roleRef"]["name"].as_str()?);
    let resource = match kind {
        "Role" => "roles",
        "ClusterRole" => "clusterroles",
        _ => return None,
    };
    let is_it = |subject: &&Subject| {
        subject.object.kind == kind
            && subject.object.name == name
            && (!subject.resource.namespaced || subject.object.namespace.as_deref() == namespace)
    };
    let own = needs.subjects.iter().any(|subject| is_it(&subject));
    (!own).then(|| Right { name: Some(name.to_owned()), ..Right::new(RBAC, resource, "bind") })
}
