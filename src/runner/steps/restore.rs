//! The restore step: restores the release that the plan saved, exactly as helm had rendered it then.
//!
//! The old chart is not fetched and not rendered again: the saved record holds the manifest, and a chart that consists of
//! nothing else lets helm do the rest (compare, apply, wait, remember).

use std::path::PathBuf;

use serde_json::{Value, json};

use super::apply::apply;
use super::fence::fenced;
use super::pause::Paused;
use super::plan::held;
use super::plan_secret::SavedPlan;
use super::proof::ExpectedRelease;
use super::replicas;
use super::upgrade::UpgradeOrder;
use crate::api::FailureClass;
use crate::core::helm::chart::ChartMetadata;
use crate::core::helm::documents::Documents;
use crate::core::helm::wrapped::{UNDER, VERSION};
use crate::core::object::ObjectRef;
use crate::core::plan::Plan;
use crate::core::report::{Problem, Upgraded};
use crate::core::rollout::started;
use crate::core::steps::restore;
use crate::core::steps::restore::RestoreWork;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::merge_base::extended;
use crate::runner::helm::package::Package;
use crate::runner::helm::record::Record;
use crate::runner::io;
use crate::runner::repair::serve;
use crate::runner::rollout::observer::Observer;
use crate::runner::rollout::starts::{Starts, started_now};
use crate::runner::rollout::verify::same_claims;

/// The saved release, as it is restored.
struct Unpacked {
    record: Record,
    metadata: ChartMetadata,
    /// Directory of the chart that was made of it.
    chart: PathBuf,
    /// File with its values.
    values: PathBuf,
}

/// Restores the saved release, or does what an earlier try has left to do, and verifies it.
pub async fn run(ctx: &Context, order: &UpgradeOrder, saved: &SavedPlan) -> Result<Upgraded, Error> {
    let plan = &saved.plan;
    let Some(previous) = &saved.previous else {
        let message = "the plan is for a first install: there is nothing to restore";
        return Err(Problem::new(FailureClass::PlanOutdated, message).into());
    };
    if order.new_version_started {
        return Err(too_late(plan).into());
    }
    let unpacked = unpack(ctx, previous.clone()).await?;
    let held = held::hold(ctx, saved).await?;
    let done = Box::pin(fenced(ctx, &plan.release, async |release| {
        let paused = Paused::new(ctx, release, plan, Some(&unpacked.record), &order.scaled_down)?;
        let done = Box::pin(restore(ctx, order, saved, &unpacked, &paused)).await;
        paused.end(done).await
    }))
    .await;
    held::end(ctx, saved, &held, done).await
}

