//! What is checked before anything changes: a closed set of names, and what a check found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The checks of a plan, in the order in which they are made.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Deserialize,
    Serialize,
    JsonSchema,
    strum::Display,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::EnumIter,
    strum::EnumMessage,
)]
pub enum CheckName {
    /// The chart, the running image and what the servers answer belong to one product line.
    ProductLine,
    /// The wanted version is not older than what is installed or what runs.
    Downgrade,
    /// There is a supported way from the installed to the wanted version.
    VersionPath,
    /// The wanted version has no known fault that an upgrade to it would run into.
    FaultyVersion,
    /// The old and the new version may run side by side for a while.
    SchemaOverlap,
    /// No other program manages the release, such as Flux, Argo CD, Rancher Fleet or coder-k8s.
    ReleaseManager,
    /// A release that was seen, or whose objects are there, has records where helm looks for them.
    ReleaseRecords,
    /// The servers of Coder tell the runner who they are, by which the change is verified.
    ServerAnswers,
    /// The newest revision of the release is not left pending.
    ReleasePending,
    /// The chart supports this version of Kubernetes.
    KubeVersion,
    /// Every object of the installed and of the new manifest can be read.
    Manifest,
    /// The installed manifest has nothing that the chart and the values do not give, and that a post-renderer of helm has added.
    PostRenderer,
    /// No value pins an image to an old version, so that the upgrade would change nothing.
    ImagePin,
    /// No value has a key that the new chart does not know any more.
    RemovedValues,
    /// Coder goes on with the database that it has.
    DatabaseTarget,
    /// Coder v2 has a database outside of its pods.
    ExternalDatabase,
    /// No container names an environment variable twice, which helm cannot patch.
    DuplicateEnvironment,
    /// The API server accepts what helm would do (the rehearsal).
    Rehearsal,
    /// The runner has the rights that the upgrade and its repairs take.
    RunnerRights,
    /// The APIs that the stored and the new manifest name are served, and not deprecated.
    ApiVersions,
    /// The claims of the release are bound, and their volumes would survive them.
    ClaimHealth,
    /// No `PersistentVolumeClaim` is part of the release's manifest, where an uninstall would take it along.
    ClaimInManifest,
    /// No object that may hold data, or own it, would be deleted. This check cannot be overridden.
    DataOwners,
    /// No key that cannot be made again is lost by a reinstall (satellites of Coder Classic).
    SatelliteKey,
    /// The address is pinned, where a reinstall could change it.
    AddressPinned,
    /// Quotas and limit ranges leave room for the new pods.
    Quota,
    /// The new pods fit on a node.
    Schedulable,
    /// The number of replicas can work.
    ReplicaCount,
    /// No probe or deadline ends a migration before it is done.
    Probe,
    /// The rollout ends by itself: no update strategy holds pods back, and what helm waits for is not known to stay unready.
    Rollout,
    /// No autoscaler works against the strategy.
    Autoscaler,
    /// A backup is made before the database may be migrated.
    BackupConfigured,
    /// helm's timeout is long enough, and its rollback is not set to go back over a migrated database.
    HelmSettings,
    /// No null of spec.values, which takes a default away, was lost on the way to the API server.
    NullValues,
    /// Companions of Coder in the namespace, such as external provisioners, are not of another version.
    CompanionSkew,
}

/// How a finding weighs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema, strum::Display,
)]
pub enum Severity {
    /// Worth knowing; it keeps nothing from beginning.
    Warning,
    /// It would be a refusal, had spec.overrides not named the check.
    Overridden,
    /// Nothing begins.
    Refusal,
}

/// What a check found. A check that passed leaves none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The check.
    pub check: CheckName,
    /// How it weighs.
    pub severity: Severity,
    /// Object that it is about, as Kind/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Field that it is about: of the `CoderUpgrade` (spec.version), of the values (coder.image.tag) or of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What was found.
    pub message: String,
    /// What a person can do.
    pub next_step: String,
}

impl Finding {
    /// A finding that keeps the change from beginning.
    #[must_use]
    pub fn refusal(check: CheckName, message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self {
            check,
            severity: Severity::Refusal,
            object: None,
            field: None,
            message: message.into(),
            next_step: next_step.into(),
        }
    }

    /// A finding that is worth knowing.
    #[must_use]
    pub fn warning(check: CheckName, message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::refusal(check, message, next_step) }
    }

    /// The same, about an object (Kind/name).
    #[must_use]
    pub fn about(self, object: impl std::fmt::Display) -> Self {
        Self { object: Some(object.to_string()), ..self }
    }

    /// The same, about a field.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }
}
