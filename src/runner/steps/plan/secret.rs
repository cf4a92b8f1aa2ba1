//! The plan Secret, and those with the rest of a plan that takes more than one: written once, immutable, deleted with their
//! `CoderUpgrade` or when newer ones replace them. [`super::held`] has what is different in the middle of a change.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, PartialObjectMeta, PartialObjectMetaExt, Patch, PatchParams, PostParams,
    Preconditions,
};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::api::{CoderUpgrade, FailureClass, label};
use crate::core::plan::parts::{self, MOST, PlanFile, ROOM, SecretData};
use crate::core::plan::{Plan, key};
use crate::core::report::Problem;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// Type of the Secret.
pub const TYPE: &str = "coderupgrade.dev/plan";
/// Longest value of a label.
const LABEL_LIMIT: usize = 63;

/// What the plan consists of.
pub struct Content<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The packaged chart.
    pub chart: Vec<u8>,
    /// All values.
    pub values: &'a Value,
    /// helm's record of the release before the change.
    pub previous: Option<Vec<u8>>,
}

/// Name of the Secret with a plan, or with the first part of it.
pub fn name(plan: &Plan) -> String {
    format!("{}-plan-{}", plan.release, plan.id)
}

/// The plans of this `CoderUpgrade`.
pub fn of_upgrade(ctx: &Context) -> ListParams {
    ListParams::default().labels(&format!("{}={}", label::UPGRADE_UID, ctx.uid)).fields(&format!("type={TYPE}"))
}

/// Writes the Secrets of the plan, or finds that an earlier try has written them. Returns their names.
pub async fn write(ctx: &Context, upgrade: &CoderUpgrade, content: Content<'_>) -> Result<Vec<String>, Error> {
    // In the middle of a change they belong to nobody from the beginning.
    let owner = (!under_way(upgrade)).then(|| owner(ctx));
    let plan = content.plan;
    let mut names = Vec::new();
    for (number, part) in (1..).zip(lay_out(content.files()?)?) {
        let secret = object(ctx, plan, number, part, owner.clone());
        names.push(secret.name_any());
        create(ctx, &secret).await?;
    }
    Ok(names)
}

async fn create(ctx: &Context, secret: &Secret) -> Result<(), Error> {
    let (name, secrets): (String, Api<Secret>) = (secret.name_any(), ctx.api());
    for _ in 0..2 {
        match secrets.create(&PostParams::default(), secret).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(Error::api(format!("write Secret/{name}"), error)),
        }
        let found = request(&format!("read Secret/{name}"), || secrets.get_opt(&name)).await?;
        let Some(found) = found else { continue };
        let ours = found.labels().get(label::UPGRADE_UID) == Some(&ctx.uid);
        // The same plan may say other things of the surroundings: its parts must be of one and the same writing.
        if ours && found.metadata.deletion_timestamp.is_none() && found.data == secret.data {
            return Ok(());
        }
        let found = found.metadata.into_response_partial();
        if !ours && belongs_to_somebody(ctx, &found).await? {
            break;
        }
        // Of an earlier try, or left behind by a CoderUpgrade that is gone. Whatever holds it is not ours.
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

/// Whether the plan fits into Secrets.
pub fn check(content: Content<'_>) -> Result<(), Error> {
    lay_out(content.files()?)?;
    Ok(())
}

impl Content<'_> {
    /// The files of the plan, in the order of [`key::ALL`].
    fn files(self) -> Result<Vec<PlanFile>, Error> {
        let json = |what, value: serde_json::Result<Vec<u8>>| value.map_err(|source| Error::Json { what, source });
        let plan = json("the plan", serde_json::to_vec(self.plan))?;
        let values = json("the values", serde_json::to_vec(self.values))?;
        let files = [Some(plan), Some(values), self.previous, Some(self.chart)];
        Ok(key::ALL.into_iter().zip(files).filter_map(|(key, file)| Some((key, file?))).collect())
    }
}

