//! `kubectl wait --for=condition=Ready` after a commit of another version: what was verified before does not count.

use crate::common::World;

const READY: [&str; 3] = ["wait", "--for=condition=Ready", "coderupgrade/coder"];

#[tokio::test]
async fn kubectl_wait_does_not_return_for_the_version_before() {
    let world = World::with_v2("gitops-wait", "2.31.6", &[]).await;
    world.upgrade_to("2.31.6").await;
    world.ready("coder").await;
    let wait = async |timeout: &str| {
        let namespace = ["--namespace", &world.namespace, timeout];
        world.cluster.kubectl(&[&READY[..], &namespace[..]].concat()).await
    };
    wait("--timeout=1s").await.expect("it is ready");

    // Nobody looks at the new spec: the old conditions stand there as they were.
    let stopped = world.without_controller().await;
    let patch = r#"{"spec": {"version": "2.31.7"}}"#;
    world.kubectl(&["patch", "coderupgrade", "coder", "--type=merge", "--patch", patch]).await;
    let early = wait("--timeout=3s").await.expect_err("the verification of 2.31.6 counts for 2.31.7").to_string();
    assert!(early.contains("timed out waiting for the condition"), "{early}");
    let (waited, ()) = tokio::join!(wait("--timeout=170s"), world.with_controller(stopped));
    waited.expect("it becomes ready");
    let status = world.get("coder").await.status.unwrap();
    assert_eq!(status.current.unwrap().version, "2.31.7");
    assert_eq!(world.release().await, (2, "deployed".into()));
    world.finish().await;
}
