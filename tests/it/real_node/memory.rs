//! The kernel kills helm alone when the memory of its container runs out; the runner lives on and says so.

use coder_upgrade_operator::api::{CoderUpgrade, FailureClass};
use serde_json::json;
use testbed::supervisor::state::NodeKind;

use crate::common::World;
use crate::common::node::left_out_on;

/// Enough for the runner, not for helm.
const SCARCE: &str = "26Mi";

#[tokio::test]
async fn helm_without_memory_names_the_resources_of_the_job_and_goes_on_once_they_are_raised() {
    if left_out_on(NodeKind::Process, "its containers have no limits").await {
        return;
    }
    let world = World::with_v2("memory", "2.30.0", &[]).await;
    let spec = |memory: &str| {
        json!({
            "version": "2.31.7", "chart": {"repository": world.repositories().v2},
            "job": {"resources": {"requests": {"memory": "16Mi"}, "limits": {"memory": memory}}},
        })
    };
    world.declare("coder", spec(SCARCE)).await;
    let told = |object: &CoderUpgrade| {
        let failure = object.status.as_ref().and_then(|status| status.failure.as_ref());
        failure.is_some_and(|failure| {
            (failure.class, failure.field.as_deref()) == (FailureClass::OutOfMemory, Some("spec.job.resources"))
        })
    };
    world.until("coder", "one that lacks memory", told).await;
    assert_eq!(world.release().await, (1, "deployed".into()), "nothing was changed");
    world.declare("coder", spec("256Mi")).await;
    world.ready("coder").await;
    assert_eq!(world.release().await, (2, "deployed".into()));
    world.finish().await;
}
