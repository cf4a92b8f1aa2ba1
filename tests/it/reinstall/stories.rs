//! P1, P2: the guide's way, with a person's approval: uninstall, wait for slow-to-delete objects, install. The data, and unless it
//! is not wanted the address, are the same afterwards.

use std::collections::BTreeMap;

use crate::common::{World, is, reason};
use coder_upgrade_operator::api::{CoderUpgrade, Exposure, Phase, Remedy, StepName, WaitingFor};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::ResourceExt;
use serde_json::{Value, json};
use testbed::charts::charts_dir;

const SERVICE: &str = "ingress-nginx";
const INGRESS: &str = "web-ingress";
/// Annotation of the test bed: how slowly an address is released.
const RELEASE_DELAY: &str = "testbed.coderupgrade.dev/release-delay";

/// The helm that installed Coder and that the operator runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Helm {
    Three,
    Four,
}

/// What must be the same in the end.
struct Before {
    claims: Vec<(String, String, String)>,
    deployment_id: String,
    key: Secret,
    service: Service,
}

/// A satellite of Coder Classic, whose failed upgrade waits for a person.
async fn refused(name: &str, helm: Helm, keep_addresses: bool, slow: &[(&str, &str)]) -> (World, Before) {
    let world = World::new(name).await;
    install(&world, helm).await;
    for (object, delay) in slow {
        world.kubectl(&["annotate", object, &format!("{RELEASE_DELAY}={delay}")]).await;
    }
    let before = Before {
        claims: world.claims().await,
        deployment_id: world.deployment_id().await,
        key: key(&world).await,
        service: world.api().get(SERVICE).await.unwrap(),
    };
    // A larger volume: no StatefulSet accepts that.
    let mut spec = json!({
        "version": "1.16.2", "chart": {"repository": world.repositories().v1}, "recovery": "Stop",
        "keepAddresses": keep_addresses,
        "values": {"timescale": {"resources": {"requests": {"storage": "128Mi"}}}},
    });
    if helm == Helm::Three {
        spec["job"] = json!({"image": "coder-upgrade-operator:v0.1.0-helm3"});
    }
    world.declare("coder", spec).await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;
    let status = object.status.clone().unwrap();
    let approval = status.approval.unwrap();
    let plan = status.plan.unwrap();
    let repairs: Vec<_> = plan.forecast.repairs.iter().map(|repair| (repair.remedy, repair.object.as_str())).collect();
    assert_eq!(repairs, [(Remedy::Replace, "StatefulSet/timescale")], "the smallest remedy is offered");
    let plan = plan.id;
    assert_eq!(approval.value, format!("{plan}/repair"));
    assert!(approval.action.contains(&format!("{plan}/reinstall")), "{approval:?}");
    assert!(status.message.contains(&approval.value), "{}", status.message);
    assert_eq!(world.release().await, (1, "deployed".into()), "helm was not run");
    assert!(!status.steps.iter().any(|step| step.name == StepName::Uninstall));
    (world, before)
}

async fn install(world: &World, helm: Helm) {
    let values = charts_dir().join("coder-v1-values.yaml");
    let mut arguments = vec!["install", "coder", "coder", "--repo", &world.repositories().v1, "--version", "1.16.1"];
    arguments.extend(["--values", values.to_str().unwrap(), "--set", "satellite.enable=true"]);
    arguments.extend(["--wait", "--timeout", "3m", "--namespace", &world.namespace]);
    match helm {
        Helm::Three => world.cluster.helm3(&arguments).await.unwrap(),
        Helm::Four => world.cluster.helm(&arguments).await.unwrap(),
    };
}

/// Waits until Coder is verified, and sees that the data is the same.
async fn reinstalled(world: &World, before: &Before) -> CoderUpgrade {
    let object = world.ready("coder").await;
    let status = object.status.as_ref().unwrap();
    let steps: Vec<_> = status.steps.iter().map(|step| step.name).collect();
    for step in [StepName::Uninstall, StepName::Drain, StepName::Install] {
        assert_eq!(steps.iter().filter(|done| **done == step).count(), 1, "{steps:?}");
    }
    assert_eq!(reason(&object, "DataKept").unwrap().0, "True");
    assert!(!status.recovery_required && status.waiting_for.is_empty() && status.approval.is_none(), "{status:?}");
    assert_eq!(status.current.as_ref().unwrap().version, "1.16.2");
    assert_eq!(world.release().await.1, "deployed");
    assert_eq!(world.claims().await, before.claims, "the same claims on the same volumes");
    assert_eq!(world.deployment_id().await, before.deployment_id, "the same data");
    let note = status.persistent_volume_claims[0].note.as_deref().unwrap_or_default();
    assert!(note.contains("128Mi"), "the volume keeps its size, and that is said: {note:?}");
    let after = key(world).await;
    assert_eq!((after.uid(), after.data), (before.key.uid(), before.key.data.clone()), "the satellite's key");
    object
}

async fn key(world: &World) -> Secret {
    world.api().get("coder-replica-private-key").await.unwrap()
}

fn addresses(exposures: &[Exposure]) -> BTreeMap<String, Vec<String>> {
    let outside = exposures.iter().filter(|exposure| !exposure.addresses.is_empty());
    outside.map(|exposure| (exposure.name.clone(), exposure.addresses.clone())).collect()
}

