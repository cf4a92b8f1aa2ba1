//! All that a decision sees.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::{Api, ResourceExt, runtime::reflector::ObjectRef};

use super::context::{Context, Error, bounded};
use crate::{
    api::{CoderUpgrade, label},
    core::{
        after::Sibling,
        job::{JOB_NAME_LABEL, JobFacts},
        observed::Observed,
        workload::PodFacts,
    },
};

/// The facts around an object, from the caches.
///
/// A cache may lag. That is harmless here: a status decided on an old object is refused by its resourceVersion, and a
/// Job whose existence is missed cannot be created twice, because its name is the same.
pub fn observe(context: &Context, upgrade: CoderUpgrade) -> Observed {
    let uid = upgrade.uid();
    let ours = |job: &&Arc<Job>| uid.is_some() && job.labels().get(label::UPGRADE_UID) == uid.as_ref();
    let jobs = context.jobs.state();
    let jobs =
        jobs.iter().filter(ours).map(|job| JobFacts { trouble: trouble(context, job), ..JobFacts::from(&**job) });
    let jobs = jobs.collect();
    let others = context.upgrades.state();
    let claimed_by = others.iter().filter(|other| claims_before(other, &upgrade)).map(|other| other.name_any()).min();
    let siblings = siblings(context, &upgrade);
    Observed {
        now: Timestamp::now(),
        upgrade,
        jobs,
        claimed_by,
        siblings,
        left: None,
        drift: Vec::new(),
        retry_delay: context.retry_delay,
        allowed: context.defaults.allowed.clone(),
    }
}

/// The objects that this one comes after, directly or over others.
fn siblings(context: &Context, upgrade: &CoderUpgrade) -> Vec<Sibling> {
    let namespace = upgrade.namespace().unwrap_or_default();
    let mut found: Vec<Sibling> = Vec::new();
    let mut wanted = upgrade.spec.after.clone();
    while let Some(name) = wanted.pop() {
        if found.iter().any(|sibling| sibling.name == name) {
            continue;
        }
        let Some(other) = context.upgrades.get(&ObjectRef::new(&name).within(&namespace)) else { continue };
        let sibling = Sibling::from(&*other);
        wanted.extend(sibling.after.iter().cloned());
        found.push(sibling);
    }
    found
}

/// What keeps the pod of a Job from running.
fn trouble(context: &Context, job: &Job) -> Option<String> {
    context.pods.state().iter().filter(|pod| pod.labels().get(JOB_NAME_LABEL) == job.metadata.name.as_ref()).find_map(
        |pod| {
            let pod = PodFacts::from(&**pod);
            (!pod.leaving).then(|| pod.trouble()).flatten().map(|trouble| format!("Pod/{} {trouble}", pod.name))
        },
    )
}

/// The object as it is stored now, for a decision that changes something in the cluster.
pub async fn fresh(context: &Context, upgrade: &CoderUpgrade) -> Result<Option<CoderUpgrade>, Error> {
    let name = upgrade.name_any();
    let api: Api<CoderUpgrade> = Api::namespaced(context.client.clone(), &upgrade.namespace().unwrap_or_default());
    let found = bounded(format!("read {}", ObjectRef::from_obj(upgrade)), api.get_opt(&name)).await?;
    Ok(found.filter(|found| found.uid() == upgrade.uid()))
}

/// Whether another object had the release first: one in the middle of a change, otherwise the older one.
fn claims_before(other: &CoderUpgrade, upgrade: &CoderUpgrade) -> bool {
    let rank =
        |one: &CoderUpgrade| (one.finalizers().is_empty(), one.creation_timestamp().map(|time| time.0), one.name_any());
    other.uid() != upgrade.uid()
        && other.namespace() == upgrade.namespace()
        && other.spec.release == upgrade.spec.release
        && rank(other) < rank(upgrade)
}
