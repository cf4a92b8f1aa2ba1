//! Coder is interrupted for a change: running builds are waited for, and with strategy Recreate Coder is scaled to zero.
//!
//! Which Deployments, with how many replicas, is recorded in the Job before it is done. On every way out that the
//! runner still takes by itself the replicas come back; after a kill the controller hands the record to the next try.

mod builds;
mod scale;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt};
use tokio::time::timeout;

use crate::api::{FailureClass, ScaledDown, Strategy};
use crate::core::helm::documents::Documents;
use crate::core::helm::workload::WorkloadKind;
use crate::core::object::KindName;
use crate::core::plan::Plan;
use crate::core::report::Problem;
use crate::core::rollout::started;
use crate::core::rollout::started::Versions;
use crate::core::steps::pause::{ChangeOutcome, replicas_after, replicas_of, serves_api};
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::helm::held_release::HeldRelease;
use crate::runner::helm::record::Record;
use crate::runner::rollout::observer::Observer;
use crate::runner::rollout::starts::started_now;

/// What is at zero, and comes back.
pub struct Paused<'a> {
    ctx: &'a Context,
    release: &'a HeldRelease,
    plan: &'a Plan,
    /// Images of the release that the plan starts from: a pod with another one may migrate the database.
    old_images: BTreeSet<String>,
    /// The release's Deployments, as they are and as they will be.
    deployments: BTreeSet<String>,
    down: Mutex<Vec<ScaledDown>>,
}

impl<'a> Paused<'a> {
    /// Takes over what an earlier try has scaled to zero. `saved` is the release that the plan starts from.
    pub fn new(
        ctx: &'a Context,
        release: &'a HeldRelease,
        plan: &'a Plan,
        saved: Option<&Record>,
        earlier: &[ScaledDown],
    ) -> Result<Self, Error> {
        let mut workloads = plan.workloads.clone();
        let mut old_images = BTreeSet::new();
        if let Some(saved) = saved {
            let manifest = Documents::parse(saved.manifest(), &ctx.namespace)?;
            workloads.extend(manifest.workloads());
            old_images = started::images(&manifest);
            old_images.extend(saved.hook_objects(&ctx.namespace)?.into_iter().flat_map(|hook| hook.images));
        }
        let deployments = workloads.into_iter().filter(|workload| workload.kind == WorkloadKind::Deployment);
        let deployments = deployments.map(|workload| workload.name).collect();
        let paused = Self { ctx, release, plan, old_images, deployments, down: Mutex::new(earlier.to_vec()) };
        if !earlier.is_empty() {
            ctx.reporter.still_scaled_down(paused.down());
        }
        Ok(paused)
    }

    /// Images of the release that the plan starts from; none if there was nothing.
    pub fn old_images(&self) -> &BTreeSet<String> {
        &self.old_images
    }

