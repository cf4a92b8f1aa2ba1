//! Services of type `LoadBalancer`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{Context, LoadBalancerError, release};
use crate::supervisor::options::ReleaseDelay;

/// Keeps a Service until its load balancer is released; every cloud's controller uses this name.
const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

/// A class that a Service may name; what names no class is served as well.
const CLASS: &str = "testbed.coderupgrade.dev/own";

/// What a Service needs next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Nothing.
    Rest,
    /// The finalizer, before it gets anything that must be released.
    AddFinalizer,
    /// An address.
    Assign,
    /// To be looked at again after that time.
    Wait(Duration),
    /// Its address released, and the finalizer removed.
    Release,
}

pub(super) async fn reconcile(service: Arc<Service>, context: Arc<Context>) -> Result<Action, LoadBalancerError> {
    let delay = release::own_delay(&*service).unwrap_or(context.release_delay);
    let written = match next_step(&service, Timestamp::now(), delay) {
        Step::Rest => return Ok(Action::await_change()),
        Step::Wait(time) => return Ok(Action::requeue(time)),
        Step::AddFinalizer => {
            let finalizers = service.finalizers().iter().map(String::as_str).chain([FINALIZER]);
            patch_finalizers(&context, &service, finalizers.collect()).await
        }
        Step::Assign => return assign(&context, &service).await,
        Step::Release => give_up(&context, &service).await,
    };
    written.map(|()| Action::await_change()).map_err(|source| failed(&service, source))
}

fn next_step(service: &Service, now: Timestamp, delay: ReleaseDelay) -> Step {
    let spec = service.spec.as_ref();
    let wanted = spec.is_some_and(|spec| {
        let class = spec.load_balancer_class.as_deref();
        spec.type_.as_deref() == Some("LoadBalancer") && class.is_none_or(|class| class == CLASS)
    });
    let held = service.finalizers().iter().any(|name| name == FINALIZER);
    match (&service.metadata.deletion_timestamp, wanted, held) {
        (Some(deleted), _, true) => match release::remaining(deleted.0, now, delay) {
            None => Step::Rest,
            Some(Duration::ZERO) => Step::Release,
            Some(rest) => Step::Wait(rest),
        },
        (Some(_), _, false) | (None, false, false) => Step::Rest,
        (None, false, true) => Step::Release,
        (None, true, false) => Step::AddFinalizer,
        (None, true, true) => {
            let has = address_of(service);
            let asks_for = spec.and_then(|spec| spec.load_balancer_ip.as_deref()).filter(|ip| !ip.is_empty());
            if has.is_none() || asks_for.is_some_and(|ip| has != Some(ip)) { Step::Assign } else { Step::Rest }
        }
    }
}

async fn assign(context: &Context, service: &Service) -> Result<Action, LoadBalancerError> {
    let uid = service.uid().unwrap_or_default();
    let wanted = service.spec.as_ref().and_then(|spec| spec.load_balancer_ip.as_deref()).filter(|ip| !ip.is_empty());
    let assigned = context.addresses().assign(&uid, wanted);
    let address = assigned.map_err(|source| LoadBalancerError::Refused {
        what: "Service",
        namespace: service.namespace().unwrap_or_default(),
        name: service.name_any(),
        source,
    })?;
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address.to_string()}]}}});
    patch_status(context, service, status).await.map_err(|source| failed(service, source))?;
    tracing::info!(service = %service.name_any(), %address, "assigned");
    Ok(Action::await_change())
}

async fn give_up(context: &Context, service: &Service) -> Result<(), kube::Error> {
    context.addresses().release(&service.uid().unwrap_or_default());
    if service.metadata.deletion_timestamp.is_none() {
        patch_status(context, service, json!({"status": {"loadBalancer": null}})).await?;
    }
    let finalizers = service.finalizers().iter().map(String::as_str).filter(|name| *name != FINALIZER);
    patch_finalizers(context, service, finalizers.collect()).await
}

