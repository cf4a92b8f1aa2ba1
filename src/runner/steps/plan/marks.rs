//! The metadata of objects that exist: other programs mark there what they manage.

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;
use kube::core::ObjectMeta;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::surroundings::known;
use crate::core::helm::documents::Documents;
use crate::core::helm::workload::{Workload, WorkloadKind};
use crate::core::object::{KindName, ObjectRef};
use crate::core::plan::checks::Mark;
use crate::core::plan::rehearsal::Rehearsal;
use crate::runner::cluster::kinds::live;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::rollout::observer::Observer;

/// Those of these workloads that exist, and those of the Jobs with which k3s runs helm for the release. What the observer has
/// not seen yet is read.
pub async fn of_workloads(
    ctx: &Context,
    release: &str,
    workloads: &[Workload],
    observer: &Observer,
) -> Result<Vec<Mark>, Error> {
    let read = workloads.iter().map(async |workload| {
        let name = KindName::new(workload.kind, &workload.name);
        if let Some(seen) = observer.metadata(workload) {
            return Ok(Some((name, seen)));
        }
        let metadata = match workload.kind {
            WorkloadKind::Deployment => metadata(ctx.api::<Deployment>(), workload).await,
            WorkloadKind::StatefulSet => metadata(ctx.api::<StatefulSet>(), workload).await,
            WorkloadKind::DaemonSet => metadata(ctx.api::<DaemonSet>(), workload).await,
        };
        match metadata {
            Ok(metadata) => Ok(metadata.map(|metadata| (name, metadata))),
            Err(error) if error.has_code(403) => Ok(None),
            Err(error) => Err(error),
        }
    });
    let (found, jobs) = futures::future::try_join(try_join_all(read), jobs_of_k3s(ctx, release)).await?;
    Ok(found.into_iter().flatten().chain(jobs).collect())
}

async fn metadata<K>(api: Api<K>, workload: &Workload) -> Result<Option<ObjectMeta>, Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let doing = format!("read {}/{}", workload.kind, workload.name);
    Ok(request(&doing, || api.get_metadata_opt(&workload.name)).await?.map(|object| object.metadata))
}

/// The helm-controller of k3s puts no mark on what a chart creates, but on the Jobs in which it runs helm. They are only seen
/// if its `HelmChart` lies in this namespace, too.
async fn jobs_of_k3s(ctx: &Context, release: &str) -> Result<Vec<Mark>, Error> {
    let jobs: Api<Job> = ctx.api();
    let selector = ListParams::default().labels(&format!("helmcharts.helm.cattle.io/chart={release}"));
    let doing = "list the Jobs of a HelmChart";
    let found = known(doing, request(doing, || jobs.list_metadata(&selector)).await)?;
    let jobs = found.into_iter().flat_map(|list| list.items);
    Ok(jobs.map(|job| (KindName::new("Job", job.name_any()), job.metadata)).collect())
}

/// Those of the objects of a manifest that exist. The rehearsal has seen most of them.
pub async fn of_objects(ctx: &Context, manifest: &Documents, rehearsal: &Rehearsal) -> Result<Vec<Mark>, Error> {
    let mut marks = Vec::new();
    for write in &rehearsal.writes {
        let before = write.before.as_ref().map(|object| object["metadata"].clone());
        let metadata = before.and_then(|metadata| serde_json::from_value(metadata).ok());
        marks.extend(metadata.map(|metadata| (write.object.kind_name(), metadata)));
    }
    for (object, _) in manifest.objects() {
        if rehearsal.writes.iter().any(|write| is_same(&write.object, &object)) {
            continue;
        }
        match live(ctx, &object).await {
            Ok(found) => marks.extend(found.map(|found| (object.kind_name(), found.metadata))),
            Err(error) if error.has_code(403) => tracing::debug!("{error}: its marks stay unknown"),
            Err(error) => return Err(error),
        }
    }
    Ok(marks)
}

/// A manifest gives a namespace to every object, even to those that lie in none.
fn is_same(written: &ObjectRef, rendered: &ObjectRef) -> bool {
    let namespace = rendered.namespace.clone().filter(|_| written.namespace.is_some());
    written.same(&ObjectRef { namespace, ..rendered.clone() })
}
