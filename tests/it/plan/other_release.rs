//! Two releases in one namespace, of which the other one keeps its records in `ConfigMaps`: both charts give their objects the
//! same names, and neither may get those of the other.

use crate::common::World;
use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::api::FailureClass;
use serde_json::{Value, json};
use testbed::charts::charts_dir;

const OBJECTS: &str = "deployments,services,serviceaccounts,roles,rolebindings,configmaps";

/// helm as the administrator of the other release runs it.
async fn install_other(world: &World) {
    let values = charts_dir().join("coder-v2-values.yaml");
    let mut helm = world.cluster.helm_command();
    helm.args(["install", "dev", "coder", "--repo", &world.repositories().v2, "--version", "2.30.0", "--wait"]);
    helm.args(["--values", values.to_str().unwrap(), "--namespace", &world.namespace, "--timeout", "3m"]);
    let done = helm.env("HELM_DRIVER", "configmap").output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// What identifies every object, and to whom it belongs.
async fn everything(world: &World) -> String {
    let columns = "custom-columns=KIND:.kind,NAME:.metadata.name,UID:.metadata.uid,GENERATION:.metadata.generation,\
                   MARKS:.metadata.annotations";
    world.kubectl(&["get", OBJECTS, "--no-headers", "-o", columns]).await
}

#[tokio::test]
async fn objects_of_a_release_with_records_in_config_maps_are_not_adopted_by_another() {
    let steps = Steps::empty("other-release", HelmMajor::Four, |r| &r.v2).await;
    let world = &steps.world;
    world.database().await;
    install_other(world).await;
    let before = everything(world).await;
    let text = std::fs::read_to_string(charts_dir().join("coder-v2-values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let spec = json!({"version": "2.31.7", "values": values});
    for more in [
        json!({}),
        json!({"adopt": true}),
        json!({"overrides": ["ReleaseRecords"]}),
        json!({"adopt": true, "overrides": ["ReleaseRecords"], "recovery": "Reinstall"}),
    ] {
        let mut spec = spec.clone();
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let problem = steps.refused(spec).await;
        assert_eq!(problem.class, FailureClass::OwnedByOther, "{more}: {problem:?}");
        assert!(problem.message.contains("release dev"), "{more}: {}", problem.message);
        assert_eq!(everything(world).await, before, "{more}");
    }
    steps.world.finish().await;
}
