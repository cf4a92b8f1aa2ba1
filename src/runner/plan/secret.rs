//! The plan Secret: written once, immutable, thrown away with its `CoderUpgrade` or when newer ones replace it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use kube::{Resource, ResourceExt};
use serde_json::Value;

use crate::api::{CoderUpgrade, FailureClass, label};
use crate::core::plan::{Plan, key};
use crate::core::report::Problem;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// Type of the Secret.
const TYPE: &str = "coderupgrade.dev/plan";
/// What the data of a Secret may take together, in bytes: a limit of the API server.
const LIMIT: usize = 1 << 20;

/// What goes into the Secret.
pub struct Parts<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The packaged chart.
    pub chart: Vec<u8>,
    /// All values.
    pub values: &'a Value,
    /// helm's record of the release before the change.
    pub previous: Option<Vec<u8>>,
}

/// Writes the Secret, or finds that an earlier try has written it. Returns its name.
pub async fn write(ctx: &Context, upgrade: &CoderUpgrade, parts: Parts<'_>) -> Result<String, Error> {
    let name = format!("{}-plan-{}", parts.plan.release, parts.plan.id);
    let secret = build(upgrade, &name, &parts)?;
    let secrets: Api<Secret> = ctx.api();
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(name),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let found = request(&format!("read Secret/{name}"), || secrets.get_metadata(&name)).await?;
            let ours = found.owner_references().iter().any(|owner| owner.uid == ctx.uid);
            if ours && found.metadata.deletion_timestamp.is_none() {
                return Ok(name);
            }
            Err(Problem::new(
                FailureClass::PlanOutdated,
                format!(
                    "Secret/{name} is the same plan of another CoderUpgrade, which was deleted; it will go with that"
                ),
            )
            .object(format!("Secret/{name}"))
            .into())
        }
        Err(error) => Err(Error::api(format!("write Secret/{name}"), error)),
    }
}

/// Whether the plan fits into a Secret.
pub fn check(parts: &Parts<'_>) -> Result<(), Error> {
    data(parts).map(drop)
}

fn data(parts: &Parts<'_>) -> Result<BTreeMap<String, ByteString>, Error> {
    let Parts { plan, chart, values, previous } = parts;
    let json = |what, value: serde_json::Result<Vec<u8>>| value.map_err(|source| Error::Json { what, source });
    let mut data = BTreeMap::from([
        (key::PLAN.to_owned(), ByteString(json("the plan", serde_json::to_vec(plan))?)),
        (key::CHART.to_owned(), ByteString(chart.clone())),
        (key::VALUES.to_owned(), ByteString(json("the values", serde_json::to_vec(values))?)),
    ]);
    data.extend(previous.clone().map(|record| (key::PREVIOUS_RELEASE.to_owned(), ByteString(record))));
    check_size(&data)?;
    Ok(data)
}

fn build(upgrade: &CoderUpgrade, name: &str, parts: &Parts<'_>) -> Result<Secret, Error> {
    let data = data(parts)?;
    let plan = parts.plan;
    let uid = upgrade.uid().unwrap_or_default();
    let labels = [
        ("app.kubernetes.io/managed-by", "coder-upgrade-operator".to_owned()),
        (label::UPGRADE, upgrade.name_any().chars().take(63).collect()),
        (label::UPGRADE_UID, uid),
        (label::PLAN, plan.id.clone()),
    ];
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: upgrade.namespace(),
            labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            owner_references: upgrade.owner_ref(&()).map(|owner| vec![unblocking(owner)]),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.into()),
        immutable: Some(true),
        data: Some(data),
        ..Secret::default()
    })
}

/// Without `blockOwnerDeletion`, which takes a right that the runner does not need otherwise.
fn unblocking(owner: OwnerReference) -> OwnerReference {
    OwnerReference { block_owner_deletion: None, ..owner }
}

fn check_size(data: &BTreeMap<String, ByteString>) -> Result<(), Box<Problem>> {
    let total: usize = data.values().map(|part| part.0.len()).sum();
    if total <= LIMIT {
        return Ok(());
    }
    let parts: Vec<String> =
        data.iter().map(|(key, part)| format!("{key} {} KiB", part.0.len().div_ceil(1024))).collect();
    Err(Problem::new(
        FailureClass::TooLarge,
        format!("the plan takes {} KiB of the 1024 KiB of a Secret: {}", total.div_ceil(1024), parts.join(", ")),
    )
    .field("spec.chart")
    .boxed())
}

/// Deletes older plans of this `CoderUpgrade` beyond the limit, the oldest first, and never `current`. A plan that cannot
/// be deleted is left to the next time.
pub async fn prune(ctx: &Context, limit: i32, current: &str) {
    let secrets: Api<Secret> = ctx.api();
    let ours =
        ListParams::default().labels(&format!("{}={}", label::UPGRADE_UID, ctx.uid)).fields(&format!("type={TYPE}"));
    let found = match request("list older plans", || secrets.list_metadata(&ours)).await {
        Ok(found) => found.items,
        Err(error) => return tracing::warn!("{error}"),
    };
    let mut older: Vec<_> = found.into_iter().filter(|secret| secret.name_any() != current).collect();
    older.sort_by_key(|secret| std::cmp::Reverse(secret.creation_timestamp()));
    for secret in older.into_iter().skip(usize::try_from(limit - 1).unwrap_or_default()) {
        let name = secret.name_any();
        let same = Preconditions { uid: secret.uid(), resource_version: None };
        let delete = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match request(&format!("delete the old plan Secret/{name}"), || secrets.delete(&name, &delete)).await {
            Ok(_) => tracing::info!("deleted the old plan Secret/{name}"),
            Err(error) => tracing::warn!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_does_not_fit_says_how_large_its_parts_are() {
        let data = |chart: usize| {
            BTreeMap::from([
                ("chart.tgz".to_owned(), ByteString(vec![0; chart])),
                ("plan.json".to_owned(), ByteString(vec![0; 10])),
            ])
        };
        assert!(check_size(&data(1000)).is_ok());
        let problem = check_size(&data(LIMIT)).unwrap_err();
        assert_eq!(problem.class, FailureClass::TooLarge);
        assert!(problem.message.contains("chart.tgz 1024 KiB, plan.json 1 KiB"), "{}", problem.message);
    }
}
