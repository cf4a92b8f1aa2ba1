//! The addresses of a release after a change. A load balancer may hand out a new one late.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service};
use k8s_openapi::api::networking::v1::{Ingress, IngressLoadBalancerStatus};
use tokio::time::timeout;

use super::inventory;
use super::watch::until;
use crate::api::Exposure;
use crate::core::helm::documents::Documents;
use crate::core::object::KindName;
use crate::core::rollout::addresses;
use crate::runner::context::Context;
use crate::runner::error::Error;

/// The `LoadBalancer` Services and the Ingresses of a manifest. If one takes the place of an object that had an address, its
/// own is waited for, as long as `patience` lasts: without one nobody could say where DNS must point.
pub async fn settled(
    ctx: &Context,
    before: &[Exposure],
    manifest: &Documents,
    patience: Duration,
) -> Result<Vec<Exposure>, Error> {
    let found = inventory::exposures(ctx, manifest).await?;
    let awaited = addresses::awaited(before, &found);
    if awaited.is_empty() {
        return Ok(found);
    }
    let names: Vec<String> = awaited.iter().map(|exposure| kind_name(exposure).to_string()).collect();
    ctx.reporter.progress(&format!("waiting for the address of {}", names.join(", ")));
    let all = join_all(awaited.iter().map(|exposure| arrived(ctx, exposure)));
    if timeout(patience, all).await.is_err() {
        tracing::warn!("{} got no address within {} s", names.join(", "), patience.as_secs());
    }
    inventory::exposures(ctx, manifest).await
}

fn kind_name(exposure: &Exposure) -> KindName {
    KindName::new(&exposure.kind, &exposure.name)
}

/// Watches until the object has an address, or is gone.
async fn arrived(ctx: &Context, exposure: &Exposure) {
    let object = kind_name(exposure);
    let ended = match exposure.kind.as_str() {
        "Service" => {
            until(ctx.api(), &object, |service: Option<&Service>| {
                service.is_none_or(|service| {
                    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
                    status.is_some_and(|LoadBalancerStatus { ingress }| {
                        ingress.as_ref().is_some_and(|all| !all.is_empty())
                    })
                })
            })
            .await
        }
        _ => {
            until(ctx.api(), &object, |ingress: Option<&Ingress>| {
                ingress.is_none_or(|ingress| {
                    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
                    status.is_some_and(|IngressLoadBalancerStatus { ingress }| {
                        ingress.as_ref().is_some_and(|all| !all.is_empty())
                    })
                })
            })
            .await
        }
    };
    if let Err(error) = ended {
        tracing::warn!("{error}");
    }
}
