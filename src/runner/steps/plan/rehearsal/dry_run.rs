//! Objects that are replaced: whether they could be recreated, tried as a dry-run create under another name.

use kube::Api;
use kube::api::{DynamicObject, PostParams};
use serde_json::Value;

use super::state::RehearsalResult;
use crate::api::FailureClass;
use crate::core::helm::documents::Documents;
use crate::core::helm::failures;
use crate::core::helm::failures::Cause;
use crate::core::helm::ownership::marked;
use crate::core::object::ObjectRef;
use crate::core::plan::rehearsal::if_dependency_existed;
use crate::core::repair::disposable::is_disposable;
use crate::core::text::digest::short_hash;
use crate::runner::cluster::kinds;
use crate::runner::context::{Context, is_unreachable, request};
use crate::runner::error::Error;
use crate::runner::helm::HelmFailure;

/// Kinds whose namesake under another name would clash with the live object, over a port, an address or a host.
const CLASHING: [&str; 2] = ["Service", "Ingress"];
/// How much of the name is kept, so that it stays a valid one for each kind, in characters.
const NAME_KEPT: usize = 40;

/// What came of the trials.
#[derive(Default)]
pub struct Trials {
    /// The objects as they would be made.
    pub made: Vec<(ObjectRef, Value)>,
    /// What was refused.
    pub causes: Vec<Cause>,
    /// What could not be tried, a line each.
    pub not_rehearsed: Vec<String>,
    words: Vec<String>,
}

impl Trials {
    /// The refusals as helm would tell them.
    pub fn failure(&self) -> Option<HelmFailure> {
        (!self.words.is_empty()).then(|| HelmFailure { text: self.words.join(" && ") })
    }
}

/// Asks the API server, in a dry run, to make each object that was replaced: quotas, policies, rights and the object itself
/// are checked so.
pub async fn create_dry(
    ctx: &Context,
    release: &str,
    seen: &RehearsalResult,
    rendered: Option<&Documents>,
) -> Result<Trials, Error> {
    let mut trials = Trials::default();
    for object in &seen.replaced {
        let is_it = |name: &ObjectRef| {
            name.kind_name() == object.kind_name() && object.namespace.as_ref().is_none_or(|n| name.is_in(n))
        };
        let new = rendered.and_then(|documents| documents.objects().find(|(name, _)| is_it(name)));
        let Some((_, new)) = new else { continue };
        if CLASHING.contains(&object.kind.as_str()) {
            trials
                .not_rehearsed
                .push(format!("{object}: it is recreated, which cannot be tried beside the present one"));
            continue;
        }
        let Some(api) = kinds::api(ctx, object).await? else { continue };
        match try_out(ctx, &api, release, object, new).await? {
            Ok(made) => {
                let mut made =
                    serde_json::to_value(&made).map_err(|source| Error::Json { what: "an object", source })?;
                made["metadata"]["name"] = object.name.clone().into();
                trials.made.push((object.clone(), made));
            }
            Err(kube::Error::Api(status))
                if if_dependency_existed(&status.message, &seen.writes, None, None).is_some() =>
            {
                trials.made.push((object.clone(), marked(new, release, &ctx.namespace)));
            }
            Err(kube::Error::Api(status)) => judge(&mut trials, object, &status.message),
            Err(error) if is_unreachable(&error) => judge(&mut trials, object, &format!("connection refused: {error}")),
            Err(error) => return Err(Error::api(format!("try to recreate {object}"), error)),
        }
    }
    Ok(trials)
}

/// Asks the API server, in a dry run, to make an object under another name.
async fn try_out(
    ctx: &Context,
    api: &Api<DynamicObject>,
    release: &str,
    object: &ObjectRef,
    new: &Value,
) -> Result<Result<DynamicObject, kube::Error>, Error> {
    let mut trial = marked(new, release, &ctx.namespace);
    trial["metadata"]["name"] = trial_name(&object.name).into();
    let trial: DynamicObject =
        serde_json::from_value(trial).map_err(|source| Error::Json { what: "an object", source })?;
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    Ok(api.create(&parameters, &trial).await)
}

/// Finds the causes for which the live object is to blame and not the chart: fields that the API server has filled in for the
/// installed version, and that the new one does not allow beside its own. Server-side apply leaves them, as nobody owns them. The
/// same object could be created, so replacing it cures that.
pub async fn left_over(ctx: &Context, release: &str, causes: &mut [Cause], rendered: &Documents) -> Result<(), Error> {
    for cause in causes.iter_mut().filter(|cause| cause.class == Some(FailureClass::ObjectInvalid)) {
        let Some(named) = cause.object.clone() else { continue };
        let Some((object, new)) = rendered.objects().find(|(name, _)| name.kind_name() == named) else { continue };
        if CLASHING.contains(&object.kind.as_str()) || !is_disposable(&object) {
            continue;
        }
        let Some(api) = kinds::api(ctx, &object).await? else { continue };
        let exists = request(&format!("read {object}"), || api.get_metadata_opt(&object.name)).await?.is_some();
        if exists && try_out(ctx, &api, release, &object, new).await?.is_ok() {
            cause.class = Some(FailureClass::Immutable);
            cause.message = format!("{} (the field is left from the installed version)", cause.message);
        }
    }
    Ok(())
}

fn judge(trials: &mut Trials, object: &ObjectRef, words: &str) {
    let words = words.replace(&trial_name(&object.name), &object.name);
    let mut causes = failures::causes(&words);
    let counted = |cause: &Cause| cause.class == Some(FailureClass::QuotaExceeded);
    if causes.iter().all(counted) || words.contains("does not support dry run") {
        // The present object still counts, and goes before the new one is made.
        trials.not_rehearsed.push(format!("{object}: it is recreated, which could not be tried: {words}"));
        return;
    }
    for cause in &mut causes {
        cause.object.get_or_insert_with(|| object.kind_name());
    }
    trials.causes.extend(causes);
    trials.words.push(words);
}

/// Another name, which no other object has.
fn trial_name(name: &str) -> String {
    let kept: String = name.chars().take(NAME_KEPT).collect();
    format!("{}-{}", kept.trim_end_matches(['-', '.']), short_hash(&["rehearsal", name], 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> ObjectRef {
        ObjectRef {
            api_version: "rbac.authorization.k8s.io/v1".into(),
            kind: "RoleBinding".into(),
            namespace: Some("ns".into()),
            name: "coder".into(),
        }
    }

    #[test]
    fn a_refusal_names_the_object_and_not_the_trial() {
        let mut trials = Trials::default();
        let name = trial_name("coder");
        judge(
            &mut trials,
            &binding(),
            &format!("RoleBinding.rbac.authorization.k8s.io \"{name}\" is invalid: roleRef.name: Required value"),
        );
        assert_eq!(trials.causes[0].object, Some(binding().kind_name()));
        assert!(!trials.failure().unwrap().text.contains(&name));
    }

    #[test]
    fn the_present_object_in_a_quota_refuses_nothing() {
        let mut trials = Trials::default();
        judge(
            &mut trials,
            &binding(),
            "rolebindings.rbac.authorization.k8s.io \"x\" is forbidden: exceeded quota: q, requested: count/rolebindings=1, used: 1, limited: 1",
        );
        assert!(trials.failure().is_none() && trials.causes.is_empty() && trials.not_rehearsed.len() == 1);
    }

    #[test]
    fn a_trial_has_a_name_of_its_own_that_is_short_enough() {
        let long = "a".repeat(200);
        assert!(trial_name(&long).len() <= 52);
        assert_ne!(trial_name(&long), trial_name(&format!("{long}b")));
    }
}
