//! The installed release, as Helm's storage has it, and what a plan takes from it.

use std::time::Duration;

use semver::Version;
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};

use crate::api::{Installed, PlannedAction, ProductLine};
use crate::core::helm::chart::ChartMetadata;
use crate::core::helm::documents::Documents;
use crate::core::helm::history;
use crate::core::helm::history::Revision;
use crate::core::helm::version;
use crate::core::helm::wrapped::Wrapped;
use crate::core::plan::Plan;
use crate::core::plan::presence::{LiveWorkload, manifest, running};
use crate::core::report::Problem;
use crate::core::steps::uninstall;
use crate::runner::cluster::pod_secrets;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::record::Record;
use crate::runner::helm::storage::{Storage, Stored};

/// How long an uninstall of somebody else gets to end before it counts as interrupted. helm removes its records last, so a plan
/// that a deleted workload has woken would otherwise find a release that is half there.
const UNINSTALL: Duration = Duration::from_secs(20);
/// How often its records are looked at meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// The installed release: the newest revision, and the one whose values are kept.
pub struct Release {
    revisions: Vec<Revision>,
    newest: Option<RevisionRecord>,
    /// Only if it is not the newest.
    base: Option<RevisionRecord>,
    /// What runs, if nothing is installed by helm's records.
    running: Running,
}

/// Coder as it runs without a record of helm.
#[derive(Default)]
struct Running {
    line: Option<ProductLine>,
    version: Option<Version>,
    manifest: String,
}

/// A revision with its record.
pub struct RevisionRecord {
    /// What helm's labels say of it.
    pub revision: Revision,
    /// The record.
    pub stored: Stored,
    chart: ChartMetadata,
    installed: Installed,
}

impl RevisionRecord {
    async fn read(storage: &Storage, revision: &Revision) -> Result<Self, Error> {
        let stored = storage.read(revision).await?;
        let chart = stored.record.chart().map_err(|source| stored.broken(source))?;
        let installed = stored.record.installed().map_err(|source| stored.broken(source))?;
        Ok(Self { revision: revision.clone(), stored, chart, installed })
    }
}

impl Release {
    /// Reads it from Helm's storage. `under_way` says that an uninstall may be the operator's own, which nobody has to wait for.
    pub async fn read(ctx: &Context, storage: &Storage, under_way: bool) -> Result<Self, Error> {
        let begun = Instant::now();
        let mut revisions = storage.history().await?;
        while revisions.first().is_some_and(|newest| newest.status == "uninstalling")
            && !under_way
            && begun.elapsed() < UNINSTALL
        {
            ctx.reporter.progress("waiting for the end of an uninstall that somebody else has begun");
            sleep(LOOK).await;
            revisions = storage.history().await?;
        }
        let Some(newest) = revisions.first() else {
            return Ok(Self { revisions, newest: None, base: None, running: Running::default() });
        };
        let base = history::base(&revisions).filter(|base| base.number != newest.number);
        let newest = RevisionRecord::read(storage, newest).await?;
        let base = match base {
            Some(base) => Some(RevisionRecord::read(storage, base).await?),
            None => None,
        };
        for found in base.iter().chain([&newest]) {
            ctx.secrets.hide_values(&Value::Object(found.stored.record.values()));
            pod_secrets::of_manifest(ctx, found.stored.record.manifest()).await;
        }
        Ok(Self { revisions, newest: Some(newest), base, running: Running::default() })
    }

    /// The objects that may be in the cluster by helm's records.
    pub async fn applied(&self, ctx: &Context, storage: &Storage, plan: &Plan) -> Result<Documents, Error> {
        let known: Vec<&Stored> = self.newest.iter().chain(&self.base).map(|read| &read.stored).collect();
        storage.union(uninstall::applied(plan, &self.revisions), &known, &ctx.namespace).await
    }

    fn base(&self) -> Option<&RevisionRecord> {
        self.base.as_ref().or(self.newest.as_ref())
    }

    /// Plans from what runs: helm has nothing installed by its records.
    pub fn runs(&mut self, live: &[LiveWorkload]) {
        let (product, version) = running(live).unzip();
        self.running = Running { line: product, version: version.flatten(), manifest: manifest(live) };
    }

    /// Checks that the chart may follow on the one that is installed.
    pub fn check(&self, chart: &ChartMetadata) -> Result<(), Box<Problem>> {
        self.base().map_or(Ok(()), |base| chart.follows(&base.chart))
    }

