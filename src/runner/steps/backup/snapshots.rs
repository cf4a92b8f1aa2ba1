//! A backup by snapshots of the claims of the release.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use futures::future::try_join_all;
use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep_until, timeout};

use super::{BackupOrder, failed, foreign, record};
use crate::api::{BackupRecord, ClaimStatus, FailureClass, label};
use crate::core::object::ObjectRef;
use crate::core::plan::Plan;
use crate::core::report::Problem;
use crate::core::steps::backup::{Purpose, Snapshot, is_stale, recent_snapshots, snapshots_line};
use crate::core::steps::backup_objects::{SNAPSHOT_API, SNAPSHOT_KIND, snapshot};
use crate::runner::cluster::kinds;
use crate::runner::cluster::watch::broken;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// How long an error of a snapshot may stay. The snapshot controller tries again by itself and takes the error away.
const ERROR_PATIENCE: Duration = Duration::from_secs(15);
/// The field of the spec that asks for this.
const FIELD: &str = "spec.backup.volumeSnapshotClass";

/// Finds recent snapshots of all claims, or makes one of each and waits until they are ready.
pub async fn run(ctx: &Context, plan: &Plan, order: &BackupOrder, class: &str) -> Result<BackupRecord, Error> {
    let claims = &plan.inventory.claims;
    if claims.is_empty() {
        return Err(nothing_to_save().into());
    }
    let Some(api) = kinds::api(ctx, &reference(SNAPSHOT_KIND, Some(&ctx.namespace), "")).await? else {
        return Err(not_served().into());
    };
    class_exists(ctx, class).await?;
    if let Some(since) = order.since() {
        let everything = ListParams::default();
        let all = request("list VolumeSnapshots", || api.list(&everything)).await?.items;
        let all: Vec<Snapshot> = all.iter().map(Snapshot::from).collect();
        if let Some(found) = recent_snapshots(&all, claims, since) {
            let oldest = found.iter().filter_map(|snapshot| snapshot.taken).min().unwrap_or(since);
            return Ok(record(plan, names(&found), oldest, true, snapshots_line(&found)));
        }
    }
    let made = all_made(ctx, plan, order, &api, class).await?;
    let (done, total) = (AtomicUsize::new(0), made.len());
    let found = try_join_all(made.iter().map(async |snapshot| {
        let found = in_time(ctx, order, &api, snapshot).await?;
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        ctx.reporter.progress(&format!("{done} of {total} snapshots are ready"));
        Ok::<_, Error>(found)
    }));
    let found = found.await?;
    let finished = found.iter().filter_map(|snapshot| snapshot.taken).max().unwrap_or_else(Timestamp::now);
    Ok(record(plan, names(&found), finished, false, snapshots_line(&found)))
}

fn names(snapshots: &[Snapshot]) -> Vec<String> {
    snapshots.iter().map(|snapshot| format!("{SNAPSHOT_KIND}/{}", snapshot.name)).collect()
}

fn reference(kind: &str, namespace: Option<&str>, name: &str) -> ObjectRef {
    ObjectRef {
        api_version: SNAPSHOT_API.into(),
        kind: kind.into(),
        namespace: namespace.map(Into::into),
        name: name.into(),
    }
}

fn nothing_to_save() -> Problem {
    failed(
        "the release uses no PersistentVolumeClaim, so there is nothing to take a snapshot of: Coder's database lies \
         outside of the release; let spec.backup.cronJob name a CronJob that backs it up",
    )
    .field(FIELD)
}

fn not_served() -> Problem {
    failed(format!(
        "this cluster has no VolumeSnapshots ({SNAPSHOT_API}): install the CustomResourceDefinitions \
         volumesnapshots.snapshot.storage.k8s.io, volumesnapshotclasses.snapshot.storage.k8s.io and \
         volumesnapshotcontents.snapshot.storage.k8s.io with their controller, or use spec.backup.cronJob instead"
    ))
    .field(FIELD)
}

