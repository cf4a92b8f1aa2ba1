//! What would be deleted, and whether data would go with it. The plan asks so that nothing is promised that is not done; each
//! step asks again before it deletes anything.

use std::collections::BTreeSet;

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::api::{CheckName, FailureClass, Finding, Remedy};
use crate::core::helm::documents::{Documents, KEEP, RESOURCE_POLICY};
use crate::core::helm::history::History;
use crate::core::helm::hooks::{HelmAction, Hook};
use crate::core::object::ObjectRef;
use crate::core::plan::Plan;
use crate::core::plan::rehearsal::{Rehearsal, shrunk};
use crate::core::repair::disposable::{is_data, is_disposable};
use crate::core::report::Problem;
use crate::core::steps::uninstall;
use crate::runner::cluster::kinds::{self, LiveObject, live};
use crate::runner::cluster::owners::{OwnedClaim, owned};
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::held_release::HeldRelease;

/// Whether helm leaves the object when a chart has it no more.
pub fn is_marked(object: &LiveObject) -> bool {
    let policy = object.annotations().get(RESOURCE_POLICY);
    policy.is_some_and(|policy| policy.trim().eq_ignore_ascii_case(KEEP))
}

/// Refuses to delete an object that exists and may hold data, or own it.
pub fn stays(object: &ObjectRef, why: &str) -> Problem {
    let kind = if is_data(object) { "it is data" } else { "objects of its kind may hold data, or own it" };
    let group = object.group();
    let resource = if group.is_empty() { object.kind.to_lowercase() } else { format!("{}.{group}", object.kind) };
    let message = format!(
        "{object} would be deleted, because {why}; {kind}. To have it left in place, run kubectl annotate {resource} {} \
         helm.sh/resource-policy=keep; if it is not needed any more, delete it by hand. Nothing was deleted",
        object.name
    );
    Problem::new(FailureClass::DataAtRisk, message).object(object.to_string())
}

/// Refuses if a claim belongs to one of the objects that go, directly or through others, or if that is not known; and if a
/// `StatefulSet` among them deletes its claims when it is deleted itself.
pub async fn none_owned_by(ctx: &Context, going: &[ObjectRef]) -> Result<(), Error> {
    if going.is_empty() {
        return Ok(());
    }
    let namespaces: BTreeSet<&str> = going.iter().filter_map(|object| object.namespace.as_deref()).collect();
    for namespace in namespaces.into_iter().chain([ctx.namespace.as_str()]).collect::<BTreeSet<_>>() {
        let claims = match owned(ctx, namespace).await {
            Err(error) if error.has_code(403) => return Err(unread(namespace, &error).into()),
            claims => claims?,
        };
        for claim in claims {
            judge(&claim, going)?;
        }
    }
    for set in going.iter().filter(|object| object.kind == "StatefulSet" && is_disposable(object)) {
        let found = kinds::read(ctx, set).await?;
        let policy = found.as_ref().map(|set| &set.data["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"]);
        if policy.is_some_and(|policy| policy == "Delete") {
            let message = format!("{set} deletes its PersistentVolumeClaims when it is deleted itself");
            return Err(at_risk(&set.to_string(), "spec.persistentVolumeClaimRetentionPolicy.whenDeleted", &message));
        }
    }
    Ok(())
}

fn unread(namespace: &str, error: &Error) -> Problem {
    let message = format!(
        "objects of the release in namespace {namespace} would be deleted, and the runner may not look whether \
         PersistentVolumeClaims belong to them: {error}. Grant its ServiceAccount the right to list persistentvolumeclaims \
         there. Nothing was deleted"
    );
    Problem::new(FailureClass::DataAtRisk, message).object(format!("Namespace/{namespace}"))
}

fn judge(claim: &OwnedClaim, going: &[ObjectRef]) -> Result<(), Error> {
    let name = format!("PersistentVolumeClaim/{}", claim.name);
    let field = "metadata.ownerReferences";
    if let Some(how) = claim.belongs_to(|owner| going.iter().any(|object| object.same(owner))) {
        return Err(at_risk(&name, field, &format!("{name} {how} and would be deleted with it")));
    }
    let Some(why) = claim.unknown() else { return Ok(()) };
    let message = format!(
        "nobody knows whether {name} belongs to something that would be deleted, because an owner of it cannot be looked \
         at: {why}. Grant that right to the runner's ServiceAccount"
    );
    Err(at_risk(&name, field, &message))
}

fn at_risk(object: &str, field: &str, message: &str) -> Error {
    let message = format!("{message}; nothing was deleted");
    Problem::new(FailureClass::DataAtRisk, message).object(object).field(field).into()
}

/// What helm deletes in an upgrade because the new chart has it no more.
struct Dropped {
    /// Objects that go.
    going: Vec<ObjectRef>,
    /// Claims, which stay, as they are.
    claims: Vec<(ObjectRef, LiveObject)>,
}

