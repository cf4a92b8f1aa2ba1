//! What a step leads to, and the proof that it got there.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::volumes;
use crate::api::{FailureClass, Installed, Recovery};
use crate::core::helm::documents::Documents;
use crate::core::helm::version;
use crate::core::plan::Plan;
use crate::core::report::{Problem, Upgraded};
use crate::core::rollout::addresses::Hosts;
use crate::core::rollout::addresses::changes;
use crate::core::rollout::verify::Expected;
use crate::runner::cluster::{addresses, inventory};
use crate::runner::coder::token::Token;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::held_release::HeldRelease;
use crate::runner::rollout::goal::Goal;
use crate::runner::rollout::observer::Observer;
use crate::runner::rollout::verify::verify;

/// What shall be installed at the end.
#[derive(Clone, Debug)]
pub struct ExpectedRelease<'a> {
    /// The plan: whose label the record carries, and whose data must be there.
    pub plan: &'a Plan,
    /// Name of the chart.
    pub chart_name: &'a str,
    /// Version of the chart.
    pub version: &'a str,
    /// Version that the pods must answer.
    pub app_version: &'a str,
    /// It is the release that the plan saved, restored, and not the one that the plan leads to.
    pub restored: bool,
    /// How long to wait until everything is right.
    pub timeout: Duration,
    /// How long everything must stay right.
    pub soak: Duration,
    /// Whether volumes that are too small may be enlarged.
    pub recovery: Recovery,
}

impl<'a> ExpectedRelease<'a> {
    /// Where the plan leads to.
    pub fn of(plan: &'a Plan, timeout: Duration, soak: Duration, recovery: Recovery) -> Self {
        Self {
            plan,
            chart_name: &plan.chart_name,
            version: &plan.version,
            app_version: &plan.app_version,
            restored: false,
            timeout,
            soak,
            recovery,
        }
    }

    /// Waits until what is installed is this, and right. Ends early when the runner is told to stop or loses the Lease.
    pub async fn verified(&self, ctx: &Context, release: &HeldRelease, observer: Observer) -> Result<Upgraded, Error> {
        ctx.reporter.verifying();
        release.lease().while_held(self.prove(ctx, release, observer)).await
    }

    async fn prove(&self, ctx: &Context, release: &HeldRelease, observer: Observer) -> Result<Upgraded, Error> {
        let begun = Instant::now();
        let (current, values, manifest) = self.installed(ctx, release).await?;
        let (plan, workloads) = (self.plan, manifest.workloads());
        // Templates that look at the cluster may have rendered other objects than in the plan.
        let observer = if observer.watches(&workloads) {
            observer
        } else {
            Observer::start(ctx, self.chart_name, plan.line, &workloads)
        };
        // What was restored need not be well in every part; it has to be what it was.
        let token = match &plan.pause.token {
            Some(reference) if !self.restored => Some(Token::read(ctx, reference).await?),
            _ => None,
        };
        let goal = Goal {
            revision: current.revision,
            expected: Expected::new(self.app_version, &plan.inventory),
            claims: &plan.inventory.claims,
            timeout: self.timeout,
            soak: self.soak,
            token: token.as_ref(),
            health: plan.inventory.health.as_deref(),
        };
        let verified = verify(ctx, release.storage(), &observer, &goal).await?;
        let marks = observer.marks();
        // A first install has claims that no plan could know.
        let (mut claims, mut names) = (verified.claims, manifest.claims()?);
        names.retain(|name| claims.iter().all(|known| known.name != *name));
        claims.extend(inventory::claims(ctx, &names).await?.into_values());
        claims.sort_by(|a, b| a.name.cmp(&b.name));
        volumes::reconcile(ctx, release.lease(), &manifest, &mut claims, self.recovery).await?;
        let before = &plan.inventory.exposures;
        let exposures =
            addresses::settled(ctx, before, &manifest, self.timeout.saturating_sub(begun.elapsed())).await?;
        Ok(Upgraded {
            workloads: marks,
            current,
            verified: verified.summary,
            claims,
            address_changes: changes(before, &exposures, &Hosts::new(&values, &manifest)),
            exposures,
        })
    }

    /// The newest revision, which must be deployed from this chart, by this plan.
    async fn installed(
        &self,
        ctx: &Context,
        release: &HeldRelease,
    ) -> Result<(Installed, Map<String, Value>, Documents), Error> {
        let wrong = |message: String| Problem::new(FailureClass::VerificationFailed, message);
        let history = release.history().await?;
        let newest = history.first().ok_or_else(|| wrong("helm succeeded, but there is no release".into()))?;
        let stored = release.storage().read(newest).await?;
        let chart = stored.record.chart().map_err(|source| stored.broken(source))?;
        let same = chart.runs() == self.chart_name && version::plain(&chart.version) == version::plain(self.version);
        let ours = newest.plan.as_deref() == Some(&self.plan.id) && newest.restored == self.restored;
        if !(same && ours && newest.deployed()) {
            let message = format!(
                "the release is at revision {} ({}) of {} {}, not deployed from {} {} by plan {}",
                newest.number, newest.status, chart.name, chart.version, self.chart_name, self.version, self.plan.id
            );
            return Err(wrong(message).object(format!("Secret/{}", newest.secret)).into());
        }
        let installed = stored.record.installed().map_err(|source| stored.broken(source))?;
        let manifest = Documents::parse(stored.record.manifest(), &ctx.namespace)?;
        Ok((installed, stored.record.values(), manifest))
    }
}
