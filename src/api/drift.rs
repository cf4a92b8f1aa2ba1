//! Changes from outside that come back.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often a workload was changed from outside, since the last day without such a change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftRepeat {
    /// The workload, as Kind/name.
    pub object: String,
    /// How often.
    pub times: i32,
    /// When the first of these changes was noticed.
    pub first: Time,
    /// When the last one was noticed.
    pub last: Time,
    /// The program that made the last one, as it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
}
