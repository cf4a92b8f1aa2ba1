//! What must be so before a change may begin, and how it begins: approval, window, dependencies, backup, strategy.

use std::{fmt, str::FromStr};

use kube::{KubeSchema, core::Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who lets a planned change begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema, strum::Display)]
pub enum ApprovalMode {
    /// Nobody: a plan that nothing refuses is carried out.
    #[default]
    Automatic,
    /// A person, who sets the annotation coderupgrade.dev/approve to the id of the plan.
    Manual,
}

/// By which versions a version is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema, strum::Display)]
pub enum PathPolicy {
    /// Hop by hop after the path rules: Coder Classic one minor version at a time, Coder v2 past known bad hops.
    #[default]
    Safe,
    /// In one hop, whatever lies between: for people who know why.
    Direct,
}

/// Whether the old and the new version may run side by side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema, strum::Display)]
pub enum Strategy {
    /// As the chart's Deployments have it: new pods start before the old ones end.
    #[default]
    RollingUpdate,
    /// Coder's Deployments are scaled to zero and their pods waited for before helm runs; the number of replicas is
    /// restored on every way out. What the chart sets wins over what was there before; where it sets none, whatever is set
    /// by hand meanwhile is overwritten. A `HorizontalPodAutoscaler` pauses by itself while there are none.
    Recreate,
}

/// A day of the week.
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
    strum::EnumIter,
)]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// When a change may begin. One that has begun is finished, even after the window.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.start != self.end")
    .message("window.start and window.end must differ: a window needs a length; from 00:00 to 24:00 is a whole day")
    .field_path(".end"))]
pub struct Window {
    /// Days on which the window opens. Every day when it is left out.
    #[serde(default = "every_day")]
    #[schemars(length(min = 1, max = 7))]
    pub days: Vec<Day>,

    /// Time of day at which it opens, for example 22:00.
    #[schemars(regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub start: String,

    /// Time of day at which it closes, for example 04:00. At or before the start means: on the following day.
    #[schemars(regex(pattern = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"))]
    pub end: String,

    /// Time zone by its name in the tz database, for example Europe/Berlin. Daylight saving time is heeded.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
}

/// What must have succeeded before a change begins.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.cronJob) != has(self.volumeSnapshotClass)")
    .message("backup needs exactly one of cronJob and volumeSnapshotClass"))]
#[x_kube(validation = Rule::new("duration(self.timeout) >= duration('10s') && duration(self.timeout) <= duration('24h')")
    .message("backup.timeout must be between 10s and 24h, for example 1h")
    .field_path(".timeout"))]
#[x_kube(validation = Rule::new("!has(self.maxAge) || duration(self.maxAge) > duration('0s')")
    .message("backup.maxAge must be longer than 0s, for example 12h; leave it out to back up before every change")
    .field_path(".maxAge"))]
pub struct Backup {
    /// Name of a `CronJob` in this namespace, suspended or not: a Job is made from it, and must succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 52))]
    pub cron_job: Option<String>,

    /// Name of a `VolumeSnapshotClass`: a `VolumeSnapshot` of each `PersistentVolumeClaim` of the release is made, and must
    /// become ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub volume_snapshot_class: Option<String>,

    /// A backup that is not older counts as well, for example 12h: a Job of the `CronJob` that succeeded, or ready snapshots
    /// of all claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub max_age: Option<Duration>,

    /// How long a backup may take.
    #[serde(default = "default_backup_timeout")]
    #[schemars(length(max = 32))]
    pub timeout: Duration,
}

/// How running work of Coder is waited for before it is interrupted.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("duration(self.timeout) >= duration('0s') && duration(self.timeout) <= duration('24h')")
    .message("quiesce.timeout must be between 0s and 24h, for example 15m")
    .field_path(".timeout"))]
pub struct Quiesce {
    /// How long to wait until no workspace build is pending or running. It takes verify.tokenSecretKeyRef to ask. When builds
    /// still run then, nothing is changed, and it is tried again.
    #[serde(default = "default_quiesce_timeout")]
    #[schemars(length(max = 32))]
    pub timeout: Duration,
}

impl Default for Quiesce {
    fn default() -> Self {
        Self { timeout: default_quiesce_timeout() }
    }
}

/// A backup that counts for a plan.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupRecord {
    /// Id of the plan that it was made, or accepted, for.
    pub plan: String,
    /// The objects that hold or made it, as Kind/name.
    pub objects: Vec<String>,
    /// When it was finished.
    pub finished: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time,
    /// It was there before and is recent enough (backup.maxAge).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recent: bool,
    /// What is saved where, in a line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A workload that is scaled to zero for a change (strategy Recreate), and the number of replicas that is restored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaledDown {
    /// The workload, as Kind/name.
    pub object: String,
    /// Its replicas before.
    pub replicas: i32,
}

impl fmt::Display for ScaledDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.object, self.replicas)
    }
}

impl FromStr for ScaledDown {
    type Err = String;

    /// The form that [`fmt::Display`] writes: Kind/name=replicas.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=').and_then(|(object, replicas)| Some((object, replicas.parse().ok()?)));
        match parts {
            Some((object, replicas)) if object.contains('/') => Ok(Self { object: object.to_owned(), replicas }),
            _ => Err(format!("{text} is not of the form Kind/name=replicas, for example Deployment/coder=3")),
        }
    }
}

fn every_day() -> Vec<Day> {
    <Day as strum::IntoEnumIterator>::iter().collect()
}

fn utc() -> String {
    "UTC".into()
}

fn default_backup_timeout() -> Duration {
    std::time::Duration::from_secs(60 * 60).into()
}

fn default_quiesce_timeout() -> Duration {
    std::time::Duration::from_secs(15 * 60).into()
}