async fn restore(
    ctx: &Context,
    order: &UpgradeOrder,
    saved: &SavedPlan,
    unpacked: &Unpacked,
    paused: &Paused<'_>,
) -> Result<Upgraded, Error> {
    let (plan, release) = (&saved.plan, paused.release());
    let before = &*release.history().await?;
    let documents = Documents::parse(unpacked.record.manifest(), &ctx.namespace)?;
    let workloads = documents.workloads();
    let observer = Observer::start(ctx, unpacked.metadata.runs(), plan.line, &workloads);
    let run = match restore::left(plan, before, saved.is_restored(release.storage(), before).await?) {
        RestoreWork::Verify => false,
        RestoreWork::Outdated(how) => return Err(Problem::new(FailureClass::PlanOutdated, how).into()),
        RestoreWork::Run => true,
        RestoreWork::Unlock(revision) => {
            same_claims(ctx, &plan.inventory.claims).await?;
            release.unlock(&revision, "interrupted: the helm process was killed").await?;
            true
        }
    };
    if run {
        let mut old_images = started::images(&documents);
        old_images.extend(unpacked.record.hook_objects(&ctx.namespace)?.into_iter().flat_map(|hook| hook.images));
        // From now on until the saved release is verified: a pod whose image arrives meanwhile migrates the database.
        let others = (!observer.watches(&plan.workloads))
            .then(|| Observer::start(ctx, &plan.chart_name, plan.line, &plan.workloads));
        let starts = Starts::watch(ctx, plan, &old_images, others.as_ref().unwrap_or(&observer)).await;
        if starts.have_begun() || starts.anywhere(ctx).await? {
            started_now(ctx, release.lease(), plan).await;
            return Err(too_late(plan).into());
        }
        let objects: Vec<ObjectRef> = documents.objects().map(|(name, _)| name).collect();
        let package = Package {
            version: &unpacked.metadata.version,
            chart: &unpacked.chart,
            values: &unpacked.values,
            restores: true,
            recreated: objects.clone(),
            timeout: order.helm_timeout,
            rollback_on_failure: false,
            recovery: order.recovery,
            workloads: &workloads,
            pauses: false,
            old_images: None,
            halt: starts.seen().clone(),
        };
        let applied = Box::pin(apply(ctx, plan, &package, &observer, paused));
        let applied = extended(ctx, release, plan, &objects, applied).await;
        if applied.is_ok() && !starts.seen().is_cancelled() {
            ctx.reporter.progress("waiting until the pods of the new version are gone");
            if let Some(pod) =
                release.lease().while_held(async { Ok(starts.none_left(order.verify_timeout).await) }).await?
            {
                let message =
                    format!("Pod/{pod} of the new version is still there after the saved release was restored");
                return Err(Problem::new(FailureClass::StillDeleting, message).object(format!("Pod/{pod}")).into());
            }
        }
        if starts.have_begun() {
            started_now(ctx, release.lease(), plan).await;
            return Err(too_late(plan).into());
        }
        applied?;
    }
    paused.resume().await?;
    let target = ExpectedRelease {
        plan,
        chart_name: unpacked.metadata.runs(),
        version: &unpacked.metadata.version,
        app_version: unpacked.metadata.app_version(),
        restored: true,
        timeout: order.verify_timeout,
        soak: order.soak,
        recovery: order.recovery,
    };
    target.verified(ctx, release, observer).await
}

fn too_late(plan: &Plan) -> Problem {
    let message = format!(
        "a pod of {} may have started and migrated the database: the saved release is not restored over it",
        plan.app_version
    );
    Problem::new(FailureClass::Downgrade, message)
}

/// Writes the saved release as a chart into the work directory, with its values beside it.
async fn unpack(ctx: &Context, mut record: Record) -> Result<Unpacked, Error> {
    let directory = ctx.work_dir.join("restore");
    let mut manifest = Documents::parse(record.manifest(), &ctx.namespace)?;
    serve(ctx, &mut manifest).await?;
    replicas::keep_in(ctx, &mut manifest).await?;
    record.set_manifest(manifest.text());
    let unusable = |error| Error::Plan(format!("the saved release {error}"));
    let metadata = record.chart().map_err(unusable)?;
    let chart = directory.join("chart");
    io::create_dir(&chart.join("templates")).await?;
    // Dependencies would have to lie beside it; what they rendered is in the manifest.
    let mut about = record.chart_part("metadata").clone();
    if let Value::Object(about) = &mut about {
        about.remove("dependencies");
        if let Some(wrapped) = &metadata.wrapped {
            let annotations = about.entry("annotations").or_insert_with(|| json!({}));
            annotations[VERSION] = wrapped.version.clone().into();
            annotations[UNDER] = wrapped.under.clone().into();
        }
    }
    io::write_private(&chart.join("Chart.yaml"), about.to_string().as_bytes()).await?;
    let defaults = record.chart_part("values");
    if defaults.is_object() {
        io::write_private(&chart.join("values.yaml"), defaults.to_string().as_bytes()).await?;
    }
    // As a file and not as a template: what looks like a template in a manifest is meant literally.
    for (name, content) in [("manifest", record.manifest().to_owned()), ("hooks", record.hooks())] {
        io::write_private(&chart.join(format!("{name}.yaml")), content.as_bytes()).await?;
        let template = format!("{{{{ .Files.Get \"{name}.yaml\" }}}}\n");
        io::write_private(&chart.join(format!("templates/{name}.yaml")), template.as_bytes()).await?;
    }
    let values = directory.join("values.json");
    io::write_private(&values, Value::Object(record.values()).to_string().as_bytes()).await?;
    Ok(Unpacked { record, metadata, chart, values })
}