/// The Secret with a part of the plan.
pub fn object(ctx: &Context, plan: &Plan, number: usize, part: SecretData, owner: Option<OwnerReference>) -> Secret {
    let labels = [
        ("app.kubernetes.io/managed-by", "coder-upgrade-operator".to_owned()),
        (label::UPGRADE, ctx.upgrade.chars().take(LABEL_LIMIT).collect()),
        (label::UPGRADE_UID, ctx.uid.clone()),
        (label::PLAN, plan.id.clone()),
    ];
    let labels = labels.into_iter().chain((number > 1).then(|| (label::PLAN_PART, number.to_string())));
    Secret {
        metadata: ObjectMeta {
            name: Some(parts::name(&name(plan), number)),
            namespace: Some(ctx.namespace.clone()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).collect()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.into()),
        immutable: Some(true),
        data: Some(part.into_iter().map(|(key, content)| (key, ByteString(content))).collect()),
        ..Secret::default()
    }
}

/// The files as they lie in Secrets.
pub fn lay_out(files: Vec<PlanFile>) -> Result<Vec<SecretData>, Box<Problem>> {
    let kib = |bytes: usize| bytes.div_ceil(1024);
    let each: Vec<String> = files.iter().map(|(key, file)| format!("{key} {} KiB", kib(file.len()))).collect();
    let whole: usize = files.iter().map(|(_, file)| file.len()).sum();
    let parts = parts::lay_out(files);
    if parts.len() <= MOST {
        return Ok(parts);
    }
    let (whole, each) = (kib(whole), each.join(", "));
    let message = format!("the plan takes {whole} KiB, and {MOST} Secrets hold {} KiB: {each}", kib(MOST * ROOM));
    Err(Problem::new(FailureClass::TooLarge, message).field("spec.chart").boxed())
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
    let owners = json!([owner(ctx)]);
    let mut owned = own(&secrets, held, &owners).await;
    // Somebody has written to it since it was read.
    if let Ok(None) = owned
        && let Ok(Some(now)) = request(&format!("read Secret/{name}"), || secrets.get_metadata_opt(&name)).await
        && now.uid() == held.uid()
        && now.owner_references().is_empty()
    {
        owned = own(&secrets, &now, &owners).await;
    }
    match owned {
        Ok(Some(_)) => {}
        Ok(None) => {
            tracing::warn!("Secret/{name} was changed by somebody else meanwhile; the next plan deals with it");
        }
        Err(error) => tracing::warn!("{error}; the next plan deals with it"),
    }
}

/// Writes the owners of exactly this Secret, and returns it with them. None if it is gone or was changed meanwhile.
pub async fn own(
    secrets: &Api<Secret>,
    secret: &PartialObjectMeta<Secret>,
    owners: &Value,
) -> Result<Option<PartialObjectMeta<Secret>>, Error> {
    let (name, uid, version) = (secret.name_any(), secret.uid(), secret.resource_version());
    let patch = Patch::Merge(json!({"metadata": {"uid": uid, "resourceVersion": version, "ownerReferences": owners}}));
    let parameters = PatchParams::default();
    match request(&format!("hold Secret/{name}"), || secrets.patch_metadata(&name, &parameters, &patch)).await {
        Ok(owned) => Ok(Some(owned)),
        Err(error) if error.has_code(404) || error.has_code(409) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_does_not_fit_says_how_large_its_files_are() {
        let files = |chart: usize| vec![(key::PLAN, vec![0; 10]), (key::CHART, vec![0; chart])];
        assert_eq!(lay_out(files(ROOM)).unwrap().len(), 2);
        let problem = lay_out(files(MOST * ROOM)).unwrap_err();
        assert_eq!(problem.class, FailureClass::TooLarge);
        let message = "the plan takes 8193 KiB, and 8 Secrets hold 8192 KiB: plan.json 1 KiB, chart.tgz 8192 KiB";
        assert_eq!(problem.message, message);
    }
}
