//! The manifests of `deploy/` can be applied by either command of kubectl, whichever came before.

use std::path::Path;

use serde_json::{Value, json};

use crate::common::World;

/// What `kubectl kustomize` makes of a directory of `deploy/`, moved to the namespace of a test, where no pod shall start.
async fn namespaced(world: &World, directory: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(directory);
    let text = world.kubectl(&["kustomize", path.to_str().unwrap()]).await;
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    objects.retain(|object| object["metadata"]["namespace"].is_string());
    for object in &mut objects {
        object["metadata"]["namespace"] = json!(world.namespace);
        if object["kind"] == "Deployment" {
            object["spec"]["replicas"] = json!(0);
        }
    }
    assert!(!objects.is_empty());
    json!({"apiVersion": "v1", "kind": "List", "items": objects})
}

#[tokio::test]
async fn either_way_of_applying_the_manifests_may_follow_the_other() {
    for (name, ways) in [("applied-first", [false, true, false]), ("applied-server-side", [true, false, true])] {
        let world = World::new(name).await;
        for directory in ["default", "runner"] {
            let objects = namespaced(&world, directory).await.to_string();
            for server_side in ways {
                let arguments = ["apply", "--filename=-", &format!("--server-side={server_side}")];
                let applied = world.cluster.kubectl_with_input(&arguments, &objects).await;
                assert!(applied.is_ok(), "{directory} {ways:?}: {applied:?}");
            }
        }
        world.finish().await;
    }
}