    /// What is installed: the newest revision that is deployed. A newer one that failed may or may not have started
    /// anything, which the answers of the pods tell.
    pub fn installed(&self) -> Option<Installed> {
        self.base().map(|base| base.installed.clone())
    }

    /// Default values of the installed chart; null if nothing is installed.
    pub fn defaults(&self) -> Value {
        self.base().map_or(Value::Null, |base| base.stored.record.chart_part("values").clone())
    }

    /// Whether helm has any record of the release.
    pub fn recorded(&self) -> bool {
        self.newest.is_some()
    }

    /// The newest record.
    pub fn newest(&self) -> Option<&RevisionRecord> {
        self.newest.as_ref()
    }

    /// The installed product line, or that of what runs; Coder v2 if there is nothing.
    pub fn line(&self) -> ProductLine {
        let installed = self.base().map(|base| base.installed.line);
        self.running.line.or(installed).unwrap_or(ProductLine::V2)
    }

    /// The version of Coder's chart, if another chart brings it along.
    pub fn wrapped(&self) -> Option<&Wrapped> {
        self.base().and_then(|base| base.chart.wrapped.as_ref())
    }

    /// The version of Coder's chart whose data is there: that of the newest revision that is deployed. A newer one that failed is a
    /// hop that was not finished. Without a record it is the version that runs.
    pub fn version(&self) -> Option<Version> {
        let installed = || self.base().and_then(|base| version::parse(base.chart.coder_version()));
        self.running.version.clone().or_else(installed)
    }

    /// The version of a newer revision that failed, or was left pending, and was not made by this operator: nobody has looked
    /// whether a pod of it had started.
    pub fn tried_by_others(&self) -> Option<String> {
        let newest = self.newest.as_ref().filter(|_| self.base.is_some())?;
        newest.revision.plan.is_none().then(|| newest.chart.coder_version().to_owned())
    }

    /// Name of the installed chart of Coder.
    pub fn chart_name(&self) -> Option<&str> {
        self.base().map(|base| base.chart.runs())
    }

    /// The values that the release was given.
    pub fn values(&self) -> Option<Map<String, Value>> {
        self.base().map(|base| base.stored.record.values())
    }

    /// The manifest of what is installed. If nothing is by helm's records, the workloads that run.
    pub fn manifest(&self) -> &str {
        self.record().map_or(&self.running.manifest, Record::manifest)
    }

    /// The installed version of the chart, if that chart brings others along.
    pub fn packaged(&self) -> Option<&str> {
        let base = self.base().filter(|base| !base.chart.dependencies.is_empty() || base.chart.wrapped.is_some());
        base.map(|base| base.chart.version.as_str())
    }

    /// Whether this is the installed version of the chart.
    pub fn is_version(&self, version: &str) -> bool {
        let plain = version::plain;
        self.base().is_some_and(|base| plain(&base.chart.version) == plain(version))
    }

    /// helm's record of what is installed; none if nothing is.
    pub fn record(&self) -> Option<&Record> {
        let base = self.base().filter(|_| self.from().is_some());
        base.filter(|base| base.revision.status != "uninstalled").map(|base| &base.stored.record)
    }

    /// The newest revision, if helm would refuse to work on it: it was left pending, or half uninstalled.
    pub fn locked(&self) -> Option<&Revision> {
        let newest = self.newest.as_ref().map(|newest| &newest.revision);
        newest.filter(|newest| newest.pending() || newest.status == "uninstalling")
    }

    /// helm's record of what is installed, as stored.
    pub fn raw(&self) -> Option<Vec<u8>> {
        self.base().map(|base| base.stored.raw.clone())
    }

    /// The revision that the plan starts from; none if nothing is installed.
    pub fn from(&self) -> Option<Installed> {
        let newest = self.newest.as_ref().filter(|newest| newest.revision.status != "uninstalled");
        newest.map(|newest| newest.installed.clone())
    }

    /// What is to be done, seen from what helm would install.
    pub fn action(&self, rendered: &Record) -> PlannedAction {
        let Some(newest) = self.newest.as_ref().filter(|newest| newest.revision.status != "uninstalled") else {
            return PlannedAction::Install;
        };
        let record = &newest.stored.record;
        // The rendered manifests are not compared: a template may render something else each time (random passwords), so
        // that a release would never be up to date. What they are rendered from is compared instead.
        let same = newest.revision.deployed() && record.same_chart(rendered) && record.values() == rendered.values();
        if same { PlannedAction::Nothing } else { PlannedAction::Upgrade }
    }
}
