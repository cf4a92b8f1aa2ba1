//! The labels of the metrics. Each has few values: closed lists, and objects of one release.

use prometheus_client::encoding::EncodeLabelSet;

/// A `CoderUpgrade`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfUpgrade {
    pub namespace: String,
    pub name: String,
}

/// A `CoderUpgrade` and the versions of its release.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfVersions {
    pub namespace: String,
    pub name: String,
    pub release: String,
    pub installed: String,
    pub target: String,
}

/// A `CoderUpgrade` in a phase.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfPhase {
    pub namespace: String,
    pub name: String,
    pub phase: String,
}

/// A `CoderUpgrade` and a condition of it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfCondition {
    pub namespace: String,
    pub name: String,
    pub condition: String,
}

/// A `CoderUpgrade` and a step of its attempt.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfStep {
    pub namespace: String,
    pub name: String,
    pub step: String,
}

/// A `CoderUpgrade` and the class of its failure.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfClass {
    pub namespace: String,
    pub name: String,
    pub class: String,
}

/// A `CoderUpgrade` and an object of its release.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfObject {
    pub namespace: String,
    pub name: String,
    pub object: String,
}

/// A `CoderUpgrade` and a claim of its release.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfClaim {
    pub namespace: String,
    pub name: String,
    pub claim: String,
    pub phase: String,
    pub reclaim_policy: String,
}

/// Running Jobs of a step.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfRunning {
    pub step: &'static str,
}

/// Jobs that wait for their turn: for a plan, or for the change that is planned.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfQueued {
    pub purpose: &'static str,
}

/// A build of the operator.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfBuild {
    pub version: &'static str,
}

/// Passes that were not finished, by what kept them from it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfError {
    pub reason: &'static str,
}

/// Requests to the API server.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OfRequest {
    pub verb: &'static str,
    pub resource: &'static str,
    pub code: &'static str,
}
