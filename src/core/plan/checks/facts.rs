//! Everything that a check may see.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{LimitRange, Node, ResourceQuota};
use kube::core::ObjectMeta;
use semver::Version;
use serde_json::{Map, Value};

use super::rights::Need;
use crate::api::{ClaimStatus, CoderUpgradeSpec, Exposure, Finding, Installed, ProductLine};
use crate::core::helm::chart::ChartMetadata;
use crate::core::helm::documents::Documents;
use crate::core::helm::version;
use crate::core::helm::wrapped::CODER;
use crate::core::object::KindName;
use crate::core::plan::difference::Rendered;
use crate::core::plan::rehearsal::Rehearsal;
use crate::core::plan::replicas::KeptReplicas;
use crate::core::rollout::inventory::{Answer, NoAnswer};
use crate::core::rollout::workload::PodFacts;

/// An object and its metadata.
pub type Mark = (KindName, ObjectMeta);

/// What is known before the chart is rendered: what is installed and runs, and which chart shall follow.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What a person declares.
    pub spec: CoderUpgradeSpec,
    /// Namespace of the release.
    pub namespace: String,
    /// Name of the `CoderUpgrade`.
    pub upgrade: String,
    /// The chart that shall be installed.
    pub chart: ChartMetadata,
    /// What is to be said of the way to the wanted version; see [`crate::core::plan::path`].
    pub path: Vec<Finding>,
    /// What is installed: the newest revision that is deployed. None for a first install.
    pub installed: Option<Installed>,
    /// The newest revision of the release, which may be another one that failed or was left pending.
    pub newest: Option<Installed>,
    /// Version of Coder's chart in what is installed, if that is another chart that brings Coder along.
    pub installed_coder: Option<String>,
    /// The manifest of what is installed; without a record of helm, the workloads that run.
    pub old: Documents,
    /// The values that the release was given.
    pub kept: Map<String, Value>,
    /// What each Coder server answers.
    pub answers: Vec<Answer>,
    /// The Coder servers that are ready and do not answer the runner.
    pub unanswered: Vec<NoAnswer>,
    /// The pods of what is installed.
    pub pods: Vec<PodFacts>,
    /// The workloads of what is installed as they are, each as Kind/name with its metadata.
    pub marks: Vec<Mark>,
    /// Paths of spec.values that kubectl removed because they were null.
    pub lost_nulls: Vec<String>,
    /// The highest version of which a pod may have started, and migrated the database; none if that is not recorded.
    pub highest_started: Option<String>,
    /// Version of Kubernetes, if the API server tells one that can be read.
    pub kubernetes: Option<Version>,
}

impl Facts {
    /// Product line of the chart.
    pub fn line(&self) -> ProductLine {
        version::parse(self.chart.coder_version()).map_or(ProductLine::V2, |version| version::product_line(&version))
    }

    /// Whether the chart runs servers of Coder, and not a companion of it.
    pub fn runs_servers(&self) -> bool {
        self.chart.runs() == CODER
    }

    /// The installed version of Coder's chart.
    pub fn installed_version(&self) -> Option<&str> {
        let own = self.installed.as_ref().map(|installed| installed.version.as_str());
        self.installed_coder.as_deref().or(own)
    }

    /// The path of a value of Coder's chart, which lies one level deeper in a chart that brings Coder along.
    pub fn value_path(&self, path: &str) -> String {
        match &self.chart.wrapped {
            Some(wrapped) => format!("{}.{path}", wrapped.under),
            None => path.to_owned(),
        }
    }

    /// Whether another version than the installed one is wanted.
    pub fn changes_version(&self) -> bool {
        let installed = self.installed.as_ref().map(|installed| version::plain(&installed.version));
        let coder = self.installed_version().map(version::plain);
        installed.is_some_and(|installed| installed != version::plain(&self.chart.version))
            || coder.is_some_and(|coder| coder != version::plain(self.chart.coder_version()))
    }
}

/// What rendering and rehearsal have shown, and what surrounds the release.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// All values that the release will be given.
    pub values: Map<String, Value>,
    /// Default values of the installed chart; null if nothing is installed.
    pub old_defaults: Value,
    /// Default values of the new chart.
    pub defaults: Value,
    /// The manifest of the new chart.
    pub new: Documents,
    /// What the API server would say.
    pub rehearsal: Rehearsal,
    /// The claims of the release.
    pub claims: Vec<ClaimStatus>,
    /// `LoadBalancer` Services and Ingresses of what is installed.
    pub exposures: Vec<Exposure>,
    /// The objects of the new chart that exist, each as Kind/name with its metadata.
    pub marks: Vec<Mark>,
    /// What the installed chart gives with the installed values, if that differs from the installed manifest.
    pub rendered: Option<Rendered>,
    /// Numbers of replicas that somebody else has set.
    pub kept: Vec<KeptReplicas>,
    /// Whether helm waits for custom resources as well: helm 4 does.
    pub helm_waits_for_all: bool,
    /// What lies in the namespace beside the release.
    pub surroundings: Surroundings,
}

/// What surrounds the release. What the runner may not read is unknown: none, which is not the same as empty.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Quotas of the namespace.
    pub quotas: Option<Vec<ResourceQuota>>,
    /// Limit ranges of the namespace.
    pub limits: Option<Vec<LimitRange>>,
    /// Autoscalers of the namespace.
    pub autoscalers: Option<Vec<HorizontalPodAutoscaler>>,
    /// Deployments of Coder and of its companions in the namespace, those of the release included.
    pub deployments: Option<Vec<Deployment>>,
    /// Nodes of the cluster.
    pub nodes: Option<Vec<Node>>,
    /// Rights that the runner was asked for and does not have.
    pub denied: Vec<Need>,
    /// Keys of the Secrets and `ConfigMaps` from which containers take their whole environment, by kind and name.
    pub environments: BTreeMap<KindName, BTreeSet<String>>,
}
