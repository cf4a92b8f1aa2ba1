//! What others have put into an object that would be replaced: neither the installed version nor the new one has it, so helm would
//! not make it again.

use std::collections::BTreeSet;

use serde_json::Value;

use super::rehearsal::Rehearsal;
use crate::api::{PlannedRepair, Remedy};
use crate::core::helm::documents::Documents;

/// Has a person approve each replacement that loses what others have put into the object, and names that.
pub fn need_approval(rehearsal: &mut Rehearsal, stored: &Documents, rendered: &Documents) {
    let Rehearsal { writes, repairs, .. } = rehearsal;
    for repair in repairs.iter_mut().filter(|repair| repair.remedy == Remedy::Replace) {
        let named = |documents: &Documents| {
            documents.objects().find(|(name, _)| name.is(&repair.object)).map(|(_, object)| object.clone())
        };
        let write = writes.iter().find(|write| write.object.is(&repair.object));
        let Some((kind, live)) = write.and_then(|write| Some((&write.object.kind, write.before.as_ref()?))) else {
            continue;
        };
        let known = [named(stored), named(rendered)].map(Option::unwrap_or_default);
        let lost: Vec<String> =
            parts(kind, live).difference(&known.iter().flat_map(|o| parts(kind, o)).collect()).cloned().collect();
        if lost.is_empty() {
            continue;
        }
        let PlannedRepair { object, message, needs_approval, .. } = repair;
        *message = format!(
            "{object} has what the chart did not put there, and it would be lost: {}; to keep it, save it before and add it to the \
             values or to the new object ({message})",
            lost.join(", ")
        );
        *needs_approval = true;
    }
}

/// The parts of an object of this kind that others add, by their names: of Secrets and `ConfigMaps` the keys.
fn parts(kind: &str, object: &Value) -> BTreeSet<String> {
    match kind {
        "Secret" | "ConfigMap" => {
            let maps = ["data", "stringData", "binaryData"].into_iter().filter_map(|field| object[field].as_object());
            maps.flat_map(|map| map.keys().map(|key| format!("key {key}"))).collect()
        }
        "RoleBinding" | "ClusterRoleBinding" => {
            let subjects = object["subjects"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
            let word = |subject: &Value, key: &str| subject[key].as_str().unwrap_or_default().to_owned();
            subjects.map(|subject| format!("subject {} {}", word(subject, "kind"), word(subject, "name"))).collect()
        }
        _ => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::core::object::ObjectRef;
    use crate::core::plan::rehearsal::{Verb, Write};

    #[rstest]
    #[case::foreign_key(json!({"data": {"tls.crt": "x", "extra": "y"}}), Some("key extra"))]
    #[case::no_foreign_key(json!({"data": {"tls.crt": "x", "old": "y"}}), None)]
    #[case::no_keys(json!({}), None)]
    fn what_others_have_added_is_named_and_asked_for(#[case] mut live: Value, #[case] expected: Option<&str>) {
        let secret = |more: &Value| {
            let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}});
            object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            object
        };
        let documents = |more: &Value| Documents::parse(&secret(more).to_string(), "ns").unwrap();
        live = secret(&live);
        let write =
            Write { verb: Verb::Update, object: ObjectRef::of(&live).unwrap(), before: Some(live), after: None };
        let repair = PlannedRepair {
            remedy: Remedy::Replace,
            object: "Secret/tls".into(),
            message: "field is immutable".into(),
            needs_approval: false,
        };
        let mut rehearsal = Rehearsal { writes: vec![write], repairs: vec![repair], ..Rehearsal::default() };
        need_approval(
            &mut rehearsal,
            &documents(&json!({"data": {"old": "1"}})),
            &documents(&json!({"stringData": {"tls.crt": "2"}})),
        );
        let repair = &rehearsal.repairs[0];
        assert_eq!(repair.needs_approval, expected.is_some(), "{repair:?}");
        assert!(repair.message.contains(expected.unwrap_or("immutable")), "{repair:?}");
    }
}
