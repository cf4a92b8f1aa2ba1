//! The repairs that a rehearsal finds to be needed, and how the next run is rehearsed with them.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::Value;

use super::state::Settings;
use super::{Script, storage};
use crate::api::{PlannedRepair, Remedy};
use crate::core::helm::failures::Cause;
use crate::core::helm::history::{Revision, left_behind};
use crate::core::object::ObjectRef;
use crate::core::repair::escalation::RepairAction;
use crate::core::text::redact;
use crate::runner::context::{Context, request, server_time};
use crate::runner::error::Error;
use crate::runner::helm::storage::Stored;
use crate::runner::repair;

/// Longest reason of a repair, in bytes: it stands in status.
const REASON_LIMIT: usize = 600;

/// What the record of a released lock says.
const INTERRUPTED: &str = "interrupted";

/// The repairs so far.
#[derive(Default)]
pub struct Repairs {
    /// For the plan.
    pub planned: Vec<PlannedRepair>,
    /// What was rehearsed with, in the order in which they escalate.
    pub done: Vec<RepairAction>,
    seeds: Vec<Value>,
}

impl Repairs {
    /// What is known before the first run: helm does not work on a revision that is pending. To mark it as failed takes
    /// nobody's approval if a runner left it. It is planned if the helm process of somebody else did, and as long as that may
    /// still run, a person must say that it does not.
    pub async fn begin(ctx: &Context, script: &Script<'_>) -> Result<Self, Error> {
        let mut repairs = Self::default();
        let Some(revision) = script.locked else { return Ok(repairs) };
        let mut stored = storage(ctx, script).read(revision).await?;
        stored.record.mark_failed(INTERRUPTED);
        repairs.seed(ctx, revision, &stored).await?;
        if revision.pending() && revision.plan.is_none() {
            let gone = left_behind(revision, server_time(ctx).await?);
            let since = revision.written.map(|time| format!(" since {time}")).unwrap_or_default();
            let who = if gone {
                "its helm process was killed"
            } else {
                "a helm process of somebody else may be at work on it"
            };
            repairs.planned.push(PlannedRepair {
                remedy: Remedy::Unlock,
                object: format!("Secret/{}", revision.secret),
                message: format!("revision {} has been {}{since}: {who}", revision.number, revision.status),
                needs_approval: !gone,
            });
        }
        Ok(repairs)
    }

    /// Whether the next run takes objects that are not the release's.
    pub fn adopts(&self) -> bool {
        self.done.iter().any(|repair| repair.remedy == Remedy::Adopt)
    }

    /// How the next run is rehearsed.
    pub fn settings(&self) -> Settings {
        let replaced = self.done.iter().filter(|repair| repair.remedy == Remedy::Replace);
        Settings {
            seeds: self.seeds.clone(),
            adopts: self.adopts(),
            replaced: replaced.filter_map(|repair| repair.object.clone()).collect(),
            brought: Vec::new(),
        }
    }

    /// The objects that are to be adopted. helm names only the first of them when it is refused.
    pub fn adopt(&mut self, objects: Vec<(ObjectRef, String)>) {
        for (object, message) in objects {
            self.plan(Remedy::Adopt, object.to_string(), message);
        }
    }

    /// Rehearses with these repairs from now on.
    pub async fn add(
        &mut self,
        ctx: &Context,
        script: &Script<'_>,
        next: Vec<RepairAction>,
        causes: &[Cause],
    ) -> Result<(), Error> {
        for repair in next {
            let cause = causes.iter().find(|cause| cause.object == repair.object);
            match repair.remedy {
                Remedy::RewriteApis => self.rewrite(ctx, script).await?,
                // Named once the chart is rendered; see `adopt`.
                Remedy::Adopt => {}
                remedy => {
                    let message = cause.map_or("", |cause| cause.message.as_str());
                    let message = redact::head(&ctx.secrets.clean(message), REASON_LIMIT);
                    self.plan(remedy, repair.object.as_ref().map(ToString::to_string).unwrap_or_default(), message);
                }
            }
            self.done.push(repair);
        }
        Ok(())
    }

    fn plan(&mut self, remedy: Remedy, object: String, message: String) {
        let known = self.planned.iter().any(|known| (known.remedy, &known.object) == (remedy, &object));
        if !known {
            self.planned.push(PlannedRepair { remedy, object, message, needs_approval: false });
            self.planned.sort_by_key(|repair| repair.remedy);
        }
    }

    /// Rehearses with records that name the successors of removed APIs.
    async fn rewrite(&mut self, ctx: &Context, script: &Script<'_>) -> Result<(), Error> {
        let storage = storage(ctx, script);
        for rewrite in repair::rewrites(ctx, &storage, &storage.history().await?).await? {
            let mut stored = rewrite.stored;
            stored.record.set_manifest(rewrite.documents.text());
            if script.locked.is_some_and(|locked| locked.number == rewrite.revision.number) {
                stored.record.mark_failed(INTERRUPTED);
            }
            self.seed(ctx, &rewrite.revision, &stored).await?;
            for (object, message) in rewrite.reasons {
                self.plan(Remedy::RewriteApis, object.to_string(), message);
            }
        }
        Ok(())
    }

    /// Has helm find another record than the server's.
    async fn seed(&mut self, ctx: &Context, revision: &Revision, stored: &Stored) -> Result<(), Error> {
        let secrets: Api<Secret> = ctx.api();
        let doing = format!("read Secret/{}", revision.secret);
        let mut secret = request(&doing, || secrets.get(&revision.secret)).await?;
        stored.put_into(&mut secret)?;
        let secret = serde_json::to_value(&secret).map_err(|source| Error::Json { what: "a record", source })?;
        self.seeds.retain(|seed| seed["metadata"]["name"] != secret["metadata"]["name"]);
        self.seeds.push(secret);
        Ok(())
    }
}
