//! `CoderUpgrade`: the declaration.
#![allow(clippy::duplicated_attributes)] // each printer column has a type; clippy takes them for one attribute
#![allow(clippy::struct_excessive_bools)] // each switch of the spec is a field of its own for people

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LocalObjectReference, ResourceRequirements, Toleration};
use kube::{CustomResource, KubeSchema, core::Duration};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    ApprovalMode, Backup, ChartSource, CheckName, CoderUpgradeStatus, DataRef, NameRef, PathPolicy, Quiesce, Recovery,
    Strategy, ValuesRef, Window,
};

/// What a person declares. Everything has a safe default, even the version.
#[derive(CustomResource, Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "coderupgrade.dev",
    version = "v1alpha1",
    kind = "CoderUpgrade",
    plural = "coderupgrades",
    shortname = "cu",
    category = "coder",
    namespaced,
    status = "CoderUpgradeStatus",
    derive = "PartialEq",
    cel,
    selectable = ".spec.release",
    doc = "The version at which a Coder deployment (a Helm release in the same namespace) shall run. The operator upgrades the release to it and verifies the result.",
    printcolumn(name = "Release", type_ = "string", json_path = ".spec.release", description = "Helm release"),
    printcolumn(
        name = "Current",
        type_ = "string",
        json_path = ".status.current.version",
        description = "Chart version that is installed"
    ),
    printcolumn(
        name = "Target",
        type_ = "string",
        json_path = ".status.target.version",
        description = "Chart version that is wanted"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the upgrade stands"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether Coder was verified at the wanted version"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        description = "The phase in one line"
    ),
    printcolumn(
        name = "Recovery",
        type_ = "string",
        json_path = ".spec.recovery",
        priority = 1,
        description = "How far a failed upgrade is repaired"
    ),
    printcolumn(
        name = "Plan",
        type_ = "string",
        json_path = ".status.plan.id",
        priority = 1,
        description = "Id of the plan"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        priority = 1,
        description = "Age of the object"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.release == oldSelf.release")
    .message("spec.release cannot be changed: delete this CoderUpgrade (the Helm release stays as it is) and create one for the other release")
    .field_path(".release"))]
#[x_kube(validation = Rule::new("!has(self.version) || self.version.matches('^v?[0-9]+[.][0-9]+[.][0-9]+(-[0-9A-Za-z.-]+)?([+][0-9A-Za-z.-]+)?$')")
    .message("spec.version must be one exact chart version, for example 2.31.7; leave it out for the newest stable version (ranges and words such as latest are not accepted)")
    .field_path(".version"))]
pub struct CoderUpgradeSpec {
    /// Exact version of the chart, for example 2.31.7. When it is left out, the newest stable version of the installed
    /// product line is looked up once for each change of the spec, or again when the annotation
    /// coderupgrade.dev/requested-at gets a new value. If the chart brings Coder along as a dependency, this is the version of
    /// that chart, and must be given; product line, path and verification go by the Coder in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub version: Option<String>,

    /// Name of the Helm release in this namespace. It cannot be changed.
    #[serde(default = "default_release")]
    #[schemars(
        length(min = 1, max = 53),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub release: String,

    /// Where the chart comes from.
    #[serde(default)]
    pub chart: ChartSource,

    /// Start from the values that the installed release was given, as helm does with --reset-then-reuse-values: the defaults
    /// are those of the new chart.
    #[serde(default = "default_true")]
    pub keep_values: bool,

    /// Dotted paths that are removed from the kept values, for example coder.image.tag when it pins an old version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub drop_values: Vec<String>,

    /// Dotted paths of which neither the chart's default nor a kept value is used, for example coder.replicaCount: what null
    /// is in a file of values. A null in spec.values does the same, but kubectl apply removes it before the API server sees it;
    /// only kubectl apply --server-side keeps it. What valuesFrom and values set at such a path wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub drop_defaults: Vec<String>,

    /// Files of values in Secrets and `ConfigMaps` of this namespace, the later ones win. They win over the kept values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub values_from: Vec<ValuesRef>,

