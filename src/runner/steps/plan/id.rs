//! The id of a plan: a digest of everything that decides the outcome.

use serde_json::{Value, json};

use crate::core::plan::Plan;
use crate::core::text::digest::short_hash;

/// Length of an id: 48 bits, so that two plans of one release do not meet by chance. It is part of names and a label.
const LENGTH: usize = 12;

/// The id of a plan for a release in a namespace, with these values.
pub fn of(namespace: &str, plan: &Plan, values: &Value) -> String {
    let from = plan.from.as_ref().map(|from| json!([from.revision, from.version, from.status]));
    let repairs = plan.forecast.repairs.iter().map(|repair| [repair.remedy.to_string(), repair.object.clone()]);
    let repairs: Vec<_> = repairs.collect();
    let decides = json!([
        namespace,
        plan.release,
        from,
        plan.chart_digest,
        sorted(values),
        plan.rollback_on_failure,
        plan.action.to_string(),
        repairs,
        plan.replaced,
        plan.forecast.hops,
        plan.pause,
    ]);
    short_hash(&[&decides.to_string()], LENGTH)
}

/// Maps as lists of pairs in the order of their keys: the digest must not depend on how JSON maps are kept.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<(&String, Value)> = map.iter().map(|(key, value)| (key, sorted(value))).collect();
            pairs.sort_by_key(|(key, _)| *key);
            json!({ "map": pairs })
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Forecast, PlannedAction, Strategy};
    use crate::core::plan::{Pause, sample as plan};

    #[test]
    fn whatever_decides_the_outcome_changes_the_id() {
        let values = json!({"a": 1});
        let id = of("ns", &plan(), &values);
        assert_eq!((id.len(), &id), (12, &of("ns", &plan(), &values)));
        let others = [
            of("other", &plan(), &values),
            of("ns", &plan(), &json!({"a": 2})),
            of("ns", &Plan { rollback_on_failure: true, ..plan() }, &values),
            of("ns", &Plan { chart_digest: "abd".into(), ..plan() }, &values),
            of("ns", &Plan { replaced: [("Deployment/coder".into(), "uid".into())].into(), ..plan() }, &values),
            of("ns", &Plan { action: PlannedAction::Install, ..plan() }, &values),
            of(
                "ns",
                &Plan { forecast: Forecast { hops: vec!["2.32.0".into()], ..Forecast::default() }, ..plan() },
                &values,
            ),
            of("ns", &Plan { pause: Pause { strategy: Strategy::Recreate, ..Pause::default() }, ..plan() }, &values),
        ];
        assert!(others.iter().all(|other| *other != id));
    }
}
