//! The API `coderupgrade.dev/v1alpha1`: what people declare and what the operator answers.
//!
//! This module knows nothing of the rest of the program. Everything else may use it.

mod blocked;
mod chart;
mod checks;
mod conditions;
mod crd;
mod drift;
mod failure;
mod forecast;
mod gates;
mod inline;
mod names;
mod recovery;
mod renamed;
mod spec;
mod status;
mod step;

pub use blocked::{Blocked, BlockedReason};
pub use chart::{ArchiveCredentials, ChartArchive, ChartSource, DataRef, NameRef, ReferenceKind, ValuesRef};
pub use checks::{CheckName, Finding, Severity};
pub use conditions::{ConditionType, Reason, Statement, set_condition};
pub use crd::crd;
pub use drift::DriftRepeat;
pub use failure::{FailureClass, Treatment};
pub use forecast::{Forecast, Interruption, InterruptionLength, ObjectCounts, PlannedRepair, WorkloadMark};
pub use gates::{ApprovalMode, Backup, BackupRecord, Day, PathPolicy, Quiesce, ScaledDown, Strategy, Window};
pub use inline::unread;
pub use names::{API_GROUP, FINALIZER, annotation, label};
pub use recovery::{AddressChange, Approvable, Approval, Recovery, Remedy, Repair, WaitingFor};
pub use spec::{CoderUpgrade, CoderUpgradeSpec, HelmSettings, JobSettings, RetrySettings, VerifySettings};
pub use status::{
    ClaimStatus, CoderUpgradeStatus, Exposure, Failure, HistoryEntry, Installed, Phase, PlanSummary, ProductLine,
    Target,
};
pub use step::{PlannedAction, Step, StepName, StepState};
