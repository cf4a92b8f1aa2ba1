//! What a post-renderer of helm has patched: the upgrade runs helm without one.

use serde_json::{Map, Value};

use super::{Facts, Foreseen, manager};
use crate::api::{CheckName, Finding, Remedy};
use crate::core::helm::documents::Documents;
use crate::core::plan::difference::{ChangeKind, Patch, Rendered, patches};

/// Most objects that a message names.
const OBJECTS: usize = 5;
/// Most fields of each of them.
const FIELDS: usize = 3;

/// [`CheckName::PostRenderer`]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let Some(rendered) = &foreseen.rendered else { return Vec::new() };
    let mut found = patched(rendered, (&facts.old, &facts.kept), (&foreseen.new, &foreseen.values));
    // The upgrade only forgets what no cluster can hold any more.
    let repairs = &foreseen.rehearsal.repairs;
    let forgotten = |patch: &Patch| {
        repairs.iter().any(|repair| repair.remedy == Remedy::RewriteApis && patch.object.is(&repair.object))
    };
    found.retain(|patch| patch.kind != ChangeKind::Added || !forgotten(patch));
    found.sort_by_key(|patch| patch.kind == ChangeKind::Changed);
    let Some(first) = found.first() else { return Vec::new() };
    let named = found.iter().take(OBJECTS).map(named).collect::<Vec<_>>().join("; ");
    let more = match found.len().saturating_sub(OBJECTS) {
        0 => String::new(),
        more => format!("; and {more} more objects"),
    };
    let message = format!(
        "the installed release is not what its chart gives with its values: {named}{more}. helm was run with a post-renderer, or its \
         record was changed; the upgrade runs helm without a post-renderer and would undo this"
    );
    let next = "Have the chart give the same, by one of its values in spec.values or by a chart of your own: this check then passes. \
                To let the patches go, add PostRenderer to spec.overrides.";
    let finding = Finding::refusal(CheckName::PostRenderer, message, next).about(&first.object);
    vec![Finding { field: first.fields.first().cloned(), ..finding }]
}

/// What was patched of the installed manifest and is not in the new one; each side with the values that it is made of.
pub fn patched(
    rendered: &Rendered,
    old: (&Documents, &Map<String, Value>),
    new: (&Documents, &Map<String, Value>),
) -> Vec<Patch> {
    patches(rendered, old, new, manager::is_mark)
}

fn named(patch: &Patch) -> String {
    let Patch { object, kind, fields } = patch;
    let more = match fields.len().saturating_sub(FIELDS) {
        0 => String::new(),
        more => format!(" and {more} more fields"),
    };
    match kind {
        ChangeKind::Removed => format!("{object} is left out"),
        ChangeKind::Changed => {
            format!("{object} has another {}{more}", fields.iter().take(FIELDS).cloned().collect::<Vec<_>>().join(", "))
        }
        _ => format!("{object} is added"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Severity;
    use crate::core::plan::checks::sample;

    #[test]
    fn what_would_be_undone_is_named() {
        let deployment = |name: &str, spec: &Value| {
            let mut object = sample::deployment(name, &json!({"name": "coder"}));
            object["spec"]["template"]["spec"]["priorityClassName"] = spec.clone();
            object
        };
        let names: Vec<String> = (0..8).map(|n| format!("d{n}")).collect();
        let all = |class: &Value| -> Vec<Value> { names.iter().map(|name| deployment(name, class)).collect() };
        let plain = sample::documents(&all(&Value::Null));
        let mut facts = sample::facts("2.30.0", "2.31.7");
        facts.old = sample::documents(&all(&json!("high")));
        let rendered = Rendered { chart: "coder".into(), one: plain.clone(), other: plain.clone(), unsteady: false };
        let mut foreseen = Foreseen { new: plain, rendered: Some(rendered), ..sample::foreseen() };
        let found = check(&facts, &foreseen);
        assert_eq!(
            (found.len(), found[0].severity, found[0].object.as_deref()),
            (1, Severity::Refusal, Some("Deployment/d0"))
        );
        assert_eq!(found[0].field.as_deref(), Some("spec.template.spec.priorityClassName"));
        let words = "Deployment/d4 has another spec.template.spec.priorityClassName; and 3 more objects.";
        assert!(found[0].message.contains(words), "{}", found[0].message);
        let mut more = all(&json!("high"));
        more.push(deployment("added", &Value::Null));
        let old = std::mem::replace(&mut facts.old, sample::documents(&more));
        assert!(
            check(&facts, &foreseen)[0].message.contains("its values: Deployment/added is added; Deployment/d0 has"),
            "the most first"
        );
        facts.old = old;
        foreseen.new = facts.old.clone();
        assert_eq!(check(&facts, &foreseen), [], "the new chart gives the same");
        foreseen.rendered = None;
        assert_eq!(check(&facts, &foreseen), []);
    }

    #[test]
    fn what_flux_writes_on_each_object_is_no_patch_of_the_chart() {
        assert!(manager::is_mark("helm.toolkit.fluxcd.io/namespace") && manager::is_mark("fleet.cattle.io/bundle-id"));
        assert!(!manager::is_mark("team") && !manager::is_mark("app.kubernetes.io/name"));
    }
}
