//! The `CustomResourceDefinition`, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;
use serde_json::json;

use super::CoderUpgrade;

/// The definition as it is applied to a cluster and kept in `crds/`.
///
/// It differs from what the derive makes in one point: a new object gets `status.observedGeneration: -1` from the API
/// server, so that a tool that only compares generations does not take an object for ready that nobody has looked at.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = CoderUpgrade::crd();
    for version in &mut crd.spec.versions {
        let status = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
            .and_then(|root| root.properties.as_mut())
            .and_then(|properties| properties.get_mut("status"));
        if let Some(status) = status {
            status.default = Some(JSON(json!({ "observedGeneration": -1 })));
        }
    }
    crd
}