    /// Values given here. They win over all others. Do not put credentials here: refer to a Secret in valuesFrom, also for
    /// more than 256 KiB of values.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::inline::read")]
    #[schemars(schema_with = "any_object")]
    pub values: Option<serde_json::Map<String, serde_json::Value>>,

    /// Take over objects of the chart that exist although helm has no record of the release: Coder that was applied without
    /// helm, or whose records are lost. It gets the values of the spec alone. Without this, or an override of the check
    /// `ReleaseRecords`, such an install is refused. It has no effect once helm has a record of the release.
    #[serde(default)]
    pub adopt: bool,

    /// How far the operator may go to repair a failed upgrade. Stop: it is reported only. Repair: objects are adopted, or
    /// only the refused object is replaced. Reinstall: as the last step, the release is uninstalled and installed again;
    /// values and PersistentVolumeClaims are kept. Where less is allowed than would help, the object waits for an approval
    /// of exactly that step (status.approval).
    #[serde(default)]
    pub recovery: Recovery,

    /// A reinstall keeps the Services and the Ingresses that the new chart still has, with their addresses, cluster IPs and
    /// node ports. False: they are removed, waited for and made again, as Coder's guide has it; all of these may change.
    #[serde(default = "default_true")]
    pub keep_addresses: bool,

    /// Begin nothing new. A change that has begun is finished.
    #[serde(default)]
    pub suspend: bool,

    /// Who lets a planned change begin. Manual: it waits until the annotation coderupgrade.dev/approve holds the id of the
    /// plan (status.plan.id). One approval holds for the whole path to the wanted version.
    #[serde(default)]
    pub approval: ApprovalMode,

    /// When a change may begin; at any time when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,

    /// `CoderUpgrades` in this namespace that must be Ready first, for example that of Coder itself before that of its
    /// provisioners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub depends_on: Vec<NameRef>,

    /// What must have been backed up before a change begins; nothing when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,

    /// Whether the old and the new version may run side by side.
    #[serde(default)]
    pub strategy: Strategy,

    /// Deployments of this namespace that work with Coder, for example coder-provisioner: with strategy Recreate they are
    /// scaled to zero before Coder, and back after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub companions: Vec<String>,

    /// How running workspace builds are waited for before a change.
    #[serde(default)]
    pub quiesce: Quiesce,

    /// By which versions the wanted one is reached.
    #[serde(default)]
    pub upgrade_path: PathPolicy,

    /// Names of checks whose refusal is overridden on purpose, each for itself. docs/checks.md says what each protects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub overrides: Vec<CheckName>,

    /// How helm is run.
    #[serde(default)]
    pub helm: HelmSettings,

    /// When an upgrade counts as a success.
    #[serde(default)]
    pub verify: VerifySettings,

    /// What happens after a failure that time can cure.
    #[serde(default)]
    pub retry: RetrySettings,

    /// The pod in which helm runs.
    #[serde(default)]
    pub job: JobSettings,

    /// Number of finished attempts that are kept in status.history; Jobs and plans are kept likewise.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 1, max = 50))]
    pub history_limit: i32,
}

impl CoderUpgradeSpec {
    /// Whether a first install may take over what exists.
    #[must_use]
    pub fn takes_over(&self) -> bool {
        self.adopt || self.overrides.contains(&CheckName::ReleaseRecords)
    }
}

impl Default for CoderUpgradeSpec {
    fn default() -> Self {
        Self {
            version: None,
            release: default_release(),
            chart: ChartSource::default(),
            keep_values: true,
            drop_values: Vec::new(),
            drop_defaults: Vec::new(),
            values_from: Vec::new(),
            values: None,
            adopt: false,
            recovery: Recovery::default(),
            keep_addresses: true,
            suspend: false,
            approval: ApprovalMode::default(),
            window: None,
            depends_on: Vec::new(),
            backup: None,
            strategy: Strategy::default(),
            companions: Vec::new(),
            quiesce: Quiesce::default(),
            upgrade_path: PathPolicy::default(),
            overrides: Vec::new(),
            helm: HelmSettings::default(),
            verify: VerifySettings::default(),
            retry: RetrySettings::default(),
            job: JobSettings::default(),
            history_limit: default_history_limit(),
        }
    }
}

