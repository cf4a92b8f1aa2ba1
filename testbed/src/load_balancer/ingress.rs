//! Ingresses. They get an address as if an ingress controller served all classes, and go without ceremony.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{Context, LoadBalancerError};

pub(super) async fn reconcile(ingress: Arc<Ingress>, context: Arc<Context>) -> Result<Action, LoadBalancerError> {
    if ingress.metadata.deletion_timestamp.is_some() || has_address(&ingress) {
        return Ok(Action::await_change());
    }
    let (namespace, name) = (ingress.namespace().unwrap_or_default(), ingress.name_any());
    let assigned = context.addresses().assign(&ingress.uid().unwrap_or_default(), None);
    let address = match assigned {
        Ok(address) => address,
        Err(source) => return Err(LoadBalancerError::Refused { what: "Ingress", namespace, name, source }),
    };
    let ingresses = Api::<Ingress>::namespaced(context.client.clone(), &namespace);
    let status = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": [{"ip": address.to_string()}]}}}));
    match ingresses.patch_status(&name, &PatchParams::default(), &status).await {
        Ok(_) => {
            tracing::info!(ingress = name, %address, "assigned");
            Ok(Action::await_change())
        }
        Err(source) => Err(LoadBalancerError::Write { what: "Ingress", namespace, name, source }),
    }
}

fn has_address(ingress: &Ingress) -> bool {
    let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    balancer.and_then(|balancer| balancer.ingress.as_ref()).is_some_and(|ingress| !ingress.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_given_once() {
        let ingress = |status| serde_json::from_value(json!({"status": status})).unwrap();
        assert!(!has_address(&ingress(json!({"loadBalancer": {}}))));
        assert!(has_address(&ingress(json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}))));
    }
}
