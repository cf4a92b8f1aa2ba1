//! What docs/plugin.md shows is what the commands print, but for names, times and addresses of the moment.

use crate::common::{World, terminal::Terminal};
use coder_upgrade_operator::api::Phase;
use regex::Regex;
use serde_json::json;

/// What differs from run to run, and what stands for it.
const VARIABLE: [(&str, &str); 10] = [
    (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "DATE"),
    (r"-[0-9a-f]{8,10}-[a-z0-9]{5}\b", "-POD"),
    (r"\b[0-9a-f]{12}\b", "ID"),
    (r"\b(\d+h)?(\d+m)?\d+s\b", "TIME"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"203\.0\.113\.\d+", "ADDRESS"),
    (r"cluster IP [0-9.]+", "cluster IP ADDRESS"),
    (r"node port \d+", "node port PORT"),
    (r"v1\.\d+\.\d+", "KUBERNETES"),
    (r" +", " "),
];

/// The commands of the document, each with what it prints there.
fn blocks() -> Vec<(String, String)> {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/plugin.md")).unwrap();
    let mut blocks = Vec::new();
    for part in document.split("<!-- run -->\n```console\n$ kubectl ").skip(1) {
        let (command, rest) = part.split_once('\n').unwrap();
        let (output, _) = rest.split_once("```").unwrap();
        blocks.push((command.to_owned(), output.to_owned()));
    }
    blocks
}

fn comparable(text: &str) -> String {
    VARIABLE.iter().fold(text.to_owned(), |text, (pattern, word)| {
        Regex::new(pattern).unwrap().replace_all(&text, *word).into_owned()
    })
}

#[tokio::test]
async fn the_document_shows_what_the_commands_print() {
    let world = World::with_v2("plugin-shown", "2.30.0", &[]).await;
    let terminal = Terminal::of(&world).await;
    let chart = json!({"repository": world.repositories().v2});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "approval": "Manual"})).await;
    world.phase("coder", Phase::AwaitingApproval).await;
    let blocks = blocks();
    assert!(!blocks.is_empty(), "the document has commands");
    for (command, documented) in blocks {
        let command = command.replace(" -n coder", &format!(" -n {}", world.namespace));
        let words: Vec<&str> = command.split(' ').collect();
        let shown = terminal.kubectl(&words, "y\n").await;
        let printed = shown.out.replace(&world.namespace, "coder");
        assert_eq!(comparable(&printed), comparable(&documented), "kubectl {command} prints\n{printed}");
    }
    world.finish().await;
}
