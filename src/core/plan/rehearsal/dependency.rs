//! What a dry run is refused for only because another object of the same upgrade was a dry run, too.
//!
//! The API server looks for the Role of a `RoleBinding`, and for the Namespace of an object. What helm has just made in a
//! rehearsal is not there. That the runner may bind a Role follows from that it may make it: the API server asks for the
//! same rights.

use serde_json::Value;

use super::{Verb, Write};

/// What the API server would say if the other object was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dependent {
    /// It would accept the write.
    Accepted,
    /// It would refuse the write, in these words: a binding to another role.
    Refused(String),
    /// Nobody knows; the text says why.
    Unknown(String),
}

/// Judges a refusal. None if it is a refusal in its own right. `before` is the live object and `wanted` what helm sent.
pub fn if_dependency_existed(
    refusal: &str,
    writes: &[Write],
    before: Option<&Value>,
    wanted: Option<&Value>,
) -> Option<Dependent> {
    let (kinds, name) = missing(refusal)?;
    let made = |write: &&Write| write.verb == Verb::Create && write.after.is_some();
    let is_it = |write: &&Write| kinds.contains(&write.object.kind.as_str()) && write.object.name == name;
    let found = writes.iter().filter(made).find(is_it)?;
    if found.object.kind == "Namespace" {
        return Some(Dependent::Unknown(format!("its Namespace {name} is made by the same upgrade")));
    }
    let role = |object: Option<&Value>| object.map(|object| object["roleRef"]["name"].clone()).filter(Value::is_string);
    let (Some(before), Some(now)) = (before, role(before)) else { return Some(Dependent::Accepted) };
    match role(wanted) {
        Some(wanted) if wanted != now => {
            let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
            let (kind, name) = (text(&before["kind"]), text(&before["metadata"]["name"]));
            let words = format!(
                "{kind}.rbac.authorization.k8s.io \"{name}\" is invalid: roleRef: Invalid value: {wanted}: cannot change roleRef"
            );
            Some(Dependent::Refused(words))
        }
        _ => Some(Dependent::Accepted),
    }
}

/// The kinds that may be meant, and the name: `rolebindings.rbac.authorization.k8s.io "NAME" not found`, where the name is
/// that of the role, or `namespaces "NAME" not found`.
fn missing(refusal: &str) -> Option<(&'static [&'static str], &str)> {
    let (before, rest) = refusal.split_once('"')?;
    let (name, rest) = rest.split_once('"')?;
    if !rest.starts_with(" not found") {
        return None;
    }
    let resource = before.split_whitespace().next_back()?.split('.').next()?;
    let kinds: &[&str] = match resource.trim_end_matches('s') {
        "rolebinding" => &["Role", "ClusterRole"],
        "role" => &["Role"],
        "clusterrole" | "clusterrolebinding" => &["ClusterRole"],
        "namespace" => &["Namespace"],
        _ => return None,
    };
    Some((kinds, name))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::core::object::KindName;
    use crate::core::object::ObjectRef;

    fn made(kind: &str, name: &str) -> Vec<Write> {
        let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
        vec![Write { verb: Verb::Create, object: ObjectRef::of(&object).unwrap(), before: None, after: Some(object) }]
    }

    fn binding(role: &str) -> Value {
        json!({"kind": "RoleBinding", "metadata": {"name": "coder"}, "roleRef": {"kind": "Role", "name": role}})
    }

    const NO_ROLE: &str = "rolebindings.rbac.authorization.k8s.io \"new\" not found";

    #[test]
    fn the_role_of_a_new_binding_is_made_by_the_same_upgrade() {
        let wanted = binding("new");
        assert_eq!(
            if_dependency_existed(NO_ROLE, &made("Role", "new"), None, Some(&wanted)),
            Some(Dependent::Accepted)
        );
        assert_eq!(
            if_dependency_existed(NO_ROLE, &made("Role", "other"), None, Some(&wanted)),
            None,
            "nobody makes that role"
        );
        let cluster = "clusterrolebindings.rbac.authorization.k8s.io \"new\" not found";
        assert_eq!(if_dependency_existed(cluster, &made("Role", "new"), None, Some(&wanted)), None);
    }

    #[rstest]
    #[case::whole(binding("new"))]
    #[case::patch(json!({"roleRef": {"name": "new"}}))]
    fn a_binding_never_changes_its_role(#[case] wanted: Value) {
        let found = if_dependency_existed(NO_ROLE, &made("Role", "new"), Some(&binding("old")), Some(&wanted));
        let Some(Dependent::Refused(words)) = found else { panic!("{found:?}") };
        let cause = crate::core::helm::failures::worst(&words);
        assert_eq!(cause.class, Some(crate::api::FailureClass::Immutable));
        assert_eq!((cause.object, cause.field.as_deref()), (KindName::read("RoleBinding/coder"), Some("roleRef")));
    }

    #[test]
    fn a_binding_whose_role_comes_back_is_accepted() {
        let found =
            if_dependency_existed(NO_ROLE, &made("Role", "new"), Some(&binding("new")), Some(&json!({"subjects": []})));
        assert_eq!(found, Some(Dependent::Accepted));
    }

    #[test]
    fn what_lies_in_a_new_namespace_is_not_known() {
        let found = if_dependency_existed("namespaces \"lab\" not found", &made("Namespace", "lab"), None, None);
        assert!(matches!(found, Some(Dependent::Unknown(_))));
    }

    #[rstest]
    #[case("configmaps \"x\" not found")]
    #[case("roles \"x\" is forbidden")]
    #[case("")]
    #[case("\"")]
    fn other_refusals_stand(#[case] refusal: &str) {
        assert_eq!(if_dependency_existed(refusal, &made("Role", "x"), None, None), None);
    }
}
