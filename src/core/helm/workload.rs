//! A workload of a manifest: what has pods and is rolled out.

use serde::{Deserialize, Serialize};

/// A Deployment, `StatefulSet` or `DaemonSet` of the chart, in the namespace of the release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Kind of the object.
    pub kind: WorkloadKind,
    /// Name of the object.
    pub name: String,
    /// Selector of its pods, as the API server takes it in a query.
    pub selector: String,
}

/// The kinds of workloads whose pods are watched.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, strum::Display, strum::EnumString,
)]
pub enum WorkloadKind {
    /// A Deployment.
    Deployment,
    /// A `StatefulSet`.
    StatefulSet,
    /// A `DaemonSet`.
    DaemonSet,
}