/// Sorts what the new chart has no more. Refuses if something of it exists that may hold data, or own it. helm itself leaves
/// what is marked to be kept.
async fn dropped(ctx: &Context, old: &Documents, plan: &Plan) -> Result<Dropped, Error> {
    let mut dropped = Dropped { going: Vec::new(), claims: Vec::new() };
    for (object, _) in old.objects().filter(|(name, _)| !plan.objects.iter().any(|object| object.same(name))) {
        let Some(live) = live(ctx, &object).await? else { continue };
        if is_marked(&live) {
            continue;
        }
        if is_disposable(&object) {
            dropped.going.push(object);
        } else if is_data(&object) && object.kind == "PersistentVolumeClaim" {
            dropped.claims.push((object, live));
        } else {
            return Err(stays(&object, "the new chart has it no more").into());
        }
    }
    Ok(dropped)
}

/// The objects that exist with the names of hooks that run in this work: helm deletes them before it makes the hooks, or
/// when these have ended. Refuses if one of them may hold data, or own it. helm never deletes a definition of a kind.
async fn hooked(ctx: &Context, hooks: &[Hook], work: HelmAction) -> Result<Vec<ObjectRef>, Error> {
    let mut found = Vec::new();
    for Hook { object, .. } in hooks.iter().filter(|hook| hook.runs_in(work)) {
        if object.kind == "CustomResourceDefinition" || live(ctx, object).await?.is_none() {
            continue;
        }
        if !is_disposable(object) {
            let message = format!(
                "{object} is a hook of the chart, and helm deletes what has its name before or after it runs the hook; \
                 objects of its kind are data, or may own it. Take the hook out of the chart by its values, or delete the \
                 object by hand. Nothing was deleted"
            );
            return Err(Problem::new(FailureClass::DataAtRisk, message).object(object.to_string()).into());
        }
        found.push(object.clone());
    }
    Ok(found)
}

/// Refuses if helm's upgrade, install or uninstall would delete data, by its hooks or by these objects that go.
pub async fn none_at_risk(
    ctx: &Context,
    hooks: &[Hook],
    work: HelmAction,
    mut going: Vec<ObjectRef>,
) -> Result<(), Error> {
    going.extend(hooked(ctx, hooks, work).await?);
    none_owned_by(ctx, &going).await
}

/// Before an upgrade: helm deletes what the new chart does not have any more. Claims among that are marked, so that helm
/// leaves them; what may own data, or takes claims with it, stops the upgrade.
pub async fn keep_owned(ctx: &Context, release: &HeldRelease, plan: &Plan, history: &History) -> Result<(), Error> {
    let old = release.storage().union(uninstall::applied(plan, history), &[], &ctx.namespace).await?;
    let Dropped { going, claims } = dropped(ctx, &old, plan).await?;
    none_at_risk(ctx, &plan.hooks, HelmAction::Change, going).await?;
    for (claim, now) in claims {
        let Some(api) = kinds::api(ctx, &claim).await? else { continue };
        tracing::info!("{claim} is not in the new chart: it stays");
        // A patch that names the UID is refused for a namesake.
        let marked = Patch::Merge(json!({"metadata": {"uid": now.uid(), "annotations": {RESOURCE_POLICY: KEEP}}}));
        let parameters = PatchParams::default();
        release
            .lease()
            .write(&format!("mark {claim}"), || api.patch_metadata(&claim.name, &parameters, &marked))
            .await?;
    }
    Ok(())
}

/// For the plan: what of it would be refused when it is carried out, because data would go. `old` are the objects of the
/// revisions that may be in the cluster.
pub async fn foresee(
    ctx: &Context,
    plan: &Plan,
    old: &Documents,
    rehearsal: &Rehearsal,
) -> Result<Option<Box<Problem>>, Error> {
    match foreseen(ctx, plan, old, rehearsal).await {
        Ok(()) => Ok(None),
        Err(Error::Problem(problem)) if problem.class == FailureClass::DataAtRisk => {
            let finding = Finding::refusal(CheckName::DataOwners, &problem.message, problem.class.next_step());
            let finding = Finding { object: problem.object.clone(), field: problem.field.clone(), ..finding };
            Ok(Some(Problem { findings: vec![finding], ..*problem }.boxed()))
        }
        Err(error) => Err(error),
    }
}

async fn foreseen(ctx: &Context, plan: &Plan, old: &Documents, rehearsal: &Rehearsal) -> Result<(), Error> {
    if let Some(shrunk) = shrunk(rehearsal) {
        return Err(shrunk.into());
    }
    let Dropped { mut going, .. } = dropped(ctx, old, plan).await?;
    let replaced = plan.forecast.repairs.iter().filter(|repair| repair.remedy == Remedy::Replace);
    going.extend(replaced.flat_map(|repair| plan.objects.iter().filter(|object| object.is(&repair.object)).cloned()));
    none_at_risk(ctx, &plan.hooks, HelmAction::Change, going).await
}
