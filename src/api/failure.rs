//! The classes of failures, and in one place what follows from each: whether time cures it, what the operator can do, and
//! what a person can do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Remedy;

/// The class of a failure. [`FailureClass::treatment`] says what follows from it.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Deserialize,
    Serialize,
    JsonSchema,
    strum::Display,
    strum::IntoStaticStr,
    strum::EnumIter,
    strum::EnumMessage,
)]
pub enum FailureClass {
    /// The repository has no such version of the chart.
    VersionNotFound,
    /// The repository does not answer, or not with an index.
    RepositoryUnreachable,
    /// The repository refuses the credentials.
    RepositoryUnauthorized,
    /// What was fetched is not a usable chart, or not the one that was asked for.
    ChartInvalid,
    /// An object that the spec refers to does not exist.
    ReferenceMissing,
    /// Values are no YAML map, or the chart's schema refuses them.
    ValuesInvalid,
    /// The chart cannot be rendered with these values.
    RenderFailed,
    /// The API server takes a rendered object for invalid.
    ObjectInvalid,
    /// The chart does not support this version of Kubernetes.
    Incompatible,
    /// The chart needs a `CustomResourceDefinition` that the cluster does not have.
    DefinitionMissing,
    /// The chart is of the other product line: Coder Classic and Coder v2 share a chart name, not their data.
    ProductLineChanged,
    /// The wanted version is older than the installed one, and Coder has no way back.
    Downgrade,
    /// helm's record of the release does not fit into a Secret, or the plan not into eight; or an index, a chart, values or a
    /// record take more memory or time than anything of Coder needs.
    TooLarge,
    /// A field of the spec cannot be used as it is.
    SpecInvalid,
    /// The spec names, or the repository leads to, what the flags of the controller do not allow.
    NotAllowed,
    /// The chart that was fetched is not the one that spec.chart.digest names.
    DigestMismatch,
    /// A check refuses the plan; status.checks names it and what to do.
    CheckRefused,
    /// Another program manages the release.
    ManagedElsewhere,
    /// The backup that spec.backup asks for failed, or cannot be made.
    BackupFailed,
    /// Workspace builds did not end in time.
    BuildsRunning,

    /// A field that cannot be changed would change: the object must be recreated.
    Immutable,
    /// The change would need an object to be replaced that is data, or may own it: a volume, or an object of a kind that is not
    /// known to hold none. Such objects are never replaced.
    ImmutableData,
    /// Objects of the chart exist already and do not belong to any Helm release.
    OwnershipMissing,
    /// An object of the chart belongs to another Helm release, or to another tool.
    OwnedByOther,
    /// Another program manages a field that the chart sets (server-side apply).
    FieldConflict,
    /// The stored manifest of the release names APIs that this cluster does not serve any more.
    ApiRemoved,

    /// Another helm process works on the release, or one was killed and left its lock.
    ReleaseLocked,
    /// Helm's records of the release are in a state from which helm can neither upgrade nor install.
    HistoryBroken,
    /// helm tried to roll back and failed: the objects are of two versions.
    RollbackFailed,
    /// helm could not delete objects of the release.
    UninstallFailed,
    /// The release is not there.
    ReleaseMissing,
    /// The release is not what the plan was made for any more.
    PlanOutdated,
    /// The Secret with the plan of the change under way is gone.
    PlanMissing,

    /// The runner was told to stop, or its helm process was killed.
    Interrupted,
    /// The memory of the runner's container ran out, and helm or the runner was killed.
    OutOfMemory,
    /// The runner lacks a right.
    Forbidden,
    /// A `ResourceQuota` or a `LimitRange` leaves no room.
    QuotaExceeded,
    /// An admission policy or webhook refuses an object.
    PolicyDenied,
    /// An admission webhook does not answer.
    WebhookUnavailable,
    /// Another Service has the node port that the chart asks for.
    PortTaken,
    /// Another object has the IP address that the chart asks for.
    AddressTaken,
    /// An object of that name is still being deleted.
    StillDeleting,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// Somebody else changed an object at the same moment.
    Conflict,
    /// The API server could not be reached.
    ApiUnavailable,

