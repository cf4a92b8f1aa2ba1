//! Flux' own controllers with the Kustomization of `deploy/gitops/flux.yaml`, from a commit to its end.

use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

use super::controllers::Flux;
use super::story::{condition, holds, is_verified};
use crate::common::{World, prometheus::file};

#[tokio::test]
async fn a_kustomization_is_ready_only_with_the_committed_version_and_fails_with_the_upgrade() {
    let Some(programs) = Flux::programs().await else { return };
    let world = World::with_v2("gitops-flux", "2.31.6", &[]).await;
    let flux = Flux::start(&world, programs).await;
    let documents = file("deploy/gitops/flux.yaml").replace("flux-system", &world.namespace);
    world
        .cluster
        .kubectl_with_input(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"], &documents)
        .await
        .unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&documents).unwrap();
    let [git, mut kustomization] = documents.try_into().unwrap();
    let name = &git["metadata"]["name"];
    world.apply(&json!({"apiVersion": git["apiVersion"], "kind": "OCIRepository", "metadata": {"name": name}, "spec": flux.source()})).await;
    // Nothing here serves Git.
    kustomization["spec"]["sourceRef"]["kind"] = "OCIRepository".into();

    let commit = flux.commit(&[upgrade(&world, "2.31.7")]).await;
    world.apply(&kustomization).await;
    succeeds(&world, &flux, &commit, "2.31.7").await;
    assert_eq!(world.release().await, (2, "deployed".into()));

    let commit = flux.commit(&[upgrade(&world, "2.30.0")]).await;
    let failed = end(&world, &flux, &commit).await;
    assert!(has_failed(&failed), "{failed:#}");
    let message = format!("CoderUpgrade/{}/coder status: 'Failed'", world.namespace);
    assert!(failed.to_string().contains(&message), "{failed:#}");
    assert_eq!(world.release().await, (2, "deployed".into()), "a version that Coder has no way back to");

    let commit = flux.commit(&[upgrade(&world, "2.31.7")]).await;
    succeeds(&world, &flux, &commit, "2.31.7").await;

    let other =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other", "namespace": world.namespace}});
    flux.commit(&[("coder/other.yaml", other.to_string())]).await;
    world.gone("coder").await;
    assert_eq!(world.release().await, (2, "deployed".into()), "what is pruned is the CoderUpgrade alone");
    world.finish().await;
}

/// What is committed.
fn upgrade(world: &World, version: &str) -> (&'static str, String) {
    let spec = json!({
        "version": version,
        "chart": {"repository": world.repositories().v2},
        "verify": {"soak": "1s", "timeout": "60s"},
    });
    let metadata = json!({"name": "coder", "namespace": world.namespace});
    let object =
        json!({"apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": metadata, "spec": spec});
    ("coder/coder.yaml", object.to_string())
}

/// Waits until the Kustomization is ready with that commit; its version was verified before.
async fn succeeds(world: &World, flux: &Flux, commit: &str, version: &str) {
    let ended = end(world, flux, commit).await;
    let upgrade = serde_json::to_value(world.get("coder").await).unwrap();
    assert!(holds(&ended, "Ready"), "{ended:#}\n{upgrade:#}\n{}", flux.logs());
    assert_eq!(upgrade["spec"]["version"], version);
    assert!(is_verified(&upgrade), "ready before the version is verified: {upgrade:#}");
}

/// The Kustomization as soon as it is ready or has failed with that commit.
async fn end(world: &World, flux: &Flux, commit: &str) -> Value {
    let kind = GroupVersionKind::gvk("kustomize.toolkit.fluxcd.io", "v1", "Kustomization");
    let kind = ApiResource::from_gvk(&kind);
    let api = Api::<DynamicObject>::namespaced_with(world.client.clone(), &world.namespace, &kind);
    let ended = || async {
        let object = serde_json::to_value(api.get("coder").await.unwrap()).unwrap();
        let attempted = object["status"]["lastAttemptedRevision"].as_str().is_some_and(|it| it.ends_with(commit));
        (attempted && (holds(&object, "Ready") || has_failed(&object))).then_some(object)
    };
    world.eventually(&format!("end of the Kustomization\n{}", flux.logs()), ended).await
}

/// Whether it has failed because what it applied has.
fn has_failed(kustomization: &Value) -> bool {
    let ready = condition(kustomization, "Ready");
    ready.is_some_and(|ready| ready["status"] == "False" && ready["reason"] == "HealthCheckFailed")
}
