//! `StatefulSets` that would get fewer replicas and delete the claims of those that go.

use serde_json::Value;

use super::Rehearsal;
use crate::api::FailureClass;
use crate::core::repair::disposable::is_disposable;
use crate::core::report::Problem;

/// The first `StatefulSet` that would delete claims, because it is scaled down and its policy for that is Delete.
pub fn shrunk(rehearsal: &Rehearsal) -> Option<Problem> {
    let sets =
        rehearsal.writes.iter().filter(|write| write.object.kind == "StatefulSet" && is_disposable(&write.object));
    sets.into_iter().find_map(|write| {
        let (before, after) = (write.before.as_ref()?, write.after.as_ref()?);
        let deletes = after["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Delete";
        let (had, has) = (replicas(before), replicas(after));
        (deletes && has < had).then(|| {
            let message = format!(
                "{} would be scaled from {had} to {has} replicas, and it deletes the PersistentVolumeClaims of those that go; \
                 nothing was changed",
                write.object
            );
            let field = "spec.persistentVolumeClaimRetentionPolicy.whenScaled";
            Problem::new(FailureClass::DataAtRisk, message).object(write.object.to_string()).field(field)
        })
    })
}

fn replicas(set: &Value) -> i64 {
    set["spec"]["replicas"].as_i64().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::core::object::ObjectRef;
    use crate::core::plan::rehearsal::{Verb, Write};

    #[rstest]
    #[case::fewer(3, 1, "Delete", true)]
    #[case::none(1, 0, "Delete", true)]
    #[case::more(1, 3, "Delete", false)]
    #[case::kept(3, 1, "Retain", false)]
    fn replicas_that_take_their_claims_with_them_are_refused(
        #[case] had: i64,
        #[case] has: i64,
        #[case] policy: &str,
        #[case] refused: bool,
    ) {
        let set = |replicas| {
            Some(
                json!({"spec": {"replicas": replicas, "persistentVolumeClaimRetentionPolicy": {"whenScaled": policy}}}),
            )
        };
        let object = ObjectRef {
            api_version: "apps/v1".into(),
            kind: "StatefulSet".into(),
            namespace: None,
            name: "database".into(),
        };
        let write = Write { verb: Verb::Update, object, before: set(had), after: set(has) };
        let problem = shrunk(&Rehearsal { writes: vec![write], ..Rehearsal::default() });
        assert_eq!(problem.is_some(), refused);
        assert!(problem.is_none_or(|problem| problem.class == FailureClass::DataAtRisk));
    }
}