    /// A hook of the chart failed.
    HookFailed,
    /// helm's objects did not become ready in time.
    RolloutTimedOut,
    /// An object that runs no pods did not become ready in time: a custom resource, or a `PersistentVolumeClaim`.
    ObjectNotReady,
    /// The database has a schema that this version of Coder does not know: a newer version has migrated it.
    SchemaTooNew,
    /// The database is that of the other product line.
    WrongDatabase,
    /// A migration of the database was left half done, or was not made at all.
    DatabaseNotMigrated,
    /// A migration of the database failed with an error of SQL, and would fail again.
    MigrationFailed,
    /// Locks of somebody else, or a time limit, kept the database from being migrated.
    MigrationBlocked,
    /// The database does not answer the new version of Coder, or broke off.
    DatabaseUnreachable,
    /// The database does not let the new version of Coder in, or is too old for it.
    DatabaseRefused,
    /// A liveness probe killed Coder in the middle of a migration.
    MigrationKilled,
    /// The upgrade went through, yet what runs is not what was wanted.
    VerificationFailed,
    /// A `PersistentVolumeClaim` is gone, is being deleted, or is another one than before; or Coder works on another
    /// database.
    DataMissing,
    /// An object that may hold data, or own it, would be deleted, or a `PersistentVolumeClaim` together with its owner.
    DataAtRisk,
    /// Steps kept ending without a word.
    RetriesExhausted,
    /// No rule knows the text; it is reported as it is.
    Unknown,
}

/// What follows from a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Treatment {
    /// Whether time alone can cure it, so that the operator tries again by itself.
    pub retryable: bool,
    /// What the operator can do about it, if anything; whether it may is `spec.recovery`.
    pub remedy: Option<Remedy>,
    /// What a person can do about it, as a sentence.
    pub next_step: &'static str,
}

/// Time cures it, perhaps with a person's help meanwhile.
const fn time(next_step: &'static str) -> Treatment {
    Treatment { retryable: true, remedy: None, next_step }
}

/// The operator can cure it.
const fn cured(remedy: Remedy, next_step: &'static str) -> Treatment {
    Treatment { retryable: false, remedy: Some(remedy), next_step }
}

/// Only a person can cure it.
const fn person(next_step: &'static str) -> Treatment {
    Treatment { retryable: false, remedy: None, next_step }
}

