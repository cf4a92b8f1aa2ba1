//! An image of the runner that no registry has.

use coder_upgrade_operator::api::CoderUpgrade;
use serde_json::json;
use testbed::supervisor::state::NodeKind;

use crate::common::World;
use crate::common::node::left_out_on;

/// The domain is reserved: nobody has it.
const MISSING: &str = "registry.invalid/coder-upgrade-operator:v0.1.0";

#[tokio::test]
async fn an_image_that_does_not_exist_is_told_at_once_and_the_corrected_one_is_used() {
    if left_out_on(NodeKind::Process, "it knows the images by their names alone").await {
        return;
    }
    let world = World::with_v2("no-image", "2.30.0", &[]).await;
    let mut spec =
        json!({"version": "2.31.7", "chart": {"repository": world.repositories().v2}, "job": {"image": MISSING}});
    world.declare("coder", spec.clone()).await;
    let told = |object: &CoderUpgrade| {
        let message = object.status.as_ref().map(|status| status.message.as_str()).unwrap_or_default();
        message.contains("cannot be pulled") && message.contains(MISSING)
    };
    world.until("coder", "one that names the image", told).await;
    spec["job"] = json!({});
    world.declare("coder", spec).await;
    world.ready("coder").await;
    assert_eq!(world.release().await, (2, "deployed".into()));
    world.finish().await;
}
