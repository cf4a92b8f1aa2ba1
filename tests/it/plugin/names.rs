//! The program under the names that kubectl knows it by.

use crate::common::{World, observed, terminal::Terminal};
use serde_json::json;

#[tokio::test]
async fn kubectl_finds_the_plugin_and_completes_it() {
    let world = World::new("plugin-names").await;
    let terminal = Terminal::of(&world).await;
    world.declare("coder", json!({"version": "2.31.7", "suspend": true})).await;
    world.until("coder", "observed", observed).await;
    let run = async |words: &[&str]| {
        let shown = terminal.kubectl(words, "").await;
        (shown.code, shown.out)
    };
    let (code, shown) = run(&["coder-upgrade", "status", "-n", &world.namespace]).await;
    assert!(
        code == 3 && shown.contains(&format!("  kubectl coder-upgrade resume coder -n {}\n", world.namespace)),
        "{shown}"
    );
    let (_, help) = run(&["coder-upgrade", "--help"]).await;
    assert!(help.contains("Usage: kubectl coder-upgrade <COMMAND>") && !help.contains("\n  runner "), "{help}");
    let (_, commands) = run(&["__complete", "coder-upgrade", "su"]).await;
    assert!(commands.starts_with("suspend\n"), "{commands}");
    let (_, names) = run(&["__complete", "coder-upgrade", "status", "-n", &world.namespace, ""]).await;
    assert!(names.starts_with("coder\n"), "{names}");
    world.finish().await;
}

#[tokio::test]
async fn shells_get_a_script() {
    let world = World::new("plugin-shells").await;
    let terminal = Terminal::of(&world).await;
    for (shell, words) in [("bash", "complete -F"), ("zsh", "#compdef"), ("fish", "complete -c")] {
        let script = terminal.run(&["completion", shell], "").await;
        assert!(script.code == 0 && script.out.contains(words) && script.out.contains("approve"), "{shell}");
    }
    world.finish().await;
}
