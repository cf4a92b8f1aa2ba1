//! All that a decision sees.

use jiff::Timestamp;
use kube::{Api, ResourceExt, runtime::reflector::ObjectRef};

use super::context::{Context, Error, bounded};
use crate::{
    api::{CoderUpgrade, label},
    core::{job::JobFacts, observed::Observed},
};

/// The facts around an object, from the caches.
///
/// A cache may lag. That is harmless here: a status decided on an old object is refused by its resourceVersion, and a
/// Job whose existence is missed cannot be created twice, because its name is the same.
pub fn observe(context: &Context, upgrade: CoderUpgrade) -> Observed {
    let uid = upgrade.uid();
    let ours = |job: &&std::sync::Arc<k8s_openapi::api::batch::v1::Job>| {
        uid.is_some() && job.labels().get(label::UPGRADE_UID) == uid.as_ref()
    };
    let jobs = context.jobs.state().iter().filter(ours).map(|job| JobFacts::from(&**job)).collect();
    let siblings = context.upgrades.state();
    let claimed_by = siblings.iter().filter(|other| claims_before(other, &upgrade)).map(|other| other.name_any()).min();
    Observed { now: Timestamp::now(), upgrade, jobs, claimed_by, retry_delay: context.retry_delay }
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