impl FailureClass {
    /// What follows from this class: the one place for it.
    #[must_use]
    #[allow(clippy::too_many_lines)] // a table
    pub const fn treatment(self) -> Treatment {
        match self {
            Self::VersionNotFound => time(
                "Correct spec.version, or wait: the repository is asked again with growing delays, in case the version was only just published.",
            ),
            Self::RepositoryUnreachable => time(
                "Check spec.chart.repository and whether pods of this namespace can reach it; a proxy and the authority of one that intercepts TLS are flags of the controller (--runner-https-proxy, --runner-ca-file). It is tried again with growing delays.",
            ),
            Self::RepositoryUnauthorized => time(
                "Correct the Secret that the field of the failure names: spec.chart.credentialsSecretRef for the repository, spec.chart.archiveCredentials for packages at another address; it is read again at the next try.",
            ),
            Self::ChartInvalid => {
                person("Check spec.chart: the name, the version and the archive must belong to one Coder chart.")
            }
            Self::ReferenceMissing => {
                time("Create the object, or correct its name in the spec; it is looked for again with growing delays.")
            }
            Self::ValuesInvalid => {
                person("Correct the values in spec.values or in the object named in spec.valuesFrom.")
            }
            Self::RenderFailed => {
                person("Correct the values that the message names, then apply the CoderUpgrade again.")
            }
            Self::ObjectInvalid => person(
                "Correct the values that lead to the field that the message names, then apply the CoderUpgrade again.",
            ),
            Self::Incompatible => {
                person("Choose a version of Coder that supports this cluster, or upgrade Kubernetes first.")
            }
            Self::DefinitionMissing => person(
                "Install the CustomResourceDefinition of the kind that the message names, or switch that part of the chart off; then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::ProductLineChanged => person(
                "Choose a chart of the installed product line. Coder Classic cannot be upgraded to Coder v2 in place: v2 needs a deployment and a database of its own.",
            ),
            Self::Downgrade => person(
                "Choose a version that is not older than the installed one. Going back needs a restored database and is done by hand.",
            ),
            Self::TooLarge => person(
                "Make what the message names smaller, or name another one: helm's record of the release must fit into one Secret of 1 MiB, and chart, values and the saved release into eight; then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::SpecInvalid => {
                person("Correct the field that status.failure.field names, then apply the CoderUpgrade again.")
            }
            Self::NotAllowed => person(
                "Name what the controller allows, or ask whoever runs the controller to allow more (docs/security.md); it goes on by itself then.",
            ),
            Self::DigestMismatch => person(
                "Find out why the package differs before you trust it: it may have been replaced in the repository. Then correct spec.chart.digest or the repository.",
            ),
            Self::CheckRefused => person(
                "Do what status.checks says for each refusal, or name the check in spec.overrides if you know better.",
            ),
            Self::ManagedElsewhere => person(
                "Let one program manage the release: suspend or remove the other one, or delete this CoderUpgrade.",
            ),
            Self::BackupFailed => person(
                "Look at the backup's Job or VolumeSnapshot that the message names, correct the cause, then set the annotation coderupgrade.dev/requested-at to a new value. Nothing was changed.",
            ),
            Self::BuildsRunning => time(
                "Wait for the workspace builds or cancel them; it is tried again with growing delays. spec.quiesce.timeout says how long each try waits.",
            ),

            Self::Immutable => cured(
                Remedy::Replace,
                "Allow the repair: set spec.recovery to Repair, or approve it as status.approval says.",
            ),
            Self::ImmutableData => person(
                "Set the field that the message names back in the values to what the object has (for a PersistentVolumeClaim its size, storage class or access mode), then apply the CoderUpgrade again. To change it all the same, back up the data, replace the object by hand, and restore the data.",
            ),
            Self::OwnershipMissing => cured(
                Remedy::Adopt,
                "Allow the repair: set spec.recovery to Repair, or approve it as status.approval says.",
            ),
            Self::OwnedByOther => person(
                "Decide which of the two shall own the object that the message names: uninstall the other release, or change the name of the object in the values of one of them; then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::FieldConflict => person(
                "Let both agree on the field that the message names: set it in spec.values to what the object has (kubectl get KIND NAME -o yaml), or change the object back to what the chart sets (kubectl edit KIND NAME), and stop the program that changes it; then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::ApiRemoved => cured(
                Remedy::RewriteApis,
                "Allow the repair: set spec.recovery to Repair, or approve it as status.approval says.",
            ),

            Self::ReleaseLocked => time(
                "Find out whether a helm process still works on the release: ask who upgrades it, look at CI jobs, and at who wrote the object that the message names and when (kubectl get --show-managed-fields -o yaml). If one does, wait: it is tried again with growing delays. If none does, approve the repair of the plan (annotation coderupgrade.dev/approve: PLAN/repair, with the id in status.plan), or run helm rollback to the last deployed revision.",
            ),
            Self::HistoryBroken | Self::RollbackFailed => cured(
                Remedy::Reinstall,
                "Allow the reinstall: set spec.recovery to Reinstall, or approve it as status.approval says.",
            ),
            Self::UninstallFailed => time(
                "Remove what keeps the object that the message names from being deleted; it is tried again with growing delays.",
            ),
            Self::ReleaseMissing => person(
                "Find out who removed the release. To have it back with its values, restore helm's records (the Secrets of type helm.sh/release.v1) from a backup, or give all values in the spec; the Secret of the last plan, if it is still there, has them under the key values.json. Then set the annotation coderupgrade.dev/requested-at to a new value. If helm keeps its records elsewhere, or Coder was applied without helm, docs/adoption.md tells how they are moved, or Coder is taken over (spec.adopt). To install it with the values of the spec alone, add ReleaseRecords to spec.overrides.",
            ),
            Self::PlanOutdated => time("No action needed: the operator plans again for the release as it is now."),
            Self::PlanMissing => time(
                "Find out what deletes Secrets in this namespace (kubectl get events, an audit log) and exclude those of type coderupgrade.dev/plan. The operator plans again from helm's records, which hold the chart and the values, and then continues.",
            ),

            Self::Interrupted => time("No action needed: the operator retries the step."),
            Self::OutOfMemory => time(
                "Raise spec.job.resources.limits.memory, or the LimitRange of the namespace that sets it; it is tried again with growing delays.",
            ),
            Self::Forbidden => person(
                "Grant the right to the runner's ServiceAccount: the message ends with the command for it. Then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::QuotaExceeded => person(
                "Raise the quota, or lower the requests in the values; then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::PolicyDenied => person(
                "Change the values so that the policy accepts the object, or have the policy changed; then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::WebhookUnavailable => {
                time("Look at the admission webhook that the message names; it is tried again with growing delays.")
            }
            Self::PortTaken => time(
                "Drop the node port from the values, or free it at the other Service; it is tried again with growing delays.",
            ),
            Self::AddressTaken => time(
                "Drop the IP address from the values, or free it at the other object; it is tried again with growing delays.",
            ),
            Self::StillDeleting => time(
                "Find out what the object that the message names waits for (its finalizers); it is tried again with growing delays.",
            ),
            Self::NamespaceTerminating => {
                person("The namespace is being deleted, with everything in it. If the data matters, save it now.")
            }
            Self::Conflict => time("No action needed: the operator retries."),
            Self::ApiUnavailable => time("Check the API server; it is tried again with growing delays."),

            Self::HookFailed => person(
                "Read the log of the hook's pod, correct the cause, then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::RolloutTimedOut => person(
                "Look at the pods that the message names. If they only need more time, raise spec.helm.timeout; otherwise correct the cause and set the annotation coderupgrade.dev/requested-at.",
            ),
            Self::ObjectNotReady => person(
                "Look at the object that the message names, and at the program that makes objects of its kind ready (kubectl describe KIND NAME): more time does not help if that program is missing or refuses. Make the object ready or take it out of the values; then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::SchemaTooNew => person(
                "Choose the version that migrated the database, or a newer one. To go back, restore the database from a backup by hand.",
            ),
            Self::WrongDatabase => person(
                "Correct the values that say where Coder's database is: Coder Classic and Coder v2 cannot share one.",
            ),
            Self::DatabaseNotMigrated => person(
                "Find out from the log of the pod which migration failed. Restore the database from the backup that was made before the change, or have Coder's support repair it; then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::MigrationFailed => person(
                "Nothing of the migration was kept: the database has its old schema, and servers of the old version go on. Find out what in the database the SQL error in the message is about (Coder's release notes and support know the usual causes) and correct it there; then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::MigrationBlocked => time(
                "End what else works on the database, or set spec.strategy to Recreate, so that no server of the old version does. If lock_timeout or statement_timeout is set for Coder's user in PostgreSQL, raise it. It is tried again with growing delays.",
            ),
            Self::DatabaseUnreachable => time(
                "Check that the database runs, and that pods of this namespace reach it under the name in CODER_PG_CONNECTION_URL (Service, DNS, network policies); it is tried again with growing delays.",
            ),
            Self::DatabaseRefused => person(
                "Correct what the message names: user, password or name of the database in CODER_PG_CONNECTION_URL (mostly in a Secret that the values refer to), the rights of that user in the database, or the version of PostgreSQL; then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::MigrationKilled => person(
                "Switch the liveness probe off or give it more time in the values (coder.livenessProbe.enabled: false or a larger coder.livenessProbe.initialDelaySeconds for Coder v2, coderd.livenessProbe.initialDelaySeconds for Coder Classic), then apply the CoderUpgrade again.",
            ),
            Self::VerificationFailed => person(
                "Look at the pods that the message names, correct the cause, then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::DataMissing => person(
                "Stop and look at the data before anything else. If a PersistentVolumeClaim is really gone, restore its volume from a backup; if Coder works on another database, correct the values that say where its database is.",
            ),
            Self::DataAtRisk => person(
                "Do what the message says: have the object kept (kubectl annotate KIND NAME helm.sh/resource-policy=keep), set persistentVolumeClaimRetentionPolicy of the StatefulSet to Retain, remove the owner from the PersistentVolumeClaim, or grant the right to read it; then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::RetriesExhausted => person(
                "Look at the nodes and at the runner's pod (kubectl describe job); then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
            Self::Unknown => person(
                "Read the message and the excerpt, correct the cause, then set the annotation coderupgrade.dev/requested-at to a new value.",
            ),
        }
    }

    /// Whether time alone can cure it.
    #[must_use]
    pub const fn retryable(self) -> bool {
        self.treatment().retryable
    }

    /// What a person can do about it, as a sentence.
    #[must_use]
    pub const fn next_step(self) -> &'static str {
        self.treatment().next_step
    }

    /// The field of a `CoderUpgrade` that cures it, for a class of which it is always the same one.
    #[must_use]
    pub const fn field(self) -> Option<&'static str> {
        match self {
            Self::OutOfMemory => Some("spec.job.resources"),
            _ => None,
        }
    }
}
