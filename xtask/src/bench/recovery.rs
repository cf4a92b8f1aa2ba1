//! What a recovery costs: the time until a refused object is being repaired, and how long Coder is away.

use std::time::Duration;

use coder_upgrade_operator::api::{Approvable, CoderUpgrade, Phase};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use testbed::Cluster;
use testbed::charts::charts_dir;
use tokio::time::timeout;

use super::rollout::PATIENCE;
use crate::Result;

/// How long the load balancer takes to release its address.
const SLOW: &str = "testbed.coderupgrade.dev/release-delay=4s";
/// What the `StatefulSet` of the database refuses.
const LARGER: &str = "timescale.resources.requests.storage=128Mi";

/// A recovery in a namespace of its own.
pub struct Recovery<'a> {
    pub(super) cluster: &'a Cluster,
    /// The namespace.
    pub namespace: String,
}

impl<'a> Recovery<'a> {
    /// In that namespace.
    pub fn new(cluster: &'a Cluster, namespace: impl Into<String>) -> Self {
        Self { cluster, namespace: namespace.into() }
    }

    /// A Deployment refuses its new selector and is replaced under `RollingUpdate`. How long its Service could not be used.
    pub async fn immutable(&self) -> Result<Duration> {
        self.cluster.allow_runner(&self.namespace).await?;
        let database = charts_dir().join("database.yaml");
        self.kubectl(&["apply", "-f", &database.to_string_lossy()]).await?;
        let repository = &self.cluster.repositories()?.faults;
        self.helm("install", repository, "2.31.6", "coder-v2-values.yaml", &[]).await?;
        let watch = self.cluster.watch_service(&self.namespace, "coder").await?;
        self.declare(&json!({"version": "2.31.11", "chart": {"repository": repository}})).await?;
        self.until(Phase::Succeeded).await?;
        Ok(watch.end().await.outage)
    }

    /// The guide's story through the operator, from the approval on. How long Coder did not answer.
    pub async fn reinstall(&self) -> Result<Duration> {
        self.classic().await?;
        let repository = &self.cluster.repositories()?.v1;
        let values = json!({"timescale": {"resources": {"requests": {"storage": "128Mi"}}}});
        let chart = json!({"repository": repository});
        let spec = json!({
            "version": "1.16.2", "chart": chart, "values": values, "recovery": "Stop", "keepAddresses": false
        });
        self.declare(&spec).await?;
        let object = self.until(Phase::AwaitingApproval).await?;
        let plan = object.status.and_then(|status| status.plan).ok_or("no plan waits for approval")?.id;
        let watch = self.cluster.watch_service(&self.namespace, "cemanager").await?;
        let approval = format!("coderupgrade.dev/approve={plan}/{}", Approvable::Reinstall);
        self.kubectl(&["annotate", "coderupgrade", "coder", &approval]).await?;
        self.until(Phase::Succeeded).await?;
        Ok(watch.end().await.outage)
    }

    /// The same by hand, by somebody who types as fast as helm ends.
    pub async fn by_hand(&self) -> Result<Duration> {
        self.classic().await?;
        let repository = &self.cluster.repositories()?.v1;
        // It fails, which is why the guide uninstalls.
        if self.helm("upgrade", repository, "1.16.2", "coder-v1-values.yaml", &["--set", LARGER]).await.is_ok() {
            return Err("the StatefulSet should have refused the upgrade".into());
        }
        let watch = self.cluster.watch_service(&self.namespace, "cemanager").await?;
        let uninstall = ["uninstall", "coder", "--wait", "--timeout", "5m", "--namespace", &self.namespace];
        self.cluster.helm(&uninstall).await?;
        self.helm("install", repository, "1.16.2", "coder-v1-values.yaml", &["--wait", "--set", LARGER]).await?;
        Ok(watch.end().await.outage)
    }

    /// Coder Classic with a load balancer that is slow to delete.
    async fn classic(&self) -> Result<()> {
        self.cluster.allow_runner(&self.namespace).await?;
        let repository = &self.cluster.repositories()?.v1;
        self.helm("install", repository, "1.16.1", "coder-v1-values.yaml", &["--wait"]).await?;
        self.kubectl(&["annotate", "service", "ingress-nginx", SLOW]).await
    }

    pub(super) async fn helm(
        &self,
        command: &str,
        repository: &str,
        version: &str,
        values: &str,
        more: &[&str],
    ) -> Result<()> {
        let values = charts_dir().join(values);
        let chart = [command, "coder", "coder", "--repo", repository, "--version", version];
        let release = ["--values", &values.to_string_lossy(), "--namespace", &self.namespace, "--timeout", "5m"];
        self.cluster.helm(&[&chart[..], &release[..], more].concat()).await?;
        Ok(())
    }

    pub(super) async fn kubectl(&self, arguments: &[&str]) -> Result<()> {
        self.cluster.kubectl(&[arguments, &["--namespace", &self.namespace]].concat()).await?;
        Ok(())
    }

    pub(super) async fn declare(&self, spec: &Value) -> Result<()> {
        let mut object = json!({
            "apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": {"name": "coder"}, "spec": spec
        });
        object["spec"]["verify"] = json!({"soak": "0s"});
        self.upgrades().await?.patch("coder", &PatchParams::apply("bench"), &Patch::Apply(object)).await?;
        Ok(())
    }

    pub(super) async fn until(&self, phase: Phase) -> Result<CoderUpgrade> {
        let at = |object: Option<&CoderUpgrade>| {
            object.and_then(|object| object.status.as_ref()).is_some_and(|status| status.phase == phase)
        };
        let reached = timeout(PATIENCE, await_condition(self.upgrades().await?, "coder", at)).await;
        let reached =
            reached.map_err(|_| format!("the CoderUpgrade in {} does not become {phase}", self.namespace))??;
        reached.ok_or_else(|| format!("the CoderUpgrade in {} is gone", self.namespace).into())
    }

    async fn upgrades(&self) -> Result<Api<CoderUpgrade>> {
        Ok(Api::namespaced(self.cluster.client().await?, &self.namespace))
    }
}
