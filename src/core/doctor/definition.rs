//! Whether the `CustomResourceDefinition` in the cluster is the one of this program.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::DoctorLine;
use crate::api::crd;

/// What is looked at.
const SUBJECT: &str = "definition";
/// Most fields that are named.
const NAMED: usize = 5;

/// What is wrong with the definition in the cluster; none if there is none.
#[must_use]
pub fn definition(found: Option<&CustomResourceDefinition>) -> DoctorLine {
    let Some(found) = found else {
        let remedy = "kubectl apply --server-side -k deploy/default";
        return DoctorLine::problem(SUBJECT, "the cluster does not know the kind CoderUpgrade", remedy);
    };
    let conditions = found.status.as_ref().and_then(|status| status.conditions.as_ref());
    if !conditions.into_iter().flatten().any(|c| c.type_ == "Established" && c.status == "True") {
        let remedy = "kubectl describe crd coderupgrades.coderupgrade.dev";
        return DoctorLine::problem(SUBJECT, "the API server does not serve it (condition Established)", remedy);
    }
    let (own, theirs) = (fields(&crd()), fields(found));
    let (missing, unknown) = (named(own.difference(&theirs)), named(theirs.difference(&own)));
    match (missing, unknown) {
        (Some(missing), _) => {
            let remedy = "coder-upgrade-operator crd | kubectl apply --server-side -f -";
            DoctorLine::problem(SUBJECT, format!("it is older than this program: it lacks {missing}"), remedy)
        }
        (None, Some(unknown)) => DoctorLine::problem(
            SUBJECT,
            format!("it is newer than this program, which does not know {unknown}"),
            "use the program of the controller's version",
        ),
        (None, None) => DoctorLine::ok(SUBJECT, "it is that of this program"),
    }
}

/// The first of these fields, and how many more there are.
fn named<'a>(fields: impl Iterator<Item = &'a String>) -> Option<String> {
    let all: Vec<&str> = fields.map(String::as_str).collect();
    let first = all.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match all.len() {
        0 => None,
        count if count > NAMED => Some(format!("{first} and {} more", count - NAMED)),
        _ => Some(first),
    }
}

/// The fields of spec and status, as paths.
fn fields(crd: &CustomResourceDefinition) -> BTreeSet<String> {
    let schemas = crd.spec.versions.iter().filter_map(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    let mut found = BTreeSet::new();
    for schema in schemas.filter_map(|schema| serde_json::to_value(schema).ok()) {
        for part in ["spec", "status"] {
            collect(part, &schema["properties"][part], &mut found);
        }
    }
    found
}

fn collect(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    let inner = if schema["items"].is_object() { &schema["items"] } else { schema };
    for (name, field) in inner["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        collect(&path, field, found);
        found.insert(path);
    }
}