async fn with_the_address_kept(name: &str, helm: Helm) {
    let (world, before) = Box::pin(refused(name, helm, true, &[])).await;
    let known = addresses(&world.get("coder").await.status.unwrap().addresses);
    assert_eq!(known.len(), 2, "{known:?}");
    world.approve("reinstall").await;
    let object = reinstalled(&world, &before).await;
    let status = object.status.clone().unwrap();
    let service: Service = world.api().get(SERVICE).await.unwrap();
    assert_eq!(service.uid(), before.service.uid(), "the same Service");
    let addressed = |service: &Service| {
        let spec = service.spec.clone().unwrap();
        let ports: Vec<_> = spec.ports.unwrap().iter().map(|port| port.node_port).collect();
        (spec.cluster_ip, ports, service.status.clone().unwrap().load_balancer)
    };
    assert_eq!(addressed(&service), addressed(&before.service));
    assert_eq!(addresses(&status.addresses), known);
    assert!(status.address_changes.is_empty(), "{:?}", status.address_changes);
    assert!(is(&object, "AddressChanged", "False"));
    world.finish().await;
}

async fn with_another_address(name: &str, helm: Helm) {
    let slow = [("service/ingress-nginx", "12s"), ("ingress/web-ingress", "7s")];
    let (world, before) = Box::pin(refused(name, helm, false, &slow)).await;
    let known = addresses(&world.get("coder").await.status.unwrap().addresses);
    world.approve("reinstall").await;
    let finalizer = "service.kubernetes.io/load-balancer-cleanup";
    world
        .until("coder", "waiting for the Service, by name", |object| {
            let status = object.status.as_ref().unwrap();
            let named = |waiting: &WaitingFor| waiting.name == SERVICE && waiting.finalizers == [finalizer];
            let told = status.message.contains(SERVICE) && status.message.contains(finalizer);
            status.phase == Phase::Draining && status.waiting_for.iter().any(named) && told
        })
        .await;
    let object = reinstalled(&world, &before).await;
    let status = object.status.clone().unwrap();
    let service: Service = world.api().get(SERVICE).await.unwrap();
    assert_ne!(service.uid(), before.service.uid());
    let now = addresses(&status.addresses);
    let changes: BTreeMap<_, _> = status.address_changes.iter().map(|change| (change.name.clone(), change)).collect();
    for name in [SERVICE, INGRESS] {
        let change = changes[name];
        assert!(change.before.starts_with(&known[name]) && change.after.starts_with(&now[name]), "{change:?}");
        assert_ne!(known[name], now[name]);
        assert!(change.hosts.contains(&"coder.example.com".to_owned()), "{change:?}");
        assert!(change.hosts.contains(&"*.dev.example.com".to_owned()), "{change:?}");
    }
    assert!(is(&object, "AddressChanged", "True"));
    let events = world.kubectl(&["get", "events", "-o", "json"]).await;
    let events: Value = serde_json::from_str(&events).unwrap();
    let told = events["items"].as_array().unwrap().iter().any(|event| {
        event["reason"] == "AddressChanged" && event["message"].as_str().unwrap().contains("coder.example.com")
    });
    assert!(told, "an event names the hosts");
    world.finish().await;
}

#[tokio::test]
async fn the_address_is_kept() {
    Box::pin(with_the_address_kept("address-kept", Helm::Four)).await;
}

#[tokio::test]
async fn the_address_is_kept_with_helm_3() {
    Box::pin(with_the_address_kept("address-kept-3", Helm::Three)).await;
}

#[tokio::test]
async fn slow_objects_are_waited_for_and_changed_addresses_reported() {
    Box::pin(with_another_address("address-changed", Helm::Four)).await;
}

#[tokio::test]
async fn slow_objects_are_waited_for_and_changed_addresses_reported_with_helm_3() {
    Box::pin(with_another_address("address-changed-3", Helm::Three)).await;
}

#[tokio::test]
async fn a_finalizer_that_never_goes_is_explained_and_never_removed() {
    let (world, before) = Box::pin(refused("never", Helm::Four, false, &[("service/ingress-nginx", "never")])).await;
    world.approve("reinstall").await;
    let object = world
        .until("coder", "explaining the finalizer", |object| {
            let status = object.status.as_ref().unwrap();
            status.waiting_for.iter().any(|waiting| waiting.name == SERVICE && waiting.explanation.is_some())
        })
        .await;
    let status = object.status.unwrap();
    assert_eq!(status.phase, Phase::Draining);
    assert_eq!(status.waiting_for.len(), 1, "only what is stuck: {:?}", status.waiting_for);
    let explanation = status.waiting_for[0].explanation.clone().unwrap();
    assert!(explanation.contains("load-balancer-cleanup") && explanation.contains("controller"), "{explanation}");
    let service: Service = world.api().get(SERVICE).await.unwrap();
    assert_eq!(service.uid(), before.service.uid(), "it is still there");
    assert_eq!(service.finalizers(), ["service.kubernetes.io/load-balancer-cleanup"]);

    // A person removes it; the install begins at once.
    let patch = r#"{"metadata": {"finalizers": null}}"#;
    world.kubectl(&["patch", "service", SERVICE, "--type=merge", "--patch", patch]).await;
    reinstalled(&world, &before).await;
    world.finish().await;
}