/// Refused by the API server if the Service was changed meanwhile, so that nobody else's finalizer is lost.
async fn patch_finalizers(context: &Context, service: &Service, finalizers: Vec<&str>) -> Result<(), kube::Error> {
    let metadata = json!({"resourceVersion": service.resource_version(), "finalizers": finalizers});
    let patch = Patch::Merge(json!({"metadata": metadata}));
    api(context, service).patch(&service.name_any(), &PatchParams::default(), &patch).await.map(drop)
}

async fn patch_status(context: &Context, service: &Service, status: Value) -> Result<(), kube::Error> {
    let patch = Patch::Merge(status);
    api(context, service).patch_status(&service.name_any(), &PatchParams::default(), &patch).await.map(drop)
}

fn api(context: &Context, service: &Service) -> Api<Service> {
    Api::namespaced(context.client.clone(), &service.namespace().unwrap_or_default())
}

fn failed(service: &Service, source: kube::Error) -> LoadBalancerError {
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    LoadBalancerError::Write { what: "Service", namespace, name, source }
}

fn address_of(service: &Service) -> Option<&str> {
    service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?.first()?.ip.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: ReleaseDelay = ReleaseDelay::After(Duration::ZERO);
    const LATER: ReleaseDelay = ReleaseDelay::After(Duration::from_secs(5));

    fn service(json: Value) -> Service {
        serde_json::from_value(json).unwrap()
    }

    fn at(second: &str) -> Timestamp {
        format!("2026-01-01T00:00:{second}Z").parse().unwrap()
    }

    fn step(json: Value, delay: ReleaseDelay) -> Step {
        next_step(&service(json), at("10"), delay)
    }

    #[test]
    fn the_finalizer_comes_before_the_address() {
        let spec = json!({"type": "LoadBalancer"});
        assert_eq!(step(json!({"spec": spec}), AT_ONCE), Step::AddFinalizer);
        let held = json!({"finalizers": [FINALIZER]});
        assert_eq!(step(json!({"metadata": held, "spec": spec}), AT_ONCE), Step::Assign);
        let status = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}});
        assert_eq!(step(json!({"metadata": held, "spec": spec, "status": status}), AT_ONCE), Step::Rest);
        let moved = json!({"type": "LoadBalancer", "loadBalancerIP": "203.0.113.8"});
        assert_eq!(step(json!({"metadata": held, "spec": moved, "status": status}), AT_ONCE), Step::Assign);
    }

    #[test]
    fn other_services_are_left_alone() {
        assert_eq!(step(json!({"spec": {"type": "ClusterIP"}}), AT_ONCE), Step::Rest);
        let others = json!({"type": "LoadBalancer", "loadBalancerClass": "example.org/own"});
        assert_eq!(step(json!({"spec": others}), AT_ONCE), Step::Rest);
        let ours = json!({"type": "LoadBalancer", "loadBalancerClass": CLASS});
        assert_eq!(step(json!({"spec": ours}), AT_ONCE), Step::AddFinalizer);
    }

    #[test]
    fn a_service_that_is_no_load_balancer_any_more_is_released() {
        let held = json!({"metadata": {"finalizers": [FINALIZER]}, "spec": {"type": "ClusterIP"}});
        assert_eq!(step(held, LATER), Step::Release);
    }

    #[test]
    fn a_deleted_service_lingers_for_the_delay() {
        let deleted = |time: &str| {
            json!({
                "metadata": {"finalizers": [FINALIZER], "deletionTimestamp": format!("2026-01-01T00:00:{time}Z")},
                "spec": {"type": "LoadBalancer"},
            })
        };
        assert_eq!(step(deleted("10"), AT_ONCE), Step::Release);
        assert_eq!(step(deleted("08"), LATER), Step::Wait(Duration::from_secs(4)));
        assert_eq!(step(deleted("04"), LATER), Step::Release);
        assert_eq!(step(deleted("00"), ReleaseDelay::Never), Step::Rest);
    }
}