/// Classes belong to the cluster: a runner may have no right to read them, and then the snapshots tell.
async fn class_exists(ctx: &Context, class: &str) -> Result<(), Error> {
    let object = format!("VolumeSnapshotClass/{class}");
    let Some(classes) = kinds::api(ctx, &reference("VolumeSnapshotClass", None, class)).await? else {
        return Err(not_served().into());
    };
    match request(&format!("read {object}"), || classes.get_metadata_opt(class)).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => {
            let message = format!("{object}, which {FIELD} names, does not exist");
            Err(Problem::new(FailureClass::ReferenceMissing, message).object(object).field(FIELD).into())
        }
        Err(error) if error.has_code(403) => {
            tracing::debug!("no right to read {object}: whether it exists stays unknown");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// A snapshot of each claim, which an earlier try may have made already.
async fn all_made(
    ctx: &Context,
    plan: &Plan,
    order: &BackupOrder,
    api: &Api<DynamicObject>,
    class: &str,
) -> Result<Vec<DynamicObject>, Error> {
    let mut round = 0;
    loop {
        let purpose = order.purpose(ctx, plan, round);
        let each = plan.inventory.claims.iter().map(|claim| made(ctx, purpose, api, claim, class));
        let made = try_join_all(each).await?;
        let stale = |snapshot: Snapshot| snapshot.taken.is_some_and(|at| is_stale(at, Timestamp::now()));
        if !made.iter().any(|object| stale(Snapshot::from(object))) {
            return Ok(made);
        }
        round += 1; // Those of all claims go together.
    }
}

async fn made(
    ctx: &Context,
    purpose: Purpose<'_>,
    api: &Api<DynamicObject>,
    claim: &ClaimStatus,
    class: &str,
) -> Result<DynamicObject, Error> {
    let (name, plan) = (purpose.snapshot_name(&claim.name), purpose.plan);
    let object = format!("{SNAPSHOT_KIND}/{name}");
    ctx.reporter.progress(&format!("making {object} of PersistentVolumeClaim/{}", claim.name));
    let new = snapshot(&claim.name, class, &name, &ctx.namespace, &ctx.upgrade, plan);
    let parameters = PostParams::default();
    match request(&format!("create {object}"), || api.create(&parameters, &new)).await {
        Err(error) if error.has_code(409) => {
            let found = request(&format!("read {object}"), || api.get(&name)).await?;
            let ours = found.labels().get(label::PLAN).is_some_and(|id| id == plan)
                && Snapshot::from(&found).claim == claim.name;
            if ours { Ok(found) } else { Err(foreign(&object)) }
        }
        other => other,
    }
}

async fn in_time(
    ctx: &Context,
    order: &BackupOrder,
    api: &Api<DynamicObject>,
    snapshot: &DynamicObject,
) -> Result<Snapshot, Error> {
    let object = format!("{SNAPSHOT_KIND}/{}", snapshot.name_any());
    timeout(order.left(&snapshot.metadata), ready(ctx, api, &snapshot.name_any())).await.unwrap_or_else(|_| {
        let message = format!(
            "{object} did not become ready within {} s (spec.backup.timeout); is the snapshot controller at work?",
            order.timeout.as_secs()
        );
        Err(failed(message).object(object).into())
    })
}

/// Watches until the snapshot can be used, is gone, or an error of it stays.
async fn ready(ctx: &Context, api: &Api<DynamicObject>, name: &str) -> Result<Snapshot, Error> {
    let object = format!("{SNAPSHOT_KIND}/{name}");
    let mut seen = pin!(watch_object(api.clone(), name).default_backoff());
    let mut wrong: Option<(Instant, String)> = None;
    loop {
        let until = wrong.as_ref().map(|(since, _)| *since + ERROR_PATIENCE);
        let event = tokio::select! {
            event = seen.try_next() => event,
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                let why = wrong.map(|(_, why)| why).unwrap_or_default();
                return Err(failed(format!("{object}: {why}")).object(object).into());
            }
        };
        match event {
            Ok(Some(Some(now))) => {
                let now = Snapshot::from(&now);
                if now.ready {
                    return Ok(now);
                }
                let since = wrong.map_or_else(Instant::now, |(since, _)| since);
                wrong = now.error.map(|why| (since, why));
                ctx.reporter.progress(&match &wrong {
                    Some((_, why)) => format!("{object} is not ready: {why}"),
                    None => format!("waiting until {object} is ready"),
                });
            }
            Ok(_) => return Err(failed(format!("{object} was deleted before it was ready")).object(object).into()),
            Err(error) => broken(&object, error)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_a_way_out() {
        for problem in [nothing_to_save(), not_served()] {
            assert_eq!((problem.class, problem.field.as_deref()), (FailureClass::BackupFailed, Some(FIELD)));
            assert!(problem.message.contains("spec.backup.cronJob"), "{}", problem.message);
        }
        assert!(not_served().message.contains("volumesnapshots.snapshot.storage.k8s.io"));
    }
}