impl CoderUpgradeSpec {
    /// The names of the `CoderUpgrades` that must be Ready first.
    #[must_use]
    pub fn dependencies(&self) -> Vec<String> {
        self.depends_on.iter().map(|dependency| dependency.name.clone()).collect()
    }
}

/// How helm is run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("duration(self.timeout) >= duration('10s') && duration(self.timeout) <= duration('24h')")
    .message("helm.timeout must be between 10s and 24h, for example 30m")
    .field_path(".timeout"))]
pub struct HelmSettings {
    /// How long helm waits for the objects of the release to become ready, as a duration such as 30m. A large migration
    /// of Coder's database takes minutes, so this is longer than helm's own five.
    #[serde(default = "default_helm_timeout")]
    #[schemars(length(max = 32))]
    pub timeout: Duration,

    /// Let helm roll back by itself when an upgrade fails (its atomic mode). helm does so even if the new version has
    /// migrated the database already, which the old version then refuses to work on; the operator puts the saved release
    /// back by itself where that is safe. So leave this off unless you know why.
    #[serde(default)]
    pub rollback_on_failure: bool,
}

impl Default for HelmSettings {
    fn default() -> Self {
        Self { timeout: default_helm_timeout(), rollback_on_failure: false }
    }
}

/// When an upgrade counts as a success.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("duration(self.timeout) >= duration('1s') && duration(self.timeout) <= duration('24h')")
    .message("verify.timeout must be between 1s and 24h, for example 10m")
    .field_path(".timeout"))]
#[x_kube(validation = Rule::new("duration(self.soak) >= duration('0s') && duration(self.soak) <= duration('24h')")
    .message("verify.soak must be between 0s and 24h, for example 30s")
    .field_path(".soak"))]
pub struct VerifySettings {
    /// How long to wait, after helm has ended, until every pod answers with the wanted version.
    #[serde(default = "default_verify_timeout")]
    #[schemars(length(max = 32))]
    pub timeout: Duration,

    /// How long everything must stay right before the upgrade counts as verified.
    #[serde(default = "default_soak")]
    #[schemars(length(max = 32))]
    pub soak: Duration,

    /// Secret of this namespace with the session token of an owner of Coder v2. With it, running workspace builds are waited
    /// for before a change (quiesce), and Coder's own health report must show no error after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_key_ref: Option<DataRef>,
}

impl Default for VerifySettings {
    fn default() -> Self {
        Self { timeout: default_verify_timeout(), soak: default_soak(), token_secret_key_ref: None }
    }
}

/// What happens after a failure that time can cure.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetrySettings {
    /// How often an upgrade is tried again when it was interrupted or when the cause of its failure may pass. Failures
    /// that changed nothing in the cluster are tried again without limit, with growing delays.
    #[serde(default = "default_retry_limit")]
    #[schemars(range(min = 0, max = 100))]
    pub limit: i32,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { limit: default_retry_limit() }
    }
}

/// The pod in which helm runs.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobSettings {
    /// `ServiceAccount` of the pod. It needs the rights to change what the chart contains. The controller must allow it
    /// (--allowed-service-accounts).
    #[serde(default = "default_service_account")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: String,

    /// Image with this program and helm. Default: the image of the controller. Another one must be allowed by the controller
    /// (--allowed-job-images), which allows none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,

    /// Secrets of this namespace with the credentials for that image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// Compute resources of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Labels that a node must have to run the pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,

    /// Taints that the pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,

    /// Labels added to the pod, for example for a network policy or a service mesh.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            service_account_name: default_service_account(),
            image: None,
            image_pull_secrets: Vec::new(),
            resources: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            labels: BTreeMap::new(),
        }
    }
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

fn default_release() -> String {
    "coder".into()
}

fn default_true() -> bool {
    true
}

fn default_history_limit() -> i32 {
    10
}

fn default_retry_limit() -> i32 {
    3
}

fn default_service_account() -> String {
    "coder-upgrade-runner".into()
}

fn default_helm_timeout() -> Duration {
    std::time::Duration::from_secs(30 * 60).into()
}

fn default_verify_timeout() -> Duration {
    std::time::Duration::from_secs(10 * 60).into()
}

fn default_soak() -> Duration {
    std::time::Duration::from_secs(30).into()
}
