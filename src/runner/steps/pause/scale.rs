//! The replicas of a Deployment.

use std::pin::pin;

use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, reflector};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::core::helm::manifest::workload;
use crate::core::helm::ownership::FIELD_MANAGER;
use crate::core::object::KindName;
use crate::core::steps::pause::disowned;
use crate::runner::cluster::lease::Held;
use crate::runner::cluster::watch;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// How often a change is tried that somebody else's change comes in between of: controllers write their status often.
const TRIES: usize = 20;

/// Gives a Deployment this number of replicas, and gives up the field, so that helm's server-side apply may set it. One
/// that is gone needs none.
pub async fn to(ctx: &Context, lease: &Held, name: &str, replicas: i32) -> Result<(), Error> {
    let deployments: Api<Deployment> = ctx.api();
    let doing = format!("scale Deployment/{name} to {replicas}");
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    for left in (0..TRIES).rev() {
        let Some(now) = request(&doing, || deployments.get_opt(name)).await? else { return Ok(()) };
        let Some(mut change) = next(&now, replicas) else { return Ok(()) };
        if change.get("spec").is_some() {
            tracing::info!("scaling Deployment/{name} to {replicas}");
        }
        change["metadata"]["uid"] = json!(now.metadata.uid);
        change["metadata"]["resourceVersion"] = json!(now.metadata.resource_version);
        let patch = Patch::Merge(change);
        match lease.write(&doing, || deployments.patch(name, &parameters, &patch)).await {
            Err(error) if error.has_code(409) && left > 0 => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Err(Error::Conflict { doing })
}

/// What is left to be changed: the number, then its owner.
fn next(now: &Deployment, replicas: i32) -> Option<Value> {
    if now.spec.as_ref().and_then(|spec| spec.replicas) != Some(replicas) {
        return Some(json!({"metadata": {}, "spec": {"replicas": replicas}}));
    }
    let owners = disowned(now.managed_fields(), FIELD_MANAGER)?;
    Some(json!({"metadata": {"managedFields": owners}}))
}

/// Waits until a Deployment that was scaled to zero has no pod any more. There is no limit but the caller's.
pub async fn pods_gone(ctx: &Context, deployment: &Deployment) -> Result<(), Error> {
    let name = deployment.name_any();
    // Until its controllers have seen the zero, they may start another pod.
    let seen = |object: Option<&Deployment>| {
        object.is_none_or(|object| {
            let status = object.status.clone().unwrap_or_default();
            status.observed_generation >= object.metadata.generation && status.replicas.unwrap_or_default() == 0
        })
    };
    watch::until(ctx.api::<Deployment>(), &KindName::new("Deployment", &name), seen).await?;
    let object = serde_json::to_value(deployment).map_err(|source| Error::Json { what: "a Deployment", source })?;
    let Some(workload) = workload(&object) else {
        return Err(Error::Bug(format!("the selector of Deployment/{name} cannot be read")));
    };
    let (store, writer) = reflector::store::<Pod>();
    let of_it = watcher::Config::default().labels(&workload.selector);
    let events = reflector::reflector(writer, watcher::watcher(ctx.api::<Pod>(), of_it).default_backoff());
    let mut events = pin!(events);
    let (mut listed, pods) = (false, format!("the pods of Deployment/{name}"));
    loop {
        match events.try_next().await {
            Ok(Some(event)) => listed |= matches!(event, Event::InitDone),
            Ok(None) => return Err(watch::ended(&pods)),
            Err(error) => watch::broken(&pods, error)?,
        }
        if !listed {
            continue;
        }
        let Some(pod) = store.state().into_iter().find(|pod| works(pod)) else { return Ok(()) };
        let grace = pod.metadata.deletion_grace_period_seconds;
        let grace = grace.map(|seconds| format!(", which may take {seconds} s")).unwrap_or_default();
        ctx.reporter.progress(&format!(
            "Deployment/{name} is scaled to zero; waiting for Pod/{} to end{grace}",
            pod.name_any()
        ));
    }
}

/// A pod that has ended may stay as an object.
fn works(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_the_number_then_its_owner_then_nothing() {
        let deployment = |replicas: i32, manager: &str| -> Deployment {
            serde_json::from_value(json!({
                "metadata": {"name": "coder", "managedFields": [{"manager": "helm"}, {"manager": manager}]},
                "spec": {"replicas": replicas, "selector": {}, "template": {}},
            }))
            .unwrap()
        };
        assert_eq!(next(&deployment(3, "x"), 0).unwrap()["spec"]["replicas"], 0);
        let owners = next(&deployment(0, FIELD_MANAGER), 0).unwrap();
        assert_eq!(owners["metadata"]["managedFields"], json!([{"manager": "helm"}]));
        assert_eq!(next(&deployment(0, "x"), 0), None);
    }
}
