//! Ingresses. They get an address as if an ingress controller served all classes. Most controllers let them go without
//! ceremony; an Ingress with the annotation [`release::ANNOTATION`] is held as by those that set a finalizer.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{Context, LoadBalancerError, release};
use crate::supervisor::options::ReleaseDelay;

/// Keeps an Ingress until its load balancer is released; one of the names that exist in the world.
const FINALIZER: &str = "ingress.k8s.aws/resources";

/// What an Ingress needs next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Rest,
    AddFinalizer,
    Assign,
    Wait(Duration),
    Release,
}

pub(super) async fn reconcile(ingress: Arc<Ingress>, context: Arc<Context>) -> Result<Action, LoadBalancerError> {
    match next_step(&ingress, Timestamp::now(), release::own_delay(&*ingress)) {
        Step::Rest => return Ok(Action::await_change()),
        Step::Wait(time) => return Ok(Action::requeue(time)),
        Step::AddFinalizer => {
            let finalizers = ingress.finalizers().iter().map(String::as_str).chain([FINALIZER]).collect();
            patch_finalizers(&context, &ingress, finalizers).await?;
        }
        Step::Assign => assign(&context, &ingress).await?,
        Step::Release => {
            context.addresses().release(&ingress.uid().unwrap_or_default());
            let finalizers =
                ingress.finalizers().iter().map(String::as_str).filter(|name| *name != FINALIZER).collect();
            patch_finalizers(&context, &ingress, finalizers).await?;
        }
    }
    Ok(Action::await_change())
}

fn next_step(ingress: &Ingress, now: Timestamp, delay: Option<ReleaseDelay>) -> Step {
    let held = ingress.finalizers().iter().any(|name| name == FINALIZER);
    match (&ingress.metadata.deletion_timestamp, held, delay) {
        (Some(_), false, _) => Step::Rest,
        (Some(deleted), true, delay) => match release::remaining(deleted.0, now, delay.unwrap_or_default()) {
            None => Step::Rest,
            Some(Duration::ZERO) => Step::Release,
            Some(rest) => Step::Wait(rest),
        },
        (None, false, Some(_)) => Step::AddFinalizer,
        (None, _, _) if has_address(ingress) => Step::Rest,
        (None, _, _) => Step::Assign,
    }
}

async fn assign(context: &Context, ingress: &Ingress) -> Result<(), LoadBalancerError> {
    let (namespace, name) = (ingress.namespace().unwrap_or_default(), ingress.name_any());
    let assigned = context.addresses().assign(&ingress.uid().unwrap_or_default(), None);
    let address = match assigned {
        Ok(address) => address,
        Err(source) => return Err(LoadBalancerError::Refused { what: "Ingress", namespace, name, source }),
    };
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address.to_string()}]}}});
    let patched = api(context, ingress).patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
    patched.map_err(|source| failed(ingress, source))?;
    tracing::info!(ingress = name, %address, "assigned");
    Ok(())
}

/// Refused by the API server if the Ingress was changed meanwhile, so that nobody else's finalizer is lost.
async fn patch_finalizers(
    context: &Context,
    ingress: &Ingress,
    finalizers: Vec<&str>,
) -> Result<(), LoadBalancerError> {
    let metadata = json!({"resourceVersion": ingress.resource_version(), "finalizers": finalizers});
    let patch: Patch<Value> = Patch::Merge(json!({"metadata": metadata}));
    let patched = api(context, ingress).patch(&ingress.name_any(), &PatchParams::default(), &patch).await;
    patched.map(drop).map_err(|source| failed(ingress, source))
}

fn api(context: &Context, ingress: &Ingress) -> Api<Ingress> {
    Api::namespaced(context.client.clone(), &ingress.namespace().unwrap_or_default())
}

fn failed(ingress: &Ingress, source: kube::Error) -> LoadBalancerError {
    let (namespace, name) = (ingress.namespace().unwrap_or_default(), ingress.name_any());
    LoadBalancerError::Write { what: "Ingress", namespace, name, source }
}

fn has_address(ingress: &Ingress) -> bool {
    let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    balancer.and_then(|balancer| balancer.ingress.as_ref()).is_some_and(|ingress| !ingress.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Option<ReleaseDelay> = Some(ReleaseDelay::After(Duration::from_secs(5)));

    fn step(ingress: Value, delay: Option<ReleaseDelay>) -> Step {
        next_step(&serde_json::from_value(ingress).unwrap(), "2026-01-01T00:00:10Z".parse().unwrap(), delay)
    }

    #[test]
    fn an_address_is_given_once() {
        let ingress = |status| json!({"status": status});
        assert_eq!(step(ingress(json!({"loadBalancer": {}})), None), Step::Assign);
        let assigned = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}});
        assert_eq!(step(ingress(assigned.clone()), None), Step::Rest);
        assert_eq!(step(ingress(assigned), SLOW), Step::AddFinalizer, "one that is slow from now on");
    }

    #[test]
    fn only_one_that_asks_for_it_lingers() {
        let deleted = |finalizers: Value| json!({"metadata": {"finalizers": finalizers, "deletionTimestamp": "2026-01-01T00:00:08Z"}});
        assert_eq!(step(deleted(json!(["example.org/other"])), SLOW), Step::Rest);
        assert_eq!(step(deleted(json!([FINALIZER])), SLOW), Step::Wait(Duration::from_secs(4)));
        assert_eq!(step(deleted(json!([FINALIZER])), Some(ReleaseDelay::Never)), Step::Rest);
        assert_eq!(step(deleted(json!([FINALIZER])), None), Step::Release, "the annotation was taken away");
    }
}
