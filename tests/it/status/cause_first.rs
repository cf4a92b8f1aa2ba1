//! P7: the column MESSAGE of `kubectl get coderupgrades` names what went wrong, and not what helm saw of it.

use crate::common::World;
use rstest::rstest;
use serde_json::json;

#[rstest]
#[case::the_saved_release_is_restored("cause-back", "Repair", "Coder 2.30.0 was restored and runs")]
#[case::everything_stays("cause-stays", "Stop", "RolloutTimedOut: Pod/coder-")]
#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_told_in_the_first_line(
    #[case] name: &str,
    #[case] recovery: &str,
    #[case] beginning: &str,
) {
    let world = World::with_v2(name, "2.30.0", &[]).await;
    let spec = json!({
        "version": "2.31.7", "chart": {"repository": world.repositories().v2}, "recovery": recovery, "helm": {"timeout": "15s"},
        "values": {"coder": {"podAnnotations": {"testbed.coderupgrade.dev/pull-error": "manifest unknown"}}},
    });
    world.declare("coder", spec).await;
    let status = world.stalled("coder").await.status.unwrap();
    assert!(status.message.starts_with(beginning), "{}", status.message);
    let columns = world.kubectl(&["get", "coderupgrade", "coder"]).await;
    for words in ["Pod/coder-", "image of container coder cannot be pulled"] {
        assert!(columns.contains(words), "{words}: {columns}");
    }
    let failure = status.failure.unwrap();
    let first = failure.message.lines().next().unwrap();
    assert!(first.contains("cannot be pulled") && !first.contains("InProgress"), "{}", failure.message);
    assert!(failure.object.is_some_and(|object| object.starts_with("Pod/") || object == "Deployment/coder"));
    world.finish().await;
}
