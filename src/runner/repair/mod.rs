//! Repairs made inside of a step, in escalating order (adopt, rewrite, replace), each recorded before it is done.

mod adopt;
mod apis;
mod bridge;
mod bridged;
pub mod refused;
mod replace;
pub mod risk;

use std::fmt::Display;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

pub use adopt::unowned;
pub use apis::{rewrites, serve};
pub use bridged::{begun, finish};

use super::cluster::lease::Held;
use super::context::Context;
use super::error::Error;
use super::helm::held_release::HeldRelease;
use super::helm::upgrade::{Rendering, render_past};
use crate::api::{PlannedRepair, Remedy, Repair};
use crate::core::helm::documents::Documents;
use crate::core::object::{KindName, ObjectRef};
use crate::core::plan::Plan;
use crate::core::plan::rehearsal::not_permitted;
use crate::core::repair::escalation::RepairAction;
use crate::runner::helm::package::Package;

/// What repairs work with.
pub struct RepairContext<'a> {
    ctx: &'a Context,
    plan: &'a Plan,
    package: &'a Package<'a>,
    release: &'a HeldRelease,
    rendered: Option<Documents>,
    /// Workloads of the package as [`Self::foreseen`] has seen them.
    live: Vec<(ObjectRef, Value)>,
}

impl<'a> RepairContext<'a> {
    /// Nothing is asked before it is needed.
    pub fn new(ctx: &'a Context, plan: &'a Plan, package: &'a Package<'a>, release: &'a HeldRelease) -> Self {
        Self { ctx, plan, package, release, rendered: None, live: Vec::new() }
    }

    fn lease(&self) -> &'a Held {
        self.release.lease()
    }

    /// Makes a repair. Whether it was needed: an earlier try, or somebody else, may have made it already.
    pub async fn perform(&mut self, repair: &RepairAction) -> Result<bool, Error> {
        let named = repair.object.as_ref().map_or_else(|| "the release".into(), KindName::to_string);
        self.ctx.reporter.progress(&format!("looking at {named} before it is repaired"));
        let needed = match (repair.remedy, &repair.object) {
            (Remedy::Adopt, _) => {
                adopt::allowed(self.plan, &named)?;
                adopt::adopt(self).await
            }
            (Remedy::RewriteApis, _) => apis::rewrite(self).await,
            (Remedy::Replace, Some(object)) => replace::replace(self, object).await,
            // These are no part of a running helm step; escalation never chooses them.
            (Remedy::Unlock | Remedy::Expand | Remedy::Reinstall | Remedy::Replace, _) => {
                Err(Error::Bug(format!("{} is no repair between two runs of helm", repair.remedy)))
            }
        }?;
        self.ctx.reporter.repaired();
        Ok(needed)
    }

    /// What is certain to be refused, known before helm runs: workloads whose selector would change. helm would change
    /// the Service first and then be refused, and nobody would be served meanwhile.
    pub async fn foreseen(&mut self) -> Result<Vec<RepairAction>, Error> {
        replace::foreseen(self).await
    }

    /// The workloads of the package that were there a moment ago; what is repaired may be another one by now.
    pub fn live(&self) -> &[(ObjectRef, Value)] {
        &self.live
    }

    /// What the plan foresees and is still to be done; refused if it may not be done. The adoption and the rewriting are for
    /// the whole release, so one of each is enough.
    pub async fn planned(&mut self) -> Result<Vec<RepairAction>, Error> {
        // To restore the saved release, other repairs are needed, if any: helm tells.
        if self.package.restores {
            return Ok(Vec::new());
        }
        let mut left: Vec<PlannedRepair> = Vec::new();
        for repair in &self.plan.forecast.repairs {
            let wanted = match repair.remedy {
                Remedy::Replace => replace::is_still_there(self, &repair.object).await?,
                Remedy::Adopt | Remedy::RewriteApis => left.iter().all(|known| known.remedy != repair.remedy),
                Remedy::Unlock | Remedy::Expand | Remedy::Reinstall => false,
            };
            if wanted {
                left.push(repair.clone());
            }
        }
        if let Some(problem) = not_permitted(&left, self.package.recovery) {
            return Err(problem.into());
        }
        Ok(left
            .into_iter()
            .map(|PlannedRepair { remedy, object, .. }| RepairAction { remedy, object: KindName::read(&object) })
            .collect())
    }

    /// What the chart renders now. Ownership is no reason to refuse: nothing is changed.
    async fn rendered(&mut self) -> Result<&Documents, Error> {
        if let Some(ref rendered) = self.rendered {
            return Ok(rendered);
        }
        let rendering = Rendering {
            release: &self.plan.release,
            namespace: &self.ctx.namespace,
            chart: self.package.chart,
            values: &[self.package.values.to_owned()],
            as_install: false,
            take_ownership: true,
        };
        let (record, _) = render_past(&self.ctx.helm, rendering).await?.map_err(Error::helm)?;
        let rendered = Documents::parse(record.manifest(), &self.ctx.namespace)?;
        Ok(self.rendered.insert(rendered))
    }

    /// Records a repair; only then may it be done.
    async fn record(&self, remedy: Remedy, object: impl Display, message: String) -> Result<(), Error> {
        let repair = Repair { remedy, object: object.to_string(), message, time: Time(Timestamp::now()) };
        self.ctx.reporter.repair(repair).await
    }
}
