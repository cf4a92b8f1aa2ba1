//! What lies in the namespace beside the release, as far as the checks look at it. What the runner may not read stays
//! unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use futures::future::{try_join, try_join_all, try_join3, try_join4};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SelfSubjectRulesReview,
    SelfSubjectRulesReviewSpec,
};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;

use crate::api::CoderUpgradeSpec;
use crate::core::helm::documents::Documents;
use crate::core::object::KindName;
use crate::core::plan::checks::rights::{Need, granted, needed};
use crate::core::plan::checks::{Surroundings, environment_sources};
use crate::core::plan::rehearsal::Rehearsal;
use crate::core::rights::{Right, said};
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// How many objects are listed at a time.
const PAGE: u32 = 250;
/// Most objects of a kind that are looked at.
const MOST: usize = 5000;

/// Looks around: first for the rights of the runner, then with all questions at once.
pub async fn look(
    ctx: &Context,
    spec: &CoderUpgradeSpec,
    new: &Documents,
    rehearsal: &Rehearsal,
) -> Result<Surroundings, Error> {
    let rules = rules(ctx).await?;
    let everything = ListParams::default();
    // Of all the cluster, so deploy/runner does not grant it.
    let look_at_nodes = Right::new("", "nodes", "list");
    let nodes = async {
        if granted(&rules, &look_at_nodes) {
            all("Nodes", Api::<Node>::all(ctx.client.clone()), &everything, without_images).await
        } else {
            Ok(None)
        }
    };
    let listed = try_join4(
        all("ResourceQuotas", ctx.api(), &everything, |_| {}),
        all("LimitRanges", ctx.api(), &everything, |_| {}),
        all("HorizontalPodAutoscalers", ctx.api(), &everything, |_| {}),
        nodes,
    );
    let asked = try_join3(deployments(ctx, spec), denied(ctx, &rules, needed(rehearsal)), environments(ctx, new));
    let ((quotas, limits, autoscalers, nodes), (deployments, denied, environments)) = try_join(listed, asked).await?;
    Ok(Surroundings { quotas, limits, autoscalers, deployments, nodes, denied, environments })
}

/// None if the runner may not know, or the cluster has no such API.
pub fn known<T>(doing: &str, answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.has_code(403) || error.has_code(404) => {
            tracing::debug!("no right to {doing}: what depends on it is not checked");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// All objects of a kind, page by page. Of more than [`MOST`] none is known: a check of so many would take more memory than
/// it is worth.
pub async fn all<K>(kind: &str, api: Api<K>, parameters: &ListParams, slim: fn(&mut K)) -> Result<Option<Vec<K>>, Error>
where
    K: Clone + DeserializeOwned + Debug + kube::Resource,
{
    let doing = format!("list {kind}");
    let mut parameters = parameters.clone().limit(PAGE);
    let mut found = Vec::new();
    loop {
        let Some(mut page) = known(&doing, request(&doing, || api.list(&parameters)).await)? else { return Ok(None) };
        for object in &mut page.items {
            object.managed_fields_mut().clear();
            slim(object);
        }
        found.append(&mut page.items);
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            None => return Ok(Some(found)),
            Some(_) if found.len() >= MOST => {
                tracing::warn!("there are more than {MOST} {kind}: what depends on them is not checked");
                return Ok(None);
            }
            Some(next) => parameters.continue_token = Some(next),
        }
    }
}

/// What takes most of a node is of no interest: the images that it has.
fn without_images(node: &mut Node) {
    node.annotations_mut().clear();
    if let Some(status) = &mut node.status {
        status.images = None;
    }
}

/// Deployments of Coder's charts by their label, and the companions by their names.
async fn deployments(ctx: &Context, spec: &CoderUpgradeSpec) -> Result<Option<Vec<Deployment>>, Error> {
    let api: Api<Deployment> = ctx.api();
    let charts = ListParams::default().labels("app.kubernetes.io/name in (coder,coder-provisioner)");
    let Some(mut found) = all("Deployments", api.clone(), &charts, |_| {}).await? else { return Ok(None) };
    let known: BTreeSet<String> = found.iter().map(ResourceExt::name_any).collect();
    let others = spec
        .companions
        .iter()
        .filter(|name| !known.contains(*name))
        .map(async |name| request(&format!("read Deployment/{name}"), || api.get_opt(name)).await);
    found.extend(try_join_all(others).await?.into_iter().flatten());
    Ok(Some(found))
}

/// The rights that the runner does not have. What the rules do not grant is asked for one by one, because not every
/// authorizer tells its rules.
async fn denied(ctx: &Context, rules: &[ResourceRule], needs: Vec<Need>) -> Result<Vec<Need>, Error> {
    let unsure = needs.into_iter().filter(|need| !granted(rules, &need.right));
    let asked = try_join_all(unsure.map(async |need| Ok::<_, Error>((allowed(ctx, &need.right).await?, need)))).await?;
    Ok(asked.into_iter().filter(|(allowed, _)| !allowed).map(|(_, need)| need).collect())
}

/// What the runner may do in the namespace, as far as the authorizers tell.
async fn rules(ctx: &Context) -> Result<Vec<ResourceRule>, Error> {
    let reviews: Api<SelfSubjectRulesReview> = Api::all(ctx.client.clone());
    let spec = SelfSubjectRulesReviewSpec { namespace: Some(ctx.namespace.clone()) };
    let question = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
    let doing = "ask for the rights of the runner";
    let parameters = PostParams::default();
    let answer = request(doing, || reviews.create(&parameters, &question)).await;
    let status = known(doing, answer)?.and_then(|review| review.status);
    Ok(status.map(|status| status.resource_rules).unwrap_or_default())
}

async fn allowed(ctx: &Context, right: &Right) -> Result<bool, Error> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(ctx.client.clone());
    let (resource, subresource) = right.resource.split_once('/').unwrap_or((&right.resource, ""));
    let attributes = ResourceAttributes {
        namespace: Some(ctx.namespace.clone()),
        verb: Some(right.verb.clone()),
        group: Some(right.group.clone()),
        resource: Some(resource.into()),
        subresource: Some(subresource.into()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let question = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let doing = format!("ask whether the runner may {}", said(&BTreeSet::from([right.clone()])));
    let parameters = PostParams::default();
    let answer = request(&doing, || reviews.create(&parameters, &question)).await;
    // Who may not even ask finds out when it is done.
    Ok(known(&doing, answer)?.and_then(|review| review.status).is_none_or(|status| status.allowed))
}

/// The keys of the objects from which servers take their environment; an object that does not exist has none.
async fn environments(ctx: &Context, new: &Documents) -> Result<BTreeMap<KindName, BTreeSet<String>>, Error> {
    let (secrets, maps): (Api<Secret>, Api<ConfigMap>) = (ctx.api(), ctx.api());
    let read = environment_sources(new).into_iter().map(async |object| {
        let doing = format!("read {object}");
        let keys = match object.kind.as_str() {
            "Secret" => {
                let secret = known(&doing, request(&doing, || secrets.get_opt(&object.name)).await)?;
                secret.map(|secret| secret.and_then(|secret| secret.data).map(|data| data.into_keys().collect()))
            }
            "ConfigMap" => {
                let map = known(&doing, request(&doing, || maps.get_opt(&object.name)).await)?;
                map.map(|map| map.and_then(|map| map.data).map(|data| data.into_keys().collect()))
            }
            _ => None,
        };
        Ok::<_, Error>(keys.map(|keys| (object, keys.unwrap_or_default())))
    });
    Ok(try_join_all(read).await?.into_iter().flatten().collect())
}
