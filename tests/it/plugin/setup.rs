//! `setup` gives the runner what it needs, and says so.

use crate::common::{World, terminal::Terminal};
use serde_json::json;

#[tokio::test]
async fn the_runner_works_with_what_setup_grants() {
    let world = World::with_v2("plugin-setup", "2.30.0", &[]).await;
    let terminal = Terminal::of(&world).await;
    let account = "coder-upgrade-runner";
    for kind in ["rolebinding", "role", "serviceaccount"] {
        world.kubectl(&["delete", kind, account]).await;
    }
    let cluster_wide = format!("{account}:{}", world.namespace);
    world.cluster.kubectl(&["delete", "clusterrolebinding", &cluster_wide]).await.unwrap();
    for _again in 0..2 {
        let shown = terminal.run(&["setup", "-n", &world.namespace], "").await;
        assert_eq!((shown.code, shown.err.as_str()), (0, ""));
        for words in [
            format!("Role/{account} in namespace {} applied\n", world.namespace),
            format!("ClusterRoleBinding/{cluster_wide} applied\n"),
            format!("Granted to ServiceAccount/{account} in namespace {}:\n  - ", world.namespace),
            "In the whole cluster:\n  - ".to_owned(),
        ] {
            assert!(shown.out.contains(&words), "{words}");
        }
    }
    world.declare("coder", json!({"version": "2.31.7", "chart": {"repository": world.repositories().v2}})).await;
    world.ready("coder").await;
    let nowhere = terminal.run(&["setup", "-n", "no-such-namespace"], "").await;
    assert!(nowhere.code == 1 && nowhere.err.contains("namespaces \"no-such-namespace\" not found"), "{}", nowhere.err);
    world.finish().await;
}