    /// The release, whose Lease is held for all of this.
    pub fn release(&self) -> &'a HeldRelease {
        self.release
    }

    /// Waits for running builds and, if the plan says so, stops the companions and then Coder. Each may take `patience` until its
    /// pods have ended.
    pub async fn begin(&self, observer: &Observer, patience: Duration) -> Result<(), Error> {
        let quiet = builds::ended(self.ctx, &self.plan.pause, observer);
        self.release.lease().while_held(Box::pin(quiet)).await?;
        if self.plan.pause.strategy != Strategy::Recreate {
            return Ok(());
        }
        let companions = self.found(&self.plan.pause.companions).await?;
        self.stop(&companions, patience).await?;
        let mut coder = self.found(&self.deployments).await?;
        if coder.iter().any(|deployment| serves_api(self.plan, deployment)) {
            coder.retain(|deployment| serves_api(self.plan, deployment));
        }
        self.stop(&coder, patience).await?;
        if !coder.is_empty() {
            self.ctx.reporter.progress("Coder is down until helm has brought the new version");
        }
        Ok(())
    }

    /// Those of these Deployments that exist.
    async fn found(&self, names: impl IntoIterator<Item = &String>) -> Result<Vec<Deployment>, Error> {
        let deployments: Api<Deployment> = self.ctx.api();
        let mut found = Vec::new();
        for name in names {
            let live = request(&format!("read Deployment/{name}"), || deployments.get_opt(name)).await?;
            if live.is_none() {
                tracing::info!("Deployment/{name} does not exist: there is nothing to scale to zero");
            }
            found.extend(live);
        }
        Ok(found)
    }

    /// Scales these Deployments to zero, and waits until their pods have ended.
    async fn stop(&self, deployments: &[Deployment], patience: Duration) -> Result<(), Error> {
        let mut down = self.down();
        for deployment in deployments {
            let object = object(deployment);
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            if replicas > 0 && !down.iter().any(|known| known.object == object) {
                down.push(ScaledDown { object, replicas });
            }
        }
        // Once it may be recorded it is taken back there, too, even if nothing was scaled.
        self.set(down.clone());
        self.ctx.reporter.scaled_down(&down).await?;
        for deployment in deployments {
            self.release.lease().still_held()?;
            scale::to(self.ctx, self.release.lease(), &deployment.name_any(), 0).await?;
        }
        for deployment in deployments {
            let gone = self.release.lease().while_held(Box::pin(scale::pods_gone(self.ctx, deployment)));
            timeout(patience, gone).await.unwrap_or_else(|_| Err(lingers(deployment, patience).into()))?;
        }
        Ok(())
    }

    /// helm has succeeded: brings the replicas back that the chart of the newest revision does not set itself.
    pub async fn resume(&self) -> Result<(), Error> {
        if self.down().is_empty() {
            return Ok(());
        }
        let (storage, history) = (self.release.storage(), self.release.history().await?);
        let manifest = match history.first() {
            Some(newest) => Documents::parse(storage.read(newest).await?.record.manifest(), &self.ctx.namespace)?,
            None => Documents::default(),
        };
        self.restore(|name| ChangeOutcome::Succeeded(replicas_of(&manifest, name))).await
    }

    /// The way out of the step, whichever it is: after a failure the replicas come back. Without the Lease nothing may be
    /// touched; the record stays, and the next try does it.
    pub async fn end<T>(self, done: Result<T, Error>) -> Result<T, Error> {
        if done.is_err()
            && !self.down().is_empty()
            && !self.release.lease().lost().is_cancelled()
            && let Err(also) = self.restore(|_| ChangeOutcome::Failed).await
        {
            tracing::error!("the replicas could not all be restored; the next try does it: {also}");
        }
        done
    }

    /// Brings the replicas back, those of Coder first.
    async fn restore(&self, ended: impl Fn(&str) -> ChangeOutcome) -> Result<(), Error> {
        let deployments: Api<Deployment> = self.ctx.api();
        for ScaledDown { object, replicas } in self.down().into_iter().rev() {
            self.release.lease().not_lost()?;
            let Some(KindName { name, .. }) = KindName::read(&object) else {
                return Err(Error::Bug(format!("{object} names no Deployment")));
            };
            if let Some(live) = request(&format!("read {object}"), || deployments.get_opt(&name)).await? {
                let companion = self.plan.pause.companions.contains(&name);
                let ended = match ended(&name) {
                    ChangeOutcome::Succeeded(_) if companion => ChangeOutcome::Succeeded(None),
                    ended => ended,
                };
                let now = live.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
                if let Some(wanted) = replicas_after(replicas, now, ended) {
                    if !companion && self.is_new(&live) {
                        started_now(self.ctx, self.release.lease(), self.plan).await;
                    }
                    self.ctx.reporter.progress(&format!("{object} is scaled back to {wanted}"));
                    scale::to(self.ctx, self.release.lease(), &name, wanted).await?;
                }
            }
            let mut left = self.down();
            left.retain(|down| down.object != object);
            self.ctx.reporter.still_scaled_down(left.clone());
            self.set(left);
        }
        Ok(())
    }

    /// Whether a pod of this template is one of a new version.
    fn is_new(&self, deployment: &Deployment) -> bool {
        let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let containers = pod.into_iter().flat_map(|pod| pod.init_containers.iter().flatten().chain(&pod.containers));
        let versions = Versions::between(&self.old_images, &self.plan.images, &self.plan.containers);
        let mut named = containers.filter_map(|container| Some((&container.name, container.image.as_ref()?)));
        named.any(|(name, image)| versions.is_new(name, image))
    }

    fn down(&self) -> Vec<ScaledDown> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, down: Vec<ScaledDown>) {
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = down;
    }
}

fn object(deployment: &Deployment) -> String {
    format!("Deployment/{}", deployment.name_any())
}

fn lingers(deployment: &Deployment, patience: Duration) -> Problem {
    let object = object(deployment);
    let message = format!(
        "pods of {object} have not ended within {} s (spec.helm.timeout) after it was scaled to zero; helm was not run, \
         and the replicas are restored",
        patience.as_secs()
    );
    Problem::new(FailureClass::StillDeleting, message).object(object)
}
