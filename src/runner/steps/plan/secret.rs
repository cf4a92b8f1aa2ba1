//! The plan Secret: written once, immutable, deleted with its `CoderUpgrade` or when newer ones replace it. [`super::held`] has
//! what is different in the middle of a change.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, PartialObjectMeta, Patch, PatchParams, PostParams, Preconditions,
};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::api::{CoderUpgrade, FailureClass, label};
use crate::core::plan::{Plan, key};
use crate::core::report::Problem;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// Type of the Secret.
pub const TYPE: &str = "coderupgrade.dev/plan";
/// What the data of a Secret may take together, in bytes: a limit of the API server.
const LIMIT: usize = 1 << 20;
/// Longest value of a label.
const LABEL_LIMIT: usize = 63;

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

/// Name of the Secret with a plan.
pub fn name(plan: &Plan) -> String {
    format!("{}-plan-{}", plan.release, plan.id)
}

/// The plans of this `CoderUpgrade`.
pub fn of_upgrade(ctx: &Context) -> ListParams {
    ListParams::default().labels(&format!("{}={}", label::UPGRADE_UID, ctx.uid)).fields(&format!("type={TYPE}"))
}

/// Writes the Secret, or finds that an earlier try has written it. Returns its name.
pub async fn write(ctx: &Context, upgrade: &CoderUpgrade, parts: Parts<'_>) -> Result<String, Error> {
    let name = name(parts.plan);
    // In the middle of a change it belongs to nobody from the beginning.
    let owner = (!under_way(upgrade)).then(|| owner(ctx));
    let secret = object(ctx, &name, parts.plan, data(&parts)?, owner);
    let secrets: Api<Secret> = ctx.api();
    for _ in 0..2 {
        match secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => return Ok(name),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(Error::api(format!("write Secret/{name}"), error)),
        }
        let found = request(&format!("read Secret/{name}"), || secrets.get_metadata_opt(&name)).await?;
        let Some(found) = found else { continue };
        let ours = found.labels().get(label::UPGRADE_UID) == Some(&ctx.uid);
        if ours && found.metadata.deletion_timestamp.is_none() {
            return Ok(name);
        }
        if !ours && belongs_to_somebody(ctx, &found).await? {
            break;
        }
        // Left behind by a CoderUpgrade that is gone. Whatever holds it is not ours.
        delete(&secrets, &found).await?;
    }
    let message = format!("Secret/{name} is the same plan of another CoderUpgrade, and it is still there");
    Err(Problem::new(FailureClass::PlanOutdated, message).object(format!("Secret/{name}")).into())
}

/// Whether the `CoderUpgrade` of a plan is still there.
pub async fn belongs_to_somebody(ctx: &Context, plan: &PartialObjectMeta<Secret>) -> Result<bool, Error> {
    let (Some(name), Some(uid)) = (plan.labels().get(label::UPGRADE), plan.labels().get(label::UPGRADE_UID)) else {
        return Ok(true);
    };
    // The label has the beginning of a long name: who has such a one is not looked for.
    if name.len() >= LABEL_LIMIT {
        return Ok(true);
    }
    let upgrades: Api<CoderUpgrade> = ctx.api();
    let found = request(&format!("read CoderUpgrade/{name}"), || upgrades.get_metadata_opt(name)).await?;
    Ok(found.is_some_and(|found| found.uid().as_ref() == Some(uid)))
}

/// Whether a change is under way: its plans are needed until Coder was verified.
pub fn under_way(upgrade: &CoderUpgrade) -> bool {
    let status = upgrade.status.as_ref();
    let begun = status
        .is_some_and(|status| status.change_started || status.recovery_required || !status.scaled_down.is_empty());
    begun || upgrade.metadata.deletion_timestamp.is_some()
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

/// The Secret with a plan.
pub fn object(
    ctx: &Context,
    name: &str,
    plan: &Plan,
    data: BTreeMap<String, ByteString>,
    owner: Option<OwnerReference>,
) -> Secret {
    let labels = [
        ("app.kubernetes.io/managed-by", "coder-upgrade-operator".to_owned()),
        (label::UPGRADE, ctx.upgrade.chars().take(LABEL_LIMIT).collect()),
        (label::UPGRADE_UID, ctx.uid.clone()),
        (label::PLAN, plan.id.clone()),
    ];
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(ctx.namespace.clone()),
            labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.into()),
        immutable: Some(true),
        data: Some(data),
        ..Secret::default()
    }
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

/// Deletes exactly this Secret.
pub async fn delete(secrets: &Api<Secret>, secret: &PartialObjectMeta<Secret>) -> Result<(), Error> {
    let name = secret.name_any();
    let same = Preconditions { uid: secret.uid(), resource_version: None };
    let delete = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
    match request(&format!("delete the old plan Secret/{name}"), || secrets.delete(&name, &delete)).await {
        Err(error) if error.has_code(404) || error.has_code(409) => Ok(()),
        deleted => deleted.map(|_| ()),
    }
}

/// The reference to the `CoderUpgrade` that this runner works for. Without `blockOwnerDeletion`, which takes a right that the
/// runner does not need otherwise.
pub fn owner(ctx: &Context) -> OwnerReference {
    OwnerReference {
        api_version: CoderUpgrade::api_version(&()).into_owned(),
        kind: CoderUpgrade::kind(&()).into_owned(),
        name: ctx.upgrade.clone(),
        uid: ctx.uid.clone(),
        controller: None,
        block_owner_deletion: None,
    }
}

/// Makes a plan Secret that belongs to nobody the `CoderUpgrade`'s own. One that cannot be given back is left to the next plan.
pub async fn give_back(ctx: &Context, held: &PartialObjectMeta<Secret>) {
    if !held.owner_references().is_empty() {
        return;
    }
    let (name, secrets): (String, Api<Secret>) = (held.name_any(), ctx.api());
    match own(&secrets, &name, held.uid(), held.resource_version(), &json!([owner(ctx)])).await {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!("Secret/{name} was changed by somebody else meanwhile; the next plan looks after it");
        }
        Err(error) => tracing::warn!("{error}; the next plan looks after it"),
    }
}

/// Writes the owners of exactly this Secret. False if it is gone or was changed meanwhile.
pub async fn own(
    secrets: &Api<Secret>,
    name: &str,
    uid: Option<String>,
    version: Option<String>,
    owners: &Value,
) -> Result<bool, Error> {
    let patch = Patch::Merge(json!({"metadata": {"uid": uid, "resourceVersion": version, "ownerReferences": owners}}));
    let parameters = PatchParams::default();
    match request(&format!("hold Secret/{name}"), || secrets.patch_metadata(name, &parameters, &patch)).await {
        Ok(_) => Ok(true),
        Err(error) if error.has_code(404) || error.has_code(409) => Ok(false),
        Err(error) => Err(error),
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
