//! A preview at a terminal.

use std::fmt::Write;

use super::Preview;
use super::sections::{facts, sections};

/// The whole of it.
pub fn render(preview: &Preview) -> String {
    let Preview { upgrade, namespace, release, summary, .. } = preview;
    let mut text = format!("CoderUpgrade {upgrade} in namespace {namespace}, Helm release {release}\n{summary}\n");
    let facts = facts(preview);
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    if !facts.is_empty() {
        text.push('\n');
    }
    for (name, fact) in facts {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  {name:width$}  {fact}");
    }
    for section in sections(preview) {
        let _ = write!(text, "\n{}\n", section.title);
        for line in section.lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}
