//! The failures of Coder's guide, as its readers leave them behind: a release that `--force` has left failed.
//!
//! The guide's first sample is a Service whose empty `clusterIP` is refused under `--force`. API servers of today fill the address
//! in, so that the words of the sample (a unit test has them) come with another object: the `StatefulSet` of the database.

use crate::common::World;
use testbed::charts::charts_dir;

#[tokio::test]
async fn what_force_has_left_failed_is_upgraded_without_force() {
    let world = World::with_v1("forced", "1.16.1").await;
    let claims = world.claims().await;
    let values = charts_dir().join("coder-v1-values.yaml");
    let guide = ["upgrade", "coder", "coder", "--force", "--install", "--namespace", &world.namespace];
    let chart = ["--repo", &world.repositories().v1, "--version", "1.16.2", "--values", values.to_str().unwrap()];
    let larger = ["--set", "timescale.resources.requests.storage=128Mi"];
    let refused = world.cluster.helm3(&[&guide[..], &chart[..], &larger[..]].concat()).await.unwrap_err();
    assert!(refused.to_string().contains("failed to replace object: "), "{refused}");
    assert_eq!(world.release().await, (2, "failed".into()));

    world
        .declare("coder", serde_json::json!({"version": "1.16.2", "chart": {"repository": world.repositories().v1}}))
        .await;
    let status = world.ready("coder").await.status.unwrap();
    assert_eq!(status.current.unwrap().version, "1.16.2");
    assert!(status.repairs.is_empty(), "the values are those of the deployed revision: {:?}", status.repairs);
    assert_eq!(world.claims().await, claims);
    assert_eq!(world.release().await, (3, "deployed".into()));
    world.finish().await;
}
