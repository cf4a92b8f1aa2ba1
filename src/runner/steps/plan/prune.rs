//! What becomes of older plans.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, ListParams, PartialObjectMeta};

use super::secret;
use crate::api::{CoderUpgrade, label};
use crate::runner::context::{Context, request};

/// Cleans up the plans other than this one, which lies in the `current` Secrets: deletes those of this `CoderUpgrade` beyond
/// the limit, the oldest first, gives it those that a change has held, and deletes what other ones have left that are gone. In
/// the middle of a change all stay: an older one may have the release as it was before. What cannot be done is left to the next
/// time.
pub async fn prune(ctx: &Context, upgrade: &CoderUpgrade, id: &str, current: &[String]) {
    if secret::under_way(upgrade) {
        return;
    }
    let secrets: Api<Secret> = ctx.api();
    let all = ListParams::default().labels(label::PLAN).fields(&format!("type={}", secret::TYPE));
    let found = match request("list older plans", || secrets.list_metadata(&all)).await {
        Ok(found) => found.items,
        Err(error) => return tracing::warn!("{error}"),
    };
    let of_us = |secret: &PartialObjectMeta<Secret>| secret.labels().get(label::UPGRADE_UID) == Some(&ctx.uid);
    let others = found.into_iter().filter(|secret| !current.contains(&secret.name_any()));
    let (ours, theirs): (Vec<_>, Vec<_>) = others.partition(of_us);
    let mut plans: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for secret in ours {
        plans.entry(secret.labels().get(label::PLAN).cloned().unwrap_or_default()).or_default().push(secret);
    }
    // Parts that an earlier write of the same plan took, and this one does not.
    let mut gone = plans.remove(id).unwrap_or_default();
    let mut plans: Vec<Vec<_>> = plans.into_values().collect();
    plans.sort_by_key(|parts| std::cmp::Reverse(parts.iter().map(ResourceExt::creation_timestamp).max()));
    let kept = usize::try_from(upgrade.spec.history_limit - 1).unwrap_or_default().min(plans.len());
    gone.extend(plans.split_off(kept).into_iter().flatten());
    for old in theirs.into_iter().filter(|old| old.owner_references().is_empty()) {
        match secret::belongs_to_somebody(ctx, &old).await {
            Ok(false) => gone.push(old),
            Ok(true) => {}
            Err(error) => tracing::warn!("{error}"),
        }
    }
    for old in plans.iter().flatten() {
        secret::give_back(ctx, old).await;
    }
    for old in gone {
        match secret::delete(&secrets, &old).await {
            Ok(()) => tracing::info!("deleted the old plan Secret/{}", old.name_any()),
            Err(error) => tracing::warn!("{error}"),
        }
    }
}
