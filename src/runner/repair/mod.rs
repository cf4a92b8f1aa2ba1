//! The rungs of the ladder that are climbed inside of a step, each recorded before it is done.

mod adopt;
mod apis;
mod bridge;
mod live;
mod replace;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

pub use adopt::unowned;
pub use bridge::finish;
pub use live::Kinds;

use super::apply::Package;
use super::context::Context;
use super::error::Error;
use super::helm::storage::Storage;
use super::helm::upgrade::{Rendering, render};
use super::lease::Held;
use crate::api::{Remedy, Repair};
use crate::core::ladder::Planned;
use crate::core::manifest;
use crate::core::plan::Plan;

/// What repairs work with.
pub struct Scene<'a> {
    ctx: &'a Context,
    plan: &'a Plan,
    package: &'a Package<'a>,
    storage: Storage,
    lease: &'a Held,
    kinds: Kinds,
    rendered: Option<Vec<Value>>,
}

impl<'a> Scene<'a> {
    /// Nothing is asked before it is needed.
    #[must_use]
    pub fn new(ctx: &'a Context, plan: &'a Plan, package: &'a Package<'a>, lease: &'a Held) -> Self {
        let storage = Storage::new(ctx.api(), &plan.release);
        Self { ctx, plan, package, storage, lease, kinds: Kinds::default(), rendered: None }
    }

    /// Makes a repair.
    pub async fn perform(&mut self, repair: &Planned) -> Result<(), Error> {
        self.ctx.reporter.progress(&format!("looking at {} before it is repaired", repair.object));
        match repair.remedy {
            Remedy::Adopt => adopt::adopt(self).await,
            Remedy::RewriteApis => apis::rewrite(self).await,
            Remedy::Replace => replace::replace(self, &repair.object).await,
            // These are no part of a running helm step; the ladder never plans them.
            Remedy::Unlock | Remedy::Expand | Remedy::Reinstall => {
                Err(Error::Plan(format!("{} is not done in the middle of helm's work", repair.remedy)))
            }
        }
    }

    /// What is certain to be refused, known before helm runs: workloads whose selector would change. helm would change
    /// the Service first and then be refused, and nobody would be served meanwhile.
    pub async fn foreseen(&mut self) -> Result<Vec<Planned>, Error> {
        replace::foreseen(self).await
    }

    /// The objects that the chart renders now. Ownership is no reason to refuse: nothing is changed.
    async fn rendered(&mut self) -> Result<&[Value], Error> {
        if self.rendered.is_none() {
            let rendering = Rendering {
                release: &self.plan.release,
                namespace: &self.ctx.namespace,
                chart: self.package.chart,
                values: &[self.package.values.to_owned()],
                as_install: false,
                take_ownership: true,
            };
            let record = render(&self.ctx.helm, &rendering).await?.map_err(Error::helm)?;
            self.rendered = Some(manifest::objects(record.manifest())?);
        }
        Ok(self.rendered.as_deref().unwrap_or_default())
    }

    /// Puts a repair on record; only then may it be done.
    async fn record(&self, remedy: Remedy, object: &str, message: String) -> Result<(), Error> {
        let repair = Repair { remedy, object: object.to_owned(), message, time: Time(Timestamp::now()) };
        self.ctx.reporter.repair(repair).await
    }
}
