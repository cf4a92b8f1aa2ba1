//! The `CustomResourceDefinition`, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::{CoderUpgrade, renamed};

/// The definition as it is applied to a cluster and kept in `crds/`.
///
/// It differs from what the derive makes in three points. A new object gets `status.observedGeneration: -1` from the API
/// server, so that a tool that only compares generations does not take an object for ready that nobody has looked at.
/// Fields that had another name before are refused with the new one. And descriptions are one line, as `kubectl explain` wants them: it breaks lines itself.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = CoderUpgrade::crd();
    let schemas =
        crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for root in schemas {
        unfold(root);
        if let Some(spec) = root.properties.as_mut().and_then(|properties| properties.get_mut("spec")) {
            renamed::refuse(spec);
        }
        if let Some(status) = root.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
            status.default = Some(JSON(json!({ "observedGeneration": -1 })));
        }
    }
    crd
}

/// Makes each description one line.
fn unfold(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        unfold(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        unfold(items);
    }
}
