//! One upgrade, through the operator or with bare helm.

use std::ops::Range;
use std::time::{Duration, Instant};

use coder_upgrade_operator::api::CoderUpgrade;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::{Value, json};
use testbed::Cluster;
use testbed::charts::charts_dir;
use tokio::time::timeout;

use super::process::Controller;
use crate::Result;

/// Longest wait for one upgrade.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What is upgraded from where to where.
pub struct Scenario {
    /// Part of the namespaces' names.
    pub name: &'static str,
    /// The charts are those with faults.
    pub faults: bool,
    /// Version that is installed before.
    pub from: &'static str,
    /// Version that is upgraded to.
    pub to: &'static str,
}

/// One measured upgrade.
pub struct Trial {
    /// The namespace of the release, which no other trial uses.
    pub namespace: String,
    /// When it began.
    pub started: Timestamp,
    /// Wall time.
    pub took: Duration,
    /// Time of the controller on a processor; none for bare helm.
    pub controller: Duration,
}

impl Trial {
    /// Measures from now on.
    fn begin(namespace: String) -> (Self, Instant) {
        (
            Self { namespace, started: Timestamp::now(), took: Duration::ZERO, controller: Duration::ZERO },
            Instant::now(),
        )
    }
}

/// Where upgrades are measured.
pub struct Bench<'a> {
    cluster: &'a Cluster,
    controller: &'a Controller,
    client: Client,
    values: String,
}

impl<'a> Bench<'a> {
    /// On this cluster, which has the operator.
    pub async fn new(cluster: &'a Cluster, controller: &'a Controller) -> Result<Self> {
        let values = charts_dir().join("coder-v2-values.yaml").to_string_lossy().into_owned();
        Ok(Self { cluster, controller, client: cluster.client().await?, values })
    }

    /// From the apply of a `CoderUpgrade` until it is Ready. Nothing is to be soaked.
    pub async fn operator(&self, scenario: &Scenario, round: usize) -> Result<Trial> {
        let namespace = format!("operator-{}-{round}", scenario.name);
        self.install(scenario, &namespace).await?;
        let api: Api<CoderUpgrade> = Api::namespaced(self.client.clone(), &namespace);
        let repository = self.repository(scenario)?;
        let object = object(
            "coder",
            &json!({
                "version": scenario.to, "chart": {"repository": repository}, "verify": {"soak": "0s"}
            }),
        );
        let before = self.controller.time()?;
        let (mut trial, began) = Trial::begin(namespace);
        api.patch("coder", &PatchParams::apply("bench"), &Patch::Apply(object)).await?;
        let ready = |object: Option<&CoderUpgrade>| object.is_some_and(|object| is_true(object, "Ready"));
        let stalled = |object: Option<&CoderUpgrade>| object.is_some_and(|object| is_true(object, "Stalled"));
        let ended = |object: Option<&CoderUpgrade>| ready(object) || stalled(object);
        let object = timeout(PATIENCE, await_condition(api, "coder", ended)).await??;
        trial.took = began.elapsed();
        trial.controller = self.controller.time()?.saturating_sub(before);
        if !ready(object.as_ref()) {
            let status = object.and_then(|object| object.status);
            return Err(format!("the CoderUpgrade in {} failed: {status:?}", trial.namespace).into());
        }
        Ok(trial)
    }

    /// `helm upgrade --wait`, as an administrator would run it.
    pub async fn helm(&self, scenario: &Scenario, round: usize) -> Result<Trial> {
        let namespace = format!("helm-{}-{round}", scenario.name);
        self.install(scenario, &namespace).await?;
        let (mut trial, began) = Trial::begin(namespace);
        self.run_helm("upgrade", scenario, scenario.to, &trial.namespace).await?;
        trial.took = began.elapsed();
        Ok(trial)
    }

    /// More `CoderUpgrades` that nothing is to be done for, each looked at by the controller.
    pub async fn suspended(&self, numbers: Range<usize>) -> Result<()> {
        let api: Api<CoderUpgrade> = Api::namespaced(self.client.clone(), "default");
        stream::iter(numbers)
            .map(|number| {
                let (api, name) = (&api, format!("coder-{number}"));
                async move {
                    let object = object(&name, &json!({"release": name, "version": "2.31.7", "suspend": true}));
                    api.patch(&name, &PatchParams::apply("bench"), &Patch::Apply(object)).await?;
                    let seen = |object: Option<&CoderUpgrade>| object.is_some_and(is_observed);
                    timeout(PATIENCE, await_condition(api.clone(), &name, seen)).await??;
                    Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
                }
            })
            .buffer_unordered(16)
            .try_collect()
            .await
    }

    async fn install(&self, scenario: &Scenario, namespace: &str) -> Result<()> {
        self.cluster.allow_runner(namespace).await?;
        let database = charts_dir().join("database.yaml");
        self.cluster.kubectl(&["apply", "--namespace", namespace, "-f", &database.to_string_lossy()]).await?;
        self.run_helm("install", scenario, scenario.from, namespace).await
    }

    async fn run_helm(&self, command: &str, scenario: &Scenario, version: &str, namespace: &str) -> Result<()> {
        let chart = ["coder", "coder", "--repo", self.repository(scenario)?, "--version", version];
        let release = ["--namespace", namespace, "--values", &self.values, "--wait", "--timeout", "5m"];
        self.cluster.helm(&[&[command], &chart[..], &release[..]].concat()).await?;
        Ok(())
    }

    fn repository(&self, scenario: &Scenario) -> Result<&str> {
        let repositories = self.cluster.repositories()?;
        Ok(if scenario.faults { &repositories.faults } else { &repositories.v2 })
    }
}

fn object(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": {"name": name}, "spec": spec
    })
}

fn is_observed(object: &CoderUpgrade) -> bool {
    let status = object.status.as_ref();
    status.is_some_and(|status| object.metadata.generation == Some(status.observed_generation))
}

fn is_true(object: &CoderUpgrade, condition: &str) -> bool {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    is_observed(object) && conditions.into_iter().any(|found| found.type_ == condition && found.status == "True")
}
